"""Conversion between FFmpeg's pictures, YUV frames and BGR; before and after in one picture."""

import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import Any, Literal

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from edgecar.errors import MediaError
from edgecar.media.facts import NO_NOTES, StreamFacts
from edgecar.media.frame import UNSPECIFIED, UPRIGHT, Coding, Colour, Frame, Orientation, Plane
from edgecar.spec import Size

Bgr = NDArray[np.uint8]
"""``(height, width, 3)`` in 0..255, blue first."""

Layout = Literal["split", "side"]
"""``split``: left half before, right half after. ``side``: both whole, beside each other."""

DIVIDER_PX = 2  # white line between before and after
WHITE, GREY = 235, 128  # luma code that is white enough in either range; chroma code of no colour

PLANAR_420 = ("yuv420p", "yuvj420p")
"""FFmpeg's names of 8-bit planar 4:2:0; the second is the first with full range implied."""

BT601_MATRIX = 6
# Luma weights of red and blue by H.273 matrix code; FFmpeg takes BT.601 for all others.
_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
_BT601_WEIGHTS = (0.299, 0.114)

_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
_RANGES = {None: ColorRange.UNSPECIFIED, False: ColorRange.MPEG, True: ColorRange.JPEG}


class FrameMaker:
    """Turns decoded pictures of any pixel format into frames, if asked all of the first one's size.

    Changes are counted in ``warnings``; ``size`` takes the place of the first picture's.
    """

    def __init__(
        self, time_base: Fraction, keep_size: bool, warnings: Counter[str], size: Size | None
    ) -> None:
        self._time_base, self._keep_size, self._warnings = time_base, keep_size, warnings
        self._first_size = size
        self._formats_seen = set(PLANAR_420)
        self._swscale = VideoReformatter()  # one for all frames: setting it up costs a millisecond

    def frame_from_picture(self, picture: av.VideoFrame, pts: int, coding: Coding) -> Frame:
        """Return a decoded picture as 8-bit 4:2:0."""
        colour, orientation = colour_of(picture), orientation_of(picture)
        stored = size = picture.height, picture.width
        first = self._first_size = self._first_size or size
        if size != first and self._keep_size:
            self._warnings[f"frames of another size scaled to {first[1]}x{first[0]}"] += 1
            size = first
        name = picture.format.name
        if name not in self._formats_seen:
            self._formats_seen.add(name)
            self._warnings[f"pixel format {name} converted to 8-bit 4:2:0"] += 1
        if name not in PLANAR_420 or size != stored:
            # Stated on both sides, so that luma codes stay what they are. FFmpeg takes every grey
            # picture for full range, whatever its stream says.
            full = colour.full_range or name.startswith("gray")
            same_range = ColorRange.JPEG if full else ColorRange.MPEG
            picture = self._swscale.reformat(
                picture,
                width=size[1],
                height=size[0],
                format="yuv420p",
                interpolation=Interpolation.BICUBIC,
                src_color_range=same_range,
                dst_color_range=same_range,
                dst_colorspace=Colorspace.ITU601 if _is_rgb(picture) else None,
            )
        return Frame(*planes_of(picture), pts, self._time_base, colour, coding, orientation)


def planes_of(picture: av.VideoFrame) -> tuple[Plane, Plane, Plane]:
    """Return the planes of an 8-bit 4:2:0 picture, to be read only.

    They are FFmpeg's own memory, which they keep alive, where its lines have no gaps between them;
    else copies. The decoder may still need them for other pictures, so nobody may write there.
    """
    y, u, v = (np.ascontiguousarray(array_of(plane)) for plane in picture.planes)
    for plane in (y, u, v):
        plane.flags.writeable = False
    return y, u, v


def colour_of(picture: av.VideoFrame) -> Colour:
    """Return the colour description of a decoded picture, once it is YUV.

    RGB becomes full-range BT.601, as in JPEG.
    """
    if _is_rgb(picture):
        return Colour(True, BT601_MATRIX, picture.color_primaries, picture.color_trc)
    stated = ColorRange(picture.color_range)
    full_range = next((full for full, code in _RANGES.items() if code == stated), None)
    # The format alone does not tell: FFmpeg keeps it where a stream changes its range on the way.
    if full_range is None and picture.format.name.startswith("yuvj"):
        full_range = True
    return Colour(full_range, picture.colorspace, picture.color_primaries, picture.color_trc)


def orientation_of(picture: av.VideoFrame) -> Orientation:
    """Return how a player turns a decoded picture, by its display matrix."""
    # Not `picture.side_data`, which keeps picture and side data alive in a circle.
    every_kind = SideDataContainer(picture)  # type: ignore[call-arg]
    stated: Any = every_kind.get(Type.DISPLAYMATRIX)
    if stated is None:
        return UPRIGHT
    (a, b, _), (c, d, _), _ = np.frombuffer(stated, np.int32).reshape(3, 3).tolist()
    mirrored = a * d < b * c
    degrees = round(math.degrees(math.atan2(-b, -a if mirrored else a)))
    return Orientation(degrees % 360, mirrored)


def state_colour(target: Any, colour: Colour) -> None:
    """Set the colour description of a picture or codec context."""
    target.color_range = _RANGES[colour.full_range]
    target.colorspace = colour.matrix
    target.color_primaries = colour.primaries
    target.color_trc = colour.transfer


def picture_from_frame(frame: Frame, *, even: bool = False) -> av.VideoFrame:
    """Copy a frame into FFmpeg's memory, colour included, without its time.

    ``even`` repeats the last row and column where the size is odd.
    """
    height, width = frame.size
    y = frame.y
    if even and (height % 2 or width % 2):
        y = np.pad(y, ((0, height % 2), (0, width % 2)), mode="edge")
    picture = av.VideoFrame(y.shape[1], y.shape[0], "yuv420p")
    for plane, values in zip(picture.planes, (y, frame.u, frame.v), strict=True):
        array_of(plane)[:] = values
    state_colour(picture, frame.colour)
    return picture


def array_of(plane: VideoPlane) -> Plane:
    """Return a view of a plane's 8-bit samples, ``(height, width)``, without line padding."""
    samples: Plane = np.frombuffer(memoryview(plane), np.uint8)
    rows = samples.reshape(plane.height, abs(plane.line_size))
    if plane.line_size < 0:  # some AVI files are stored bottom line first
        rows = rows[::-1]
    return rows[:, : plane.width]


def _is_rgb(picture: av.VideoFrame) -> bool:
    kind = picture.format
    return kind.is_rgb or kind.has_palette or kind.is_bayer


def bgr_from_array(picture: object) -> Bgr:
    """Return a picture as contiguous memory; raise MediaError if it is no 8-bit BGR picture."""
    if not isinstance(picture, np.ndarray):
        kind = type(picture)
        remedy = "give numpy arrays, one at a time"
        if kind.__module__.startswith("PIL."):
            remedy = "give np.asarray(picture.convert('RGB'))[..., ::-1]"
        raise MediaError(f"got a {kind.__name__}, need an array uint8 (H, W, 3) in BGR; {remedy}")
    if picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8 and picture.size:
        return np.ascontiguousarray(picture)
    remedies = {
        "it is empty: check where it comes from": 0 in picture.shape,
        "scale it to 0..255, round it and use .astype(np.uint8)": picture.dtype != np.uint8,
        "use cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)": picture.shape[2:] in ((), (1,)),
        "use cv2.cvtColor(picture, cv2.COLOR_BGRA2BGR)": picture.shape[2:] == (4,),
        "give the pictures of a batch one at a time": picture.ndim == 4,
    }
    remedy = next((remedy for remedy, fits in remedies.items() if fits), "convert it")
    raise MediaError(
        f"got an array {picture.dtype} {picture.shape}, need uint8 (H, W, 3) in BGR order; {remedy}"
    )


def planes_from_bgr(bgr: Bgr) -> NDArray[np.uint8]:
    """Return a new array ``(3, H, W)``, red first, as networks take it."""
    return np.array(bgr.transpose(2, 0, 1)[::-1], order="C")


def bgr_from_planes(planes: NDArray[np.uint8]) -> Bgr:
    """Return a new array ``(H, W, 3)`` of planes ``(3, H, W)``, red first."""
    return np.array(planes[::-1].transpose(1, 2, 0), order="C")


def paper_luma_from_bgr(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return BT.601 limited-range luma, 16..235, as the artifact-reduction papers compute it.

    ``Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255``, rounded. A grey picture stored as colour
    is *not* returned unchanged: it is mapped to 16..235 like any other.
    """
    weights = np.array([24.966, 128.553, 65.481], dtype=np.float64) / 255
    return np.rint(16 + bgr.astype(np.float64) @ weights).astype(np.uint8)


def luma_from_bgr(bgr: Bgr) -> Plane:
    """Return full-range BT.601 luma as in JPEG: ``0.299 R + 0.587 G + 0.114 B``, rounded."""
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def bgr_with_luma(bgr: Bgr, old_y: Plane, new_y: Plane) -> Bgr:
    """Return a colour picture with its luma (`luma_from_bgr`) replaced and its chroma kept.

    Blue, green and red all change by ``new_y - old_y``. As the weights of luma add up to one, this
    moves luma by exactly that and leaves Cb and Cr alone, except where a channel stops at 0 or 255.
    """
    # In 8 bits and two steps, one of which does nothing at any pixel: twice as fast as 16 bits.
    rise, fall = cv2.subtract(new_y, old_y), cv2.subtract(old_y, new_y)
    raised = cv2.add(bgr, cv2.cvtColor(rise, cv2.COLOR_GRAY2BGR))
    changed = cv2.subtract(raised, cv2.cvtColor(fall, cv2.COLOR_GRAY2BGR))
    return np.asarray(changed, dtype=np.uint8)


def bgr_from_frame(frame: Frame, *, fast: bool = False) -> Bgr:
    """Return a video frame as a colour picture, by the range and matrix that the frame states.

    A matrix that is not stated is taken for BT.601, as FFmpeg does. ``fast`` uses swscale's fast
    path: chroma is repeated instead of interpolated, and codes are up to 3 off. It is many times
    faster, and enough for previews and detectors.
    """
    if fast:
        shown = picture_from_frame(frame).reformat(
            format="bgr24",
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BICUBIC,  # as OpenCV; matters where a side is odd
        )
        return np.asarray(shown.to_ndarray(), dtype=np.uint8)
    # Not swscale's accurate path: its sums overflow, so that a very bright blue turns black.
    height, width = frame.size
    u, v = (
        cv2.resize(plane, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)[:height, :width]
        for plane in (frame.u, frame.v)
    )
    bgr = cv2.transform(cv2.merge([frame.y, u, v]), _bgr_matrix(frame.colour))
    return np.asarray(bgr, dtype=np.uint8)


def upright_bgr(frame: Frame, *, fast: bool = False) -> Bgr:
    """Return `bgr_from_frame`, turned and mirrored as a player shows the frame.

    Turns by other angles than 90, 180 and 270 degrees are left to the player.
    """
    bgr = bgr_from_frame(frame, fast=fast)
    turn = _TURNS.get(frame.orientation.rotation_degrees)
    if turn is not None:
        bgr = np.asarray(cv2.rotate(bgr, turn), np.uint8)
    return np.asarray(cv2.flip(bgr, 1), np.uint8) if frame.orientation.mirrored else bgr


def frame_with_bgr(frame: Frame, bgr: Bgr) -> Frame:
    """Return the frame with a picture of its size in place of its own, in its range and matrix."""
    if bgr.shape != (*frame.size, 3):
        raise MediaError(f"picture of {bgr.shape} for a frame of {frame.size}; need the same size")
    # Not swscale's: how accurate that is depends on its version, and on the matrix.
    to_bgr = _bgr_matrix(frame.colour)
    gains = np.linalg.inv(to_bgr[:, :3])
    to_yuv = np.column_stack([gains, -gains @ to_bgr[:, 3]])
    luma = cv2.transform(bgr, to_yuv[:1])
    height, width = frame.size
    even = cv2.copyMakeBorder(bgr, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    half = (even.shape[1] // 2, even.shape[0] // 2)
    small = cv2.resize(even.astype(np.float32), half, interpolation=cv2.INTER_AREA)
    chroma = np.rint(cv2.transform(small, to_yuv[1:])).clip(0, 255).astype(np.uint8)
    u, v = (np.ascontiguousarray(chroma[..., plane]) for plane in (0, 1))
    return replace(frame, y=np.asarray(luma, np.uint8), u=u, v=v)


def frame_in(frame: Frame, colour: Colour) -> Frame:
    """Convert a frame to the range and matrix that a file states for all of its frames.

    If either matrix is not stated, only the range is converted.
    """
    stated = UNSPECIFIED not in (frame.colour.matrix, colour.matrix)
    if stated and matrix_weights(frame.colour) != matrix_weights(colour):
        return frame_with_bgr(replace(frame, colour=colour), bgr_from_frame(frame))
    if bool(frame.colour.full_range) == bool(colour.full_range):
        return replace(frame, colour=colour)
    # Codes in the other range, by code (H.273, equations 23 to 28).
    codes = np.arange(256)
    if colour.full_range:
        tables = (codes - 16) * 255 / 219, (codes - 128) * 255 / 224 + 128
    else:
        tables = codes * 219 / 255 + 16, (codes - 128) * 224 / 255 + 128
    luma, chroma = (np.rint(table).clip(0, 255).astype(np.uint8) for table in tables)
    return replace(frame, y=luma[frame.y], u=chroma[frame.u], v=chroma[frame.v], colour=colour)


def matrix_weights(colour: Colour) -> tuple[float, float]:
    """Return the weights of red and blue in luma by the stated matrix, else those of BT.601."""
    return _WEIGHTS.get(colour.matrix, _BT601_WEIGHTS)


def _bgr_matrix(colour: Colour) -> NDArray[np.float64]:
    """``(3, 4)``: Y, U, V and 1 to blue, green and red (H.273, equations 38 to 43)."""
    red, blue = matrix_weights(colour)
    green = 1 - red - blue
    y_gain, chroma_gain = (1.0, 1.0) if colour.full_range else (255 / 219, 255 / 224)
    from_u, from_v = 2 * (1 - blue) * chroma_gain, 2 * (1 - red) * chroma_gain
    gains = np.array(
        [
            [y_gain, from_u, 0],
            [y_gain, -blue / green * from_u, -red / green * from_v],
            [y_gain, 0, from_v],
        ]
    )
    zero = np.array([0 if colour.full_range else 16, 128, 128])
    return np.column_stack([gains, -gains @ zero])


def compared(before: Frame, after: Frame, layout: Layout) -> Frame:
    """Return a frame that shows ``before`` left of ``after``, of the size of `compared_facts`."""
    half = after.size[1] // 2  # in chroma columns; an odd last column is left out
    joined = compared_pictures
    return replace(
        after,
        y=joined(before.y[:, : 2 * half], after.y[:, : 2 * half], layout, WHITE),
        u=joined(before.u[:, :half], after.u[:, :half], layout, GREY, DIVIDER_PX // 2),
        v=joined(before.v[:, :half], after.v[:, :half], layout, GREY, DIVIDER_PX // 2),
    )


def compared_facts(facts: StreamFacts, layout: Layout) -> StreamFacts:
    """Return the facts of a stream of compared frames. Audio and notes are in the restored file."""
    height, width = facts.size
    shown = width // 2 * 2 * (2 if layout == "side" else 1)
    return replace(facts, size=(height, shown), audio_from=None, sound=None, notes=NO_NOTES)


def compared_pictures(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    layout: Layout,
    fill: int = 255,
    divider_px: int = DIVIDER_PX,
) -> NDArray[np.uint8]:
    """Join pictures or planes with a divider of ``fill`` over the last columns of ``before``."""
    width = before.shape[1]
    # A multiple of four luma columns is a whole number of chroma columns in both halves.
    seam = width if layout == "side" else width // (2 * divider_px) * divider_px
    rest = after if layout == "side" else after[:, seam:]
    joined = np.concatenate([before[:, :seam], rest], axis=1)
    joined[:, max(0, seam - divider_px) : seam] = fill
    return joined
