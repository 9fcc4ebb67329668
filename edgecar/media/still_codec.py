"""Still pictures there and back through a coder."""

from io import BytesIO
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.errors import MediaError

JpegCoder = Literal["opencv", "pillow"]


def jpeg_coded(
    luma: NDArray[np.uint8], quality: int, coder: JpegCoder = "opencv"
) -> NDArray[np.uint8]:
    """A grey picture after JPEG, coded as all published tables code it.

    Args:
        luma: ``(H, W)``.
        quality: 1 to 100.
        coder: The library that codes it; both are builds of libjpeg, which may differ. Pillow is
            an optional package.

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
    if coder == "pillow":
        return _pillow_coded(luma, quality)
    _, code = cv2.imencode(".jpg", luma, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


def _pillow_coded(luma: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    from PIL import Image

    file = BytesIO()
    Image.fromarray(luma).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), dtype=np.uint8)
