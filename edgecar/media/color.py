"""The one place where colour spaces meet."""

import numpy as np
from numpy.typing import NDArray


def paper_luma_from_bgr(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """BT.601 limited-range luma as the artifact-reduction papers compute it.

    ``Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255``, rounded. A grey picture stored as colour
    is *not* returned unchanged: it is mapped to 16..235 like any other.

    Args:
        bgr: ``(H, W, 3)`` in 0..255.

    Returns:
        ``(H, W)`` in 16..235.
    """
    weights = np.array([24.966, 128.553, 65.481], dtype=np.float64) / 255
    return np.rint(16 + bgr.astype(np.float64) @ weights).astype(np.uint8)
