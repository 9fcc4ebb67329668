"""One decoded picture of a video, and the meaning of its numbers."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgecar.errors import MediaError
from edgecar.spec import Size

Plane = NDArray[np.uint8]
"""``(height, width)`` of one component, 8 bits a sample."""

UNSPECIFIED = 2  # code point of a stream that says nothing about its colours (ITU-T H.273)


@dataclass(frozen=True, slots=True)
class Colour:
    """Colour description of a stream, passed from input to output unchanged.

    The three code points are those of ITU-T H.273, tables 2 to 4, as FFmpeg numbers them.
    """

    full_range: bool | None = None
    """True: luma 0..255. False: 16..235. None: not stated, which players treat as 16..235."""
    matrix: int = UNSPECIFIED  # RGB to YUV: 1 is BT.709, 5 and 6 are BT.601, 9 is BT.2020
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED  # gamma curve


COLOUR_NOT_STATED = Colour()


@dataclass(frozen=True, slots=True)
class Coding:
    """Coding of one picture as far as the stream states it; None where it states nothing.

    QP describes what was coded, not what was copied: in a still scene, a skipped macroblock has
    the QP of its neighbours and the pixels of an earlier, perhaps coarser picture.
    """

    qp: float | None = None
    """0 (finest) to 51, below 0 for more than 8 bits: of H.264 the mean of the macroblocks, of HEVC
    that of the latest key frame (IDR); None for other codecs."""
    jpeg_quality: int | None = None
    """1 to 100 (finest), as the common libraries count; JPEG and Motion JPEG only."""
    codec: str = ""
    """FFmpeg's short name of the codec, or the format of a picture; empty if unknown."""
    quantiser: float | None = None
    """0 (lossless) to 1 (coarsest), where the picture alone tells: from JPEG's luma table."""

    def is_finer(self, *, than_qp: float | None = None, than_quality: int | None = None) -> bool:
        """Return True if the picture is known to have a lower QP or a higher JPEG quality.

        Example:
            >>> Coding(qp=17.5).is_finer(than_qp=18), Coding().is_finer(than_qp=18)
            (True, False)
        """
        if than_qp is not None and self.qp is not None and self.qp < than_qp:
            return True
        quality = self.jpeg_quality
        return than_quality is not None and quality is not None and quality > than_quality


CODING_NOT_STATED = Coding()


class Orientation(NamedTuple):
    """How a player turns a stored picture: counter-clockwise, then left and right swapped."""

    rotation_degrees: int = 0
    mirrored: bool = False


UPRIGHT = Orientation()


def chroma_size(size: Size) -> Size:
    """Return the size of the two chroma planes of a 4:2:0 picture.

    Example:
        >>> chroma_size((5, 8))
        (3, 4)
    """
    height, width = size
    return (height + 1) // 2, (width + 1) // 2


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Frame:
    """A picture in planar YUV 4:2:0, 8 bits.

    Args:
        y: Luma, ``(height, width)`` uint8.
        u: First chroma plane (Cb), ``(ceil(height / 2), ceil(width / 2))`` uint8.
        v: Second chroma plane (Cr), same shape as ``u``.
        pts: Time to show the picture, in ticks of ``time_base``; None if unknown.
        time_base: Seconds in a tick; None if unknown.
        colour: Range and colour space of the planes.
        coding: How coarsely the picture was coded.
        orientation: How a player turns the picture; the planes are as stored.
        duration: Time to show the last frame of a file, in ticks of ``time_base``; None where the
            next frame or the frame rate tells.

    Raises:
        MediaError: A plane has another type or shape.
    """

    y: Plane
    u: Plane
    v: Plane
    pts: int | None = None
    time_base: Fraction | None = None
    colour: Colour = COLOUR_NOT_STATED
    coding: Coding = CODING_NOT_STATED
    orientation: Orientation = UPRIGHT
    duration: int | None = None

    def __post_init__(self) -> None:
        if self.y.ndim != 2 or 0 in self.y.shape:
            raise MediaError(f"luma has shape {self.y.shape}; a frame needs (height, width)")
        chroma = chroma_size(self.size)
        planes = (("luma", self.y, self.size), ("U", self.u, chroma), ("V", self.v, chroma))
        for name, plane, shape in planes:
            if plane.shape != shape or plane.dtype != np.uint8:
                raise MediaError(
                    f"{name} plane is {plane.dtype} {plane.shape}; "
                    f"a 4:2:0 frame of {self.size} needs uint8 {shape}"
                )

    def __repr__(self) -> str:
        height, width = self.size
        return f"Frame({width}x{height}, pts={self.pts}, time_base={self.time_base}, {self.colour})"

    @property
    def size(self) -> Size:
        """``(height, width)`` of the luma plane."""
        height, width = self.y.shape
        return height, width

    def with_luma(self, y: Plane) -> "Frame":
        """Return the same frame with another luma plane; MediaError if its shape is another."""
        if y.shape != self.y.shape:
            raise MediaError(f"new luma has shape {y.shape}; this frame needs {self.y.shape}")
        return replace(self, y=y)
