"""Between FFmpeg's pictures and edgecar's frames."""

import math
from collections import Counter
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from edgecar.media.frame import (
    CODING_NOT_STATED,
    UPRIGHT,
    Coding,
    Colour,
    Frame,
    Orientation,
    Plane,
)
from edgecar.spec import Size

PLANAR_420 = ("yuv420p", "yuvj420p")
"""FFmpeg's names of 8-bit planar 4:2:0; the second is the first with full range implied."""

BT601_MATRIX = 6


class FrameMaker:
    """Turns decoded pictures of any pixel format into frames.

    Args:
        time_base: Seconds in a tick of the frames' timestamps.
        keep_size: Scale pictures of another size to that of the first one.
        warnings: Receives a count for everything that was changed.
        size: ``(height, width)`` to keep in place of the first picture's.
    """

    def __init__(
        self,
        time_base: Fraction,
        *,
        keep_size: bool,
        warnings: Counter[str],
        size: Size | None = None,
    ) -> None:
        self._time_base, self._keep_size, self._warnings = time_base, keep_size, warnings
        self._first_size = size
        self._formats_seen: set[str] = set()
        self._swscale = VideoReformatter()  # one for all frames: setting it up costs a millisecond

    def frame_from_picture(
        self, picture: av.VideoFrame, pts: int, coding: Coding = CODING_NOT_STATED
    ) -> Frame:
        """Copy a decoded picture into planes without gaps, 8-bit 4:2:0."""
        colour, orientation = colour_of(picture), orientation_of(picture)
        size = self._target_size(picture)
        if picture.format.name not in PLANAR_420 or size != (picture.height, picture.width):
            picture = self._converted(picture, size, colour)
        y, u, v = (array_of(plane).copy() for plane in picture.planes)
        return Frame(y, u, v, pts, self._time_base, colour, coding, orientation)

    def _target_size(self, picture: av.VideoFrame) -> Size:
        size = picture.height, picture.width
        first = self._first_size = self._first_size or size
        if size == first or not self._keep_size:
            return size
        self._warnings[f"frames of another size scaled to {first[1]}x{first[0]}"] += 1
        return first

    def _converted(self, picture: av.VideoFrame, size: Size, colour: Colour) -> av.VideoFrame:
        name = picture.format.name
        if name not in PLANAR_420 and name not in self._formats_seen:
            self._formats_seen.add(name)
            self._warnings[f"pixel format {name} converted to 8-bit 4:2:0"] += 1
        # Stated on both sides, so that luma codes stay what they are. FFmpeg takes every grey
        # picture for full range, whatever its stream says.
        full = colour.full_range or name.startswith("gray")
        same_range = ColorRange.JPEG if full else ColorRange.MPEG
        return self._swscale.reformat(
            picture,
            width=size[1],
            height=size[0],
            format="yuv420p",
            interpolation=Interpolation.BICUBIC,
            src_color_range=same_range,
            dst_color_range=same_range,
            dst_colorspace=Colorspace.ITU601 if _is_rgb(picture) else None,
        )


def colour_of(picture: av.VideoFrame) -> Colour:
    """What a decoded picture says about its colours, once it is YUV.

    RGB has no YUV matrix: it is converted to full-range BT.601, as JPEG does.
    """
    if _is_rgb(picture):
        return Colour(True, BT601_MATRIX, picture.color_primaries, picture.color_trc)
    full_range = {ColorRange.MPEG: False, ColorRange.JPEG: True}.get(
        ColorRange(picture.color_range)
    )
    # The format alone does not tell: FFmpeg keeps it where a stream changes its range on the way.
    if full_range is None and picture.format.name.startswith("yuvj"):
        full_range = True
    return Colour(full_range, picture.colorspace, picture.color_primaries, picture.color_trc)


def orientation_of(picture: av.VideoFrame) -> Orientation:
    """How a player turns a decoded picture, by its display matrix."""
    # Not `picture.side_data`, which keeps picture and side data alive in a circle.
    every_kind = SideDataContainer(picture)  # type: ignore[call-arg]
    stated: Any = every_kind.get(Type.DISPLAYMATRIX)
    if stated is None:
        return UPRIGHT
    (a, b, _), (c, d, _), _ = np.frombuffer(stated, np.int32).reshape(3, 3).tolist()
    mirrored = a * d < b * c
    degrees = round(math.degrees(math.atan2(-b, -a if mirrored else a)))
    return Orientation(degrees % 360, mirrored)


def range_code(colour: Colour) -> ColorRange:
    """FFmpeg's code for the range of ``colour``."""
    codes = {None: ColorRange.UNSPECIFIED, False: ColorRange.MPEG, True: ColorRange.JPEG}
    return codes[colour.full_range]


def picture_from_frame(frame: Frame, *, even: bool = False) -> av.VideoFrame:
    """Copy a frame into FFmpeg's memory, colour included, without its time.

    Args:
        frame: What to copy.
        even: Repeat the last row and column where the size is odd.
    """
    height, width = frame.size
    y = frame.y
    if even and (height % 2 or width % 2):
        y = np.pad(y, ((0, height % 2), (0, width % 2)), mode="edge")
    picture = av.VideoFrame(y.shape[1], y.shape[0], "yuv420p")
    for plane, values in zip(picture.planes, (y, frame.u, frame.v), strict=True):
        array_of(plane)[:] = values
    picture.color_range = range_code(frame.colour)
    picture.colorspace = frame.colour.matrix
    picture.color_primaries = frame.colour.primaries
    picture.color_trc = frame.colour.transfer
    return picture


def array_of(plane: VideoPlane) -> Plane:
    """A view of a plane's 8-bit samples, ``(height, width)``, without the padding of its lines."""
    samples: Plane = np.frombuffer(memoryview(plane), np.uint8)
    rows = samples.reshape(plane.height, abs(plane.line_size))
    if plane.line_size < 0:  # some AVI files are stored bottom line first
        rows = rows[::-1]
    return rows[:, : plane.width]


def _is_rgb(picture: av.VideoFrame) -> bool:
    kind = picture.format
    return kind.is_rgb or kind.has_palette or kind.is_bayer
