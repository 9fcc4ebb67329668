"""Batches of coded and clean patches."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecar.errors import DataError
from edgecar.train.clips import ClipPairs, Report, clips_held_out
from edgecar.train.degrade import (
    Bgr,
    Degradation,
    HeldOut,
    JpegPairs,
    JpegRange,
    Pair,
    PairSource,
    jpegs_held_out,
)
from edgecar.train.folders import Original

BLOCK_PX = 8  # coders and frames share their top left corner, so patches start where blocks do
HELD_OUT_PHOTOS = 24


@dataclass(frozen=True)
class Batch:
    """Patches of several pictures.

    Attributes:
        coded: ``(N, 1, H, W)`` uint8.
        clean: Clean patches of the same shape.
        picture_mse: ``(N,)`` mean squared error of the coded picture each patch is from, of 1.0.
        quantiser: ``(N,)`` quantiser of that picture, 0 to 1.
    """

    coded: NDArray[np.uint8]
    clean: NDArray[np.uint8]
    picture_mse: NDArray[np.float32]
    quantiser: NDArray[np.float32]


def source_of(
    degradation: Degradation,
    photos: Sequence[Bgr],
    *,
    seed: int,
    report: Report = lambda _done, _all: None,
    real: Sequence[Original] = (),
) -> PairSource:
    """Return the source of pairs of ``photos``, BGR, and of real clips, and their coded versions.

    Clips are coded beforehand. Degradations that take no share of real clips leave them out.

    Raises:
        DataError: There is nothing to make the pairs of.
    """
    share = 0.0 if isinstance(degradation, JpegRange) else degradation.real
    if share and not real:
        raise DataError(
            f"the recipe takes {share:g} of its pairs from real clips, and there are none; give a "
            "folder with a table of clips to --data, or set real = 0"
        )
    if share < 1 and not photos:
        raise DataError("there is no photograph to make pairs of; give a folder of some to --data")
    if isinstance(degradation, JpegRange):
        return JpegPairs(photos, degradation)
    return ClipPairs(photos, degradation, seed=seed, report=report, real=real)


def held_out_of(
    degradation: Degradation,
    photos: Sequence[Bgr],
    *,
    report: Report = lambda _done, _all: None,
    real: Sequence[Original] = (),
) -> HeldOut:
    """Return pairs to validate on by how coarsely they are coded: of real clips if there are some.

    Raises:
        DataError: There is nothing to make them of.
    """
    if isinstance(degradation, JpegRange) and photos:
        step = -(-len(photos) // HELD_OUT_PHOTOS)
        return jpegs_held_out(photos[::step], degradation)
    if isinstance(degradation, JpegRange) or not (photos or real):
        raise DataError("there is no photograph to validate on; give a folder of some to --val")
    return clips_held_out(photos, degradation, real, report)


class PatchSampler:
    """Sampler of endless batches of random patches.

    Coding a whole picture costs as much as a training step of a small network, so a pool of coded
    pictures is kept, a few are coded anew for each batch, and patches are drawn from all of them.
    Batch ``n`` depends on the seed and ``n`` alone, so that a run can go on exactly.

    Args:
        source: Source of pairs.
        patch_px: Side of a patch.
        batch: Patches per batch.
        seed: Seed of all draws.
        pool: Coded pictures held at a time.
        refresh: Pictures coded anew for each batch.
        lossless: Share of pictures that are not coded, whose quantiser is 0.
    """

    def __init__(
        self,
        source: PairSource,
        *,
        patch_px: int,
        batch: int,
        seed: int,
        pool: int = 128,
        refresh: int = 1,
        lossless: float = 0.0,
    ) -> None:
        self.source, self.patch_px, self.batch, self.seed = source, patch_px, batch, seed
        self.pool, self.refresh, self.lossless = pool, refresh, lossless

    def batches(self, first: int = 0) -> Iterator[Batch]:
        """Yield batch ``first`` and those after it.

        Raises:
            DataError: A picture is smaller than a patch.
        """
        oldest = first * self.refresh
        pool = deque(self._pair(serial) for serial in range(oldest, oldest + self.pool))
        shape = (self.batch, 1, self.patch_px, self.patch_px)
        number = first
        while True:
            rng = np.random.default_rng((self.seed, 1, number))
            coded, clean = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
            picture_mse, quantiser = np.empty((2, self.batch), np.float32)
            for index in range(self.batch):
                pair, picture_mse[index] = pool[rng.integers(self.pool)]
                window = self._window(pair, rng)
                coded[index, 0], clean[index, 0] = pair.coded[window], pair.clean[window]
                quantiser[index] = pair.quantiser
            yield Batch(coded, clean, picture_mse, quantiser)
            number += 1
            for serial in range(oldest + self.pool, oldest + self.pool + self.refresh):
                pool.popleft()
                pool.append(self._pair(serial))
            oldest += self.refresh

    def _pair(self, serial: int) -> tuple[Pair, float]:
        rng = np.random.default_rng((self.seed, 0, serial))
        pair = self.source.pair(rng)
        if rng.random() < self.lossless:
            pair = Pair(pair.clean, pair.clean, 0.0)
        return pair, pair.mse

    def _window(self, pair: Pair, rng: np.random.Generator) -> tuple[slice, slice]:
        room = [side - self.patch_px for side in pair.clean.shape]
        if min(room) < 0:
            height, width = pair.clean.shape
            raise DataError(
                f"a photograph is {width}x{height}, a patch {self.patch_px} px; remove it or "
                "lower patch_px"
            )
        top, left = (int(rng.integers(free // BLOCK_PX + 1)) * BLOCK_PX for free in room)
        return np.s_[top : top + self.patch_px, left : left + self.patch_px]
