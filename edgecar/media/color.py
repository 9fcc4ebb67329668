"""The one place where colour spaces meet."""

from dataclasses import replace

import cv2
import numpy as np
from av.video.reformatter import ColorRange, Interpolation
from numpy.typing import NDArray

from edgecar.errors import MediaError
from edgecar.media.convert import picture_from_frame
from edgecar.media.frame import UNSPECIFIED, Colour, Frame, Plane

Bgr = NDArray[np.uint8]
"""``(height, width, 3)`` in 0..255, blue first."""

# Luma weights of red and blue by H.273 matrix code; FFmpeg takes BT.601 for all others.
_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
_BT601_WEIGHTS = (0.299, 0.114)

_TURNS = {
    90: cv2.ROTATE_90_COUNTERCLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_CLOCKWISE,
}


def bgr_from_array(picture: object) -> Bgr:
    """Return a picture as contiguous memory.

    Raises:
        MediaError: It is no BGR picture of 8 bits; says what it is and how to make it one.
    """
    if not isinstance(picture, np.ndarray):
        kind = type(picture)
        remedy = "give numpy arrays, one at a time"
        if kind.__module__.startswith("PIL."):
            remedy = "give np.asarray(picture.convert('RGB'))[..., ::-1]"
        raise MediaError(f"got a {kind.__name__}, need an array uint8 (H, W, 3) in BGR; {remedy}")
    if picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8 and picture.size:
        return np.ascontiguousarray(picture)
    remedy = "convert it"
    if 0 in picture.shape:
        remedy = "it is empty: check where it comes from"
    elif picture.dtype != np.uint8:
        remedy = "scale it to 0..255, round it and use .astype(np.uint8)"
    elif picture.ndim == 2 or picture.shape[2:] == (1,):
        remedy = "use cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)"
    elif picture.ndim == 3 and picture.shape[2] == 4:
        remedy = "use cv2.cvtColor(picture, cv2.COLOR_BGRA2BGR)"
    elif picture.ndim == 4:
        remedy = "give the pictures of a batch one at a time"
    raise MediaError(
        f"got an array {picture.dtype} {picture.shape}, need uint8 (H, W, 3) in BGR order; {remedy}"
    )


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


def luma_from_bgr(bgr: Bgr) -> Plane:
    """Full-range BT.601 luma, as JPEG computes it: ``0.299 R + 0.587 G + 0.114 B``, rounded.

    A grey picture stored as colour comes out unchanged.

    Args:
        bgr: ``(H, W, 3)`` in 0..255.

    Returns:
        ``(H, W)`` in 0..255.
    """
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def bgr_with_luma(bgr: Bgr, old_y: Plane, new_y: Plane) -> Bgr:
    """A colour picture with its luma replaced and its chroma kept.

    Blue, green and red all change by ``new_y - old_y``. As the weights of luma add up to one, this
    moves luma by exactly that and leaves Cb and Cr alone, except where a channel stops at 0 or 255.

    Args:
        bgr: ``(H, W, 3)`` in 0..255.
        old_y: Luma of ``bgr``, ``(H, W)``, from `luma_from_bgr`.
        new_y: Wanted luma, ``(H, W)``.

    Returns:
        A new ``(H, W, 3)``; equal to ``bgr`` where the luma did not change.
    """
    # In 8 bits and two steps, one of which does nothing at any pixel: twice as fast as 16 bits.
    rise, fall = cv2.subtract(new_y, old_y), cv2.subtract(old_y, new_y)
    raised = cv2.add(bgr, cv2.cvtColor(rise, cv2.COLOR_GRAY2BGR))
    changed = cv2.subtract(raised, cv2.cvtColor(fall, cv2.COLOR_GRAY2BGR))
    return np.asarray(changed, dtype=np.uint8)


def bgr_from_frame(frame: Frame, *, fast: bool = False) -> Bgr:
    """A video frame as a colour picture, by the range and matrix that the frame states.

    Args:
        frame: What to show. A matrix that is not stated is taken for BT.601, as FFmpeg does.
        fast: Take swscale's short cut: chroma is repeated instead of interpolated, and codes are
            up to 3 off. Many times faster; enough for previews and detectors.

    Returns:
        ``(H, W, 3)`` in 0..255.
    """
    if fast:
        picture = picture_from_frame(frame)
        shown = picture.reformat(
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
    """A video frame as a colour picture, turned and mirrored as a player shows it.

    Args:
        frame: Gives range, matrix and orientation. Turns by other angles than 90, 180 and 270
            degrees are left to the player.
        fast: See `bgr_from_frame`.
    """
    bgr = bgr_from_frame(frame, fast=fast)
    turn = _TURNS.get(frame.orientation.rotation_degrees)
    if turn is not None:
        bgr = np.asarray(cv2.rotate(bgr, turn), np.uint8)
    return np.asarray(cv2.flip(bgr, 1), np.uint8) if frame.orientation.mirrored else bgr


def frame_with_bgr(frame: Frame, bgr: Bgr) -> Frame:
    """The frame with its picture replaced, in its own range and matrix; the way back.

    Args:
        frame: Gives time and colour.
        bgr: ``(H, W, 3)`` in 0..255, of the frame's size.

    Raises:
        MediaError: ``bgr`` has another size.
    """
    if bgr.shape != (*frame.size, 3):
        raise MediaError(f"picture of {bgr.shape} for a frame of {frame.size}; need the same size")
    # Not swscale's: how accurate that is depends on its version, and on the matrix.
    to_yuv = _yuv_matrix(frame.colour)
    luma = cv2.transform(bgr, to_yuv[:1])
    height, width = frame.size
    even = cv2.copyMakeBorder(bgr, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    half = (even.shape[1] // 2, even.shape[0] // 2)
    small = cv2.resize(even.astype(np.float32), half, interpolation=cv2.INTER_AREA)
    chroma = np.rint(cv2.transform(small, to_yuv[1:])).clip(0, 255).astype(np.uint8)
    u, v = (np.ascontiguousarray(chroma[..., plane]) for plane in (0, 1))
    return replace(frame, y=np.asarray(luma, np.uint8), u=u, v=v)


def frame_in(frame: Frame, colour: Colour) -> Frame:
    """The frame as it looks, in the range and matrix that a file states for all of its frames.

    A matrix that is not stated is not known: then only the range is converted.

    Args:
        frame: States its own range and matrix.
        colour: The file's.
    """
    stated = UNSPECIFIED not in (frame.colour.matrix, colour.matrix)
    if stated and matrix_weights(frame.colour) != matrix_weights(colour):
        return frame_with_bgr(replace(frame, colour=colour), bgr_from_frame(frame))
    if bool(frame.colour.full_range) == bool(colour.full_range):
        return replace(frame, colour=colour)
    luma, chroma = _range_tables(to_full=bool(colour.full_range))
    y, u, v = luma[frame.y], chroma[frame.u], chroma[frame.v]
    return replace(frame, y=y, u=u, v=v, colour=colour)


def _range_tables(*, to_full: bool) -> tuple[Plane, Plane]:
    """Luma and chroma codes in the other range, by code (H.273, equations 23 to 28)."""
    codes = np.arange(256)
    if to_full:
        luma, chroma = (codes - 16) * 255 / 219, (codes - 128) * 255 / 224 + 128
    else:
        luma, chroma = codes * 219 / 255 + 16, (codes - 128) * 224 / 255 + 128
    return (
        np.rint(luma).clip(0, 255).astype(np.uint8),
        np.rint(chroma).clip(0, 255).astype(np.uint8),
    )


def matrix_weights(colour: Colour) -> tuple[float, float]:
    """Weights of red and blue in luma, by the matrix that is stated; else those of BT.601."""
    return _WEIGHTS.get(colour.matrix, _BT601_WEIGHTS)


def _bgr_matrix(colour: Colour) -> NDArray[np.float64]:
    """``(3, 4)``: from Y, U, V and 1 to blue, green and red (H.273, equations 38 to 43)."""
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


def _yuv_matrix(colour: Colour) -> NDArray[np.float64]:
    """``(3, 4)``: from blue, green, red and 1 to Y, U and V; the other way round."""
    to_bgr = _bgr_matrix(colour)
    gains = np.linalg.inv(to_bgr[:, :3])
    return np.column_stack([gains, -gains @ to_bgr[:, 3]])
