"""Still pictures there and back through a coder."""

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.errors import MediaError


def jpeg_coded(luma: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """A grey picture after JPEG, coded as all published tables code it.

    Args:
        luma: ``(H, W)``.
        quality: 1 to 100.

    Returns:
        The decoded picture, ``(H, W)``.

    Raises:
        MediaError: ``quality`` is outside 1 to 100 (OpenCV would silently clip it).

    Example:
        >>> grey = np.full((16, 16), 128, np.uint8)
        >>> bool((jpeg_coded(grey, 10) == grey).all())
        True
    """
    if not 1 <= quality <= 100:
        raise MediaError(f"JPEG quality {quality} is not in 1 to 100; choose one that is")
    _, code = cv2.imencode(".jpg", luma, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
