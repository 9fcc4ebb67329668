"""Pictures as the patches that deep multi-scale IQA reads, and their scores as one."""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.errors import DataError
from edgecar.evaluate.metrics import Luma

PATCH_PX = 128
PLANES = 2  # distorted picture and residual map
BATCH = 32  # patches at a time: 4 MiB

Patches = NDArray[np.float32]
"""``(N, 2, 128, 128)`` in [0, 1]."""


def planes_of(reference: Luma, distorted: Luma) -> NDArray[np.uint8]:
    """Distorted luma and residual map ``|D - O|`` (Eq. 1 of the paper), ``(2, H, W)``.

    Raises:
        DataError: Size or type differ, or a side is shorter than a patch.
    """
    if reference.shape != distorted.shape or reference.dtype != distorted.dtype:
        raise DataError(
            f"reference is {reference.dtype} {reference.shape}, distorted {distorted.dtype} "
            f"{distorted.shape}; give pictures of one size"
        )
    if min(reference.shape) < PATCH_PX:
        height, width = reference.shape
        raise DataError(
            f"picture is {width}x{height}; a score needs at least {PATCH_PX} px each way"
        )
    return np.stack([distorted, cv2.absdiff(distorted, reference)])


def patch_starts(side: int) -> list[int]:
    """Where patches start along a side: one beside the other, the last one moved back to the edge.

    The paper averages "each 128×128 image patch" and does not say what becomes of the rest; here
    every pixel counts.

    Example:
        >>> patch_starts(128), patch_starts(300)
        ([0], [0, 128, 172])
    """
    starts = list(range(0, side - PATCH_PX + 1, PATCH_PX))
    return starts if side % PATCH_PX == 0 else [*starts, side - PATCH_PX]


def patch_batches(reference: Luma, distorted: Luma) -> Iterator[Patches]:
    """All patches of a picture, at most 32 at a time.

    Raises:
        DataError: As of `planes_of`.
    """
    planes = planes_of(reference, distorted)
    height, width = reference.shape
    places = [(top, left) for top in patch_starts(height) for left in patch_starts(width)]
    for first in range(0, len(places), BATCH):
        windows = [
            planes[:, top : top + PATCH_PX, left : left + PATCH_PX]
            for top, left in places[first : first + BATCH]
        ]
        yield np.stack(windows).astype(np.float32) / np.float32(255)


def picture_score(
    reference: Luma, distorted: Luma, scores_of: Callable[[Patches], NDArray[np.float32]]
) -> float:
    """Mean of the scores of a picture's patches (section II-B of the paper).

    Args:
        reference: ``(H, W)`` uint8, at least 128 px each way.
        distorted: Of the same size.
        scores_of: The network: patches to ``(N, 1)``.

    Raises:
        DataError: As of `planes_of`.
    """
    # Copied: an engine's output is overwritten by its next run.
    scores = [np.array(scores_of(batch)) for batch in patch_batches(reference, distorted)]
    return float(np.concatenate(scores).mean(dtype=np.float64))
