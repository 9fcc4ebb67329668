"""Still pictures: reading, writing, and coding as JPEG."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.errors import MediaError
from edgecar.files import atomic_write
from edgecar.media.color import Bgr
from edgecar.media.frame import Plane
from edgecar.media.still_facts import WITH_ALPHA, StillFacts, facts_of

PICTURE_FORMATS = (
    dict.fromkeys((".bmp", ".dib"), "bmp")
    | dict.fromkeys((".jfif", ".jpe", ".jpeg", ".jpg"), "jpeg")
    | dict.fromkeys((".pgm", ".pnm", ".ppm"), "pnm")
    | dict.fromkeys((".tif", ".tiff"), "tiff")
    | {".png": "png", ".webp": "webp"}
)
"""Formats of files that are read as pictures, by their suffix in lower case."""

JpegCoder = Literal["opencv", "pillow"]

NO_FACTS = StillFacts()

_QUALITY_FLAGS = {
    ".bmp": None,
    ".jpeg": cv2.IMWRITE_JPEG_QUALITY,
    ".jpg": cv2.IMWRITE_JPEG_QUALITY,
    ".png": None,
    ".webp": cv2.IMWRITE_WEBP_QUALITY,
}

LARGEST_PX = {".jpeg": 65500, ".jpg": 65500, ".webp": 16383}
"""Largest height and width of a format; for JPEG the limit of libjpeg."""


def is_picture(path: str | Path) -> bool:
    """Return True if a path has the suffix of a picture; the file is not read."""
    return Path(path).suffix.lower() in PICTURE_FORMATS


def picture_format(path: Path) -> str:
    """Return the format of a picture's suffix (``jpeg``, ``png``); the file is not read."""
    return PICTURE_FORMATS[path.suffix.lower()]


def list_pictures(folder: Path) -> list[Path]:
    """List every picture directly in ``folder``, sorted by name; MediaError if there is none."""
    if not folder.is_dir():
        raise MediaError(f"{folder} is not a folder; give one that holds pictures")
    pictures = sorted(path for path in folder.iterdir() if path.is_file() and is_picture(path))
    if not pictures:
        raise MediaError(f"{folder} holds no picture; need {', '.join(PICTURE_FORMATS)}")
    return pictures


def read_picture(path: Path) -> Bgr:
    """Decode a picture to ``(H, W, 3)``; 16 bits become 8, alpha is dropped.

    Grey becomes three equal channels (`is_grey`). The orientation that a camera noted in the file
    (EXIF) is applied.
    """
    return _decoded(path, _bytes_of(path))[0]


def read_still(path: Path) -> tuple[Bgr, StillFacts]:
    """Decode a picture as `read_picture` does, and read its metadata."""
    code = _bytes_of(path)
    picture, metadata, deep = _decoded(path, code)
    return picture, facts_of(path, code, picture, metadata, deep)


def _bytes_of(path: Path) -> Plane:
    try:
        return np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise MediaError(f"{path} cannot be read ({error.strerror}); give a picture") from error


def _decoded(path: Path, code: Plane) -> tuple[Bgr, dict[int, bytes], bool]:
    """Return colours, metadata, and True if samples have more than 8 bits."""
    found: tuple[Any, Any, Any] = None, (), ()
    try:
        if code.size:
            found = cv2.imdecodeWithMetadata(code, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise MediaError(f"{path} cannot be decoded ({error.err}); give another picture") from error
    picture, kinds, chunks = found
    if picture is None:
        raise MediaError(f"{path} is not a picture or is damaged; give a PNG, JPEG, WebP or BMP")
    deep = picture.dtype == np.uint16
    if not deep and picture.dtype != np.uint8:
        raise MediaError(f"{path} holds {picture.dtype} samples; need 8 or 16 bits: convert it")
    codes = np.rint(picture / 257) if deep else picture  # 65535 becomes 255
    metadata = {int(kind): chunk.tobytes() for kind, chunk in zip(kinds, chunks, strict=True)}
    return np.asarray(codes, dtype=np.uint8), metadata, deep


def is_grey(bgr: Bgr) -> bool:
    """Return True if the three channels of a ``(H, W, 3)`` picture are equal everywhere."""
    blue, green, red = cv2.split(bgr)
    return bool(np.array_equal(blue, green) and np.array_equal(green, red))


def write_picture(
    path: Path, bgr: Bgr, quality: int = 95, facts: StillFacts = NO_FACTS
) -> list[str]:
    """Write a picture in the format that its suffix names; it appears whole or not at all.

    Args:
        path: File to write; missing folders are made.
        bgr: ``(H, W, 3)`` uint8, or ``(H, W)`` for a grey file.
        quality: 1 to 100, for JPEG and WebP. PNG and BMP are lossless.
        facts: Transparency and metadata of the source picture; written where the format takes them.

    Returns:
        Descriptions of the facts that are lost.
    """
    suffix = path.suffix.lower()
    if suffix not in _QUALITY_FLAGS:
        raise MediaError(f"{path} has no picture suffix; need one of {', '.join(_QUALITY_FLAGS)}")
    if not 1 <= quality <= 100:
        raise MediaError(f"picture quality {quality} is out of range; give 1 to 100")
    (height, width), most = bgr.shape[:2], LARGEST_PX.get(suffix)
    if most and max(height, width) > most:
        raise MediaError(
            f"{path} cannot hold {width}x{height} px, {suffix} has at most {most} a side; use .png"
        )
    flag = _QUALITY_FLAGS[suffix]
    options: Sequence[int] = [] if flag is None else [flag, quality]
    channels = bgr
    if facts.alpha is not None and suffix in WITH_ALPHA:
        channels = np.dstack([bgr, facts.alpha])
    elif facts.grey and facts.alpha is None and bgr.ndim == 3 and is_grey(bgr):
        channels = bgr[..., 0]
    kept, lost = facts.storable(suffix, grey=channels.ndim == 2)
    chunks = [np.frombuffer(chunk, np.uint8) for chunk in kept.values()]
    try:
        written, code = cv2.imencodeWithMetadata(suffix, channels, list(kept), chunks, options)
    except cv2.error as error:
        raise MediaError(f"{path} cannot be encoded ({error.err}); use .png") from error
    if not written:
        raise MediaError(f"{path} cannot be encoded as {suffix}; use .png")
    _write(path, facts.completed(code.tobytes()))
    return lost


def copy_picture(source: Path, target: Path) -> None:
    """Copy a picture's file; it appears whole or not at all."""
    _write(target, _bytes_of(source).tobytes())


def _write(path: Path, code: bytes) -> None:
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(code)
    except OSError as error:
        raise MediaError(
            f"{path} cannot be written ({error.strerror}), and nothing was; free space on the "
            "disk or choose another folder"
        ) from error


def jpeg_coded(
    luma: NDArray[np.uint8], quality: int, coder: JpegCoder = "opencv"
) -> NDArray[np.uint8]:
    """Return a picture after JPEG of quality 1 to 100, as all tables code it.

    It is grey, ``(H, W)``, or BGR, ``(H, W, 3)``, whose chroma is halved (OpenCV only).

    Both coders are builds of libjpeg, which may differ. Pillow is an optional package.

    Example:
        >>> grey = np.full((16, 16), 128, np.uint8)
        >>> bool((jpeg_coded(grey, 10) == grey).all())
        True
    """
    if not 1 <= quality <= 100:
        raise MediaError(f"JPEG quality {quality} is not in 1 to 100; choose one that is")
    if coder == "pillow":
        from PIL import Image

        file = BytesIO()
        Image.fromarray(luma).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file), dtype=np.uint8)
    _, code = cv2.imencode(".jpg", luma, [cv2.IMWRITE_JPEG_QUALITY, quality])
    how = cv2.IMREAD_GRAYSCALE if luma.ndim == 2 else cv2.IMREAD_COLOR
    return np.asarray(cv2.imdecode(code, how), dtype=np.uint8)
