"""Batches of coded and clean patches from a folder of photographs."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecar.errors import DataError
from edgecar.media.pictures import list_pictures, read_picture
from edgecar.train.clips import ClipPairs, Report
from edgecar.train.degrade import Bgr, Degradation, JpegPairs, JpegRange, Pair, PairSource

BLOCK_PX = 8  # coders and frames share their top left corner, so patches start where blocks do
SPLITS = ("train", "test")  # of BSDS500; ``val`` is held out


@dataclass(frozen=True)
class Batch:
    """Patches of several pictures.

    Attributes:
        coded: ``(N, 1, H, W)`` uint8.
        clean: Clean patches of the same shape.
        picture_mse: ``(N,)`` mean squared error of the coded picture each patch is from, of 1.0.
    """

    coded: NDArray[np.uint8]
    clean: NDArray[np.uint8]
    picture_mse: NDArray[np.float32]


def photo_folders(data: list[Path], held_out: Path | None) -> tuple[list[Path], Path]:
    """Return the folders to train on and the folder to validate on.

    A data set with the folders ``train``, ``test`` and ``val`` may be given by its own folder.

    Raises:
        DataError: A folder is missing, or none is left to validate on.
    """
    folders: list[Path] = []
    for folder in data:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; give one of photographs with --data")
        splits = [folder / split for split in SPLITS if (folder / split).is_dir()]
        folders += splits or [folder]
        if splits and held_out is None and (folder / "val").is_dir():
            held_out = folder / "val"
    if held_out is None:
        raise DataError(f"{data[0]} has no folder 'val'; give photographs held out with --val")
    if held_out in folders:
        raise DataError(f"{held_out} is trained on and held out; give --val another folder")
    return folders, held_out


def load_photos(folders: list[Path]) -> list[Bgr]:
    """Read every picture in ``folders``, by name, ``(H, W, 3)`` BGR.

    Raises:
        MediaError: A folder is missing, holds no picture, or a picture cannot be decoded.
    """
    return [read_picture(path) for folder in folders for path in list_pictures(folder)]


def source_of(
    degradation: Degradation,
    photos: list[Bgr],
    *,
    seed: int,
    report: Report = lambda _done, _all: None,
    clips: int | None = None,
) -> PairSource:
    """Return the source of pairs of ``photos``, BGR, and their degraded versions.

    Clips are coded beforehand; ``clips`` is their number, by default that of the degradation.
    """
    if isinstance(degradation, JpegRange):
        return JpegPairs(photos, degradation)
    return ClipPairs(photos, degradation, seed=seed, report=report, clips=clips)


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
    ) -> None:
        self.source, self.patch_px, self.batch, self.seed = source, patch_px, batch, seed
        self.pool, self.refresh = pool, refresh

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
            picture_mse = np.empty(self.batch, np.float32)
            for index in range(self.batch):
                pair, picture_mse[index] = pool[rng.integers(self.pool)]
                window = self._window(pair, rng)
                coded[index, 0], clean[index, 0] = pair.coded[window], pair.clean[window]
            yield Batch(coded, clean, picture_mse)
            number += 1
            for serial in range(oldest + self.pool, oldest + self.pool + self.refresh):
                pool.popleft()
                pool.append(self._pair(serial))
            oldest += self.refresh

    def _pair(self, serial: int) -> tuple[Pair, float]:
        pair = self.source.pair(np.random.default_rng((self.seed, 0, serial)))
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
