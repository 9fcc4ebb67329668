"""Still pictures in and out."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edgecar.errors import MediaError
from edgecar.files import written_whole
from edgecar.media.color import Bgr

PICTURE_FORMATS = {
    ".bmp": "bmp",
    ".jpeg": "jpeg",
    ".jpg": "jpeg",
    ".png": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".webp": "webp",
}
"""What files that are read as pictures hold, by their suffix in lower case."""

_QUALITY_FLAGS = {
    ".bmp": None,
    ".jpeg": cv2.IMWRITE_JPEG_QUALITY,
    ".jpg": cv2.IMWRITE_JPEG_QUALITY,
    ".png": None,
    ".webp": cv2.IMWRITE_WEBP_QUALITY,
}


def is_picture(path: str | Path) -> bool:
    """Whether a path ends like a picture; the file is not looked at."""
    return Path(path).suffix.lower() in PICTURE_FORMATS


def picture_format(path: Path) -> str:
    """The format that a picture's suffix names: ``jpeg``, ``png``; the file is not looked at."""
    return PICTURE_FORMATS[path.suffix.lower()]


def list_pictures(folder: Path) -> list[Path]:
    """Every picture directly in ``folder``, sorted by name.

    Raises:
        MediaError: There is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise MediaError(f"{folder} is not a folder; give one that holds pictures")
    pictures = sorted(path for path in folder.iterdir() if path.is_file() and is_picture(path))
    if not pictures:
        raise MediaError(f"{folder} holds no picture; need {', '.join(PICTURE_FORMATS)}")
    return pictures


def read_picture(path: Path) -> Bgr:
    """Decode a picture: grey becomes three equal channels, 16 bits become 8, alpha is dropped.

    The orientation that a camera noted in the file (EXIF) is applied.

    Returns:
        ``(H, W, 3)`` uint8; `is_grey` tells whether it was grey.

    Raises:
        MediaError: The file cannot be read or decoded.
    """
    try:
        code = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise MediaError(f"{path} cannot be read ({error.strerror}); give a picture") from error
    try:
        picture = cv2.imdecode(code, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH) if code.size else None
    except cv2.error as error:
        raise MediaError(f"{path} cannot be decoded ({error.err}); give another picture") from error
    if picture is None:
        raise MediaError(f"{path} is not a picture or is damaged; give a PNG, JPEG, WebP or BMP")
    if picture.dtype == np.uint16:
        picture = np.rint(picture / 257)  # 65535 becomes 255
    elif picture.dtype != np.uint8:
        raise MediaError(f"{path} holds {picture.dtype} samples; need 8 or 16 bits: convert it")
    return np.asarray(picture, dtype=np.uint8)


def is_grey(bgr: Bgr) -> bool:
    """Whether the three channels of a ``(H, W, 3)`` picture are equal everywhere."""
    blue, green, red = cv2.split(bgr)
    return bool(np.array_equal(blue, green) and np.array_equal(green, red))


def write_picture(path: Path, bgr: Bgr, quality: int = 95) -> None:
    """Write a picture in the format that its suffix names; it appears whole or not at all.

    Args:
        path: Where to; missing folders are made.
        bgr: ``(H, W, 3)`` uint8, or ``(H, W)`` for a grey file.
        quality: 1 to 100, for JPEG and WebP. PNG and BMP are lossless.

    Raises:
        MediaError: Unknown suffix, quality out of range, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in _QUALITY_FLAGS:
        raise MediaError(f"{path} has no picture suffix; need one of {', '.join(_QUALITY_FLAGS)}")
    if not 1 <= quality <= 100:
        raise MediaError(f"picture quality {quality} is out of range; give 1 to 100")
    flag = _QUALITY_FLAGS[suffix]
    options: Sequence[int] = [] if flag is None else [flag, quality]
    try:
        _, code = cv2.imencode(suffix, bgr, options)
        with written_whole(path) as temporary:
            temporary.write_bytes(code.tobytes())
    except cv2.error as error:
        raise MediaError(f"{path} cannot be encoded ({error.err}); use .png") from error
    except OSError as error:
        raise MediaError(
            f"{path} cannot be written ({error.strerror}), and nothing was; free space on the "
            "disk or choose another folder"
        ) from error
