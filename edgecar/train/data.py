"""Pairs of coded and clean patches from a folder of photographs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.errors import DataError
from edgecar.media.color import paper_luma_from_bgr
from edgecar.train.degrade import Degradation, Luma

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


def load_photos(folders: list[Path]) -> list[Luma]:
    """Luma of every picture in ``folders``, sorted by name.

    Raises:
        DataError: A folder is missing or holds no picture.
    """
    photos: list[Luma] = []
    for folder in folders:
        paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
        if not paths:
            raise DataError(f"no pictures in {folder}; give a folder of JPEG or PNG photographs")
        for path in paths:
            bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if bgr is None:
                raise DataError(f"{path} cannot be decoded; remove or replace it")
            photos.append(paper_luma_from_bgr(np.asarray(bgr, dtype=np.uint8)))
    return photos


@dataclass(frozen=True)
class Pair:
    """A coded picture and its clean original, ``(H, W)`` uint8 each."""

    coded: Luma
    clean: Luma


class PatchSampler:
    """Endless batches of random patches.

    Coding a whole picture costs as much as a training step of a small network, so a pool of coded
    pictures is kept, a few are coded anew for each batch, and patches are drawn from all of them.

    Args:
        photos: Clean pictures, each at least ``patch_px`` on both sides.
        degrade: The coder to undo.
        patch_px: Side of a patch.
        batch: Patches per batch.
        seed: Makes the sequence repeatable.
        pool: Coded pictures held at a time.
        refresh: Pictures coded anew for each batch.
    """

    def __init__(
        self,
        photos: list[Luma],
        degrade: Degradation,
        *,
        patch_px: int,
        batch: int,
        seed: int,
        pool: int = 64,
        refresh: int = 2,
    ) -> None:
        small = min(min(photo.shape) for photo in photos)
        if small < patch_px:
            raise DataError(f"a photo is {small} px on one side; need {patch_px} px: remove it")
        self.photos, self.degrade = photos, degrade
        self.patch_px, self.batch = patch_px, batch
        self.pool_size, self.refresh = pool, refresh
        self.rng = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Yield ``(coded, clean)``, each ``(batch, 1, patch_px, patch_px)`` uint8."""
        pool = [self._coded_pair() for _ in range(self.pool_size)]
        oldest = 0
        shape = (self.batch, 1, self.patch_px, self.patch_px)
        while True:
            for _ in range(self.refresh):
                pool[oldest] = self._coded_pair()
                oldest = (oldest + 1) % self.pool_size
            coded, clean = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
            for index in range(self.batch):
                pair = pool[self.rng.integers(self.pool_size)]
                top, left = (
                    int(self.rng.integers(side - self.patch_px + 1)) for side in pair.clean.shape
                )
                window = np.s_[top : top + self.patch_px, left : left + self.patch_px]
                coded[index, 0], clean[index, 0] = pair.coded[window], pair.clean[window]
            yield coded, clean

    def _coded_pair(self) -> Pair:
        """A random photo, turned and mirrored before coding (coders favour directions)."""
        photo = self.photos[self.rng.integers(len(self.photos))]
        photo = np.rot90(photo, int(self.rng.integers(4)))
        if self.rng.integers(2):
            photo = photo[:, ::-1]
        clean = np.ascontiguousarray(photo)
        return Pair(self.degrade(clean, self.rng), clean)
