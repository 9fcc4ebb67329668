"""Restored frames as detectors take them, without leaving the GPU."""

from dataclasses import dataclass
from typing import Any, Literal

from edgecar.errors import MediaError
from edgecar.media.color import matrix_weights
from edgecar.media.frame import COLOUR_NOT_STATED, Colour
from edgecar.runtime.cuda.arrays import DeviceArray, frame_from_array
from edgecar.runtime.cuda.device import Device
from edgecar.spec import Size

ONE = 1 << 16  # of the kernels' colour matrix (kernels/detector.cu)
GREY = 114  # what YOLO's own letterbox is filled with


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in a detector's tensor, in pixels; boxes are scaled back with it."""

    top: int
    left: int
    height: int
    width: int
    scale: float
    """By which the picture was made smaller or larger."""


class DetectorInput:
    """Makes a detector's tensor of luma and chroma in device memory, as NV12 has them.

    The tensor is overwritten by the next call. A side that is the picture's own leaves its size.

    Args:
        device: Device that everything lies on.
        side: ``(height, width)`` of the detector's input.
        kind: Type of its values, which are in [0, 1].
        fill: Code around the picture.

    Example:
        ``clean = restorer(y)``, then ``tensor, place = DetectorInput(device, (640, 640))(clean,
        uv)``: ``(1, 3, 640, 640)``, red first, for ``torch.from_dlpack`` or an engine's address.
    """

    def __init__(
        self,
        device: Device,
        side: Size,
        kind: Literal["fp32", "fp16"] = "fp32",
        fill: int = GREY,
    ) -> None:
        self._device, self._side, self._kind, self._fill = device, side, kind, fill
        self._item = {"fp32": 4, "fp16": 2}[kind]
        self._stream, self._done = device.stream(), device.event()
        self._tensor = device.memory(3 * side[0] * side[1] * self._item)

    def __call__(
        self, luma: Any, chroma: Any, colour: Colour = COLOUR_NOT_STATED
    ) -> tuple[DeviceArray, Placement]:
        """The picture in the middle, resized (bilinear, centres on centres) with its shape kept.

        Args:
            luma: ``(H, W)`` or ``(1, H, W)`` of uint8 in device memory.
            chroma: ``(ceil(H / 2), 2 ceil(W / 2))`` of uint8 there, Cb and Cr in turn.
            colour: Colour facts of the stream; BT.601 of limited range if it states none.

        Returns:
            ``(1, 3, height, width)``, red first; and where the picture lies.

        Raises:
            MediaError: They are no such planes.
        """
        y, uv = (frame_from_array(plane, self._device, self._stream) for plane in (luma, chroma))
        size = (y.shape[1], y.shape[2])
        wanted = (1, -(-size[0] // 2), -(-size[1] // 2) * 2)
        if y.shape[0] != 1 or uv.shape != wanted:
            raise MediaError(
                f"got luma {y.shape} and chroma {uv.shape}, need chroma {wanted} for it: Cb and Cr "
                "in turn, at half the size"
            )
        place, (height, width) = placement(size, self._side), self._side
        arguments = (
            *(y.address, y.strides[1], uv.address, uv.strides[1], *size, *kernel_matrix(colour)),
            *(place.top, place.left, place.height, place.width, height, width, self._fill),
            self._tensor.address,
        )
        kernel, stream = f"letterbox_{self._kind}", self._stream
        self._device.launch(kernel, height * width, 1, arguments, stream)
        self._device.record(self._done, stream)
        self._device.finish(self._done)
        plane, row = height * width * self._item, width * self._item
        shape, strides = (1, 3, height, width), (3 * plane, plane, row, self._item)
        tensor = DeviceArray(self._tensor.address, shape, strides, self._tensor, self._kind)
        return tensor, place


def placement(size: Size, side: Size) -> Placement:
    """Where a picture of a size lies in a tensor of another: in the middle, as large as it fits.

    Example:
        >>> placement((1080, 1920), (640, 640))
        Placement(top=140, left=0, height=360, width=640, scale=0.3333333333333333)
    """
    scale = min(side[0] / size[0], side[1] / size[1])
    height, width = (max(1, round(length * scale)) for length in size)
    return Placement((side[0] - height) // 2, (side[1] - width) // 2, height, width, scale)


def kernel_matrix(colour: Colour) -> tuple[int, int, int, int, int, int]:
    """Black, and what luma, Cb and Cr add to red, green and blue, in 1 / 65536 (H.273, 38 to 43).

    Example:
        >>> kernel_matrix(Colour(full_range=False, matrix=1))
        (16, 76309, 117489, -13975, -34925, 138438)
    """
    red, blue = matrix_weights(colour)
    green = 1 - red - blue
    black, gain, chroma = (0, 1.0, 1.0) if colour.full_range else (16, 255 / 219, 255 / 224)
    red_cr, blue_cb = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
    factors = (gain, red_cr, -blue_cb * blue / green, -red_cr * red / green, blue_cb)
    luma, from_cr, green_cb, green_cr, from_cb = (round(factor * ONE) for factor in factors)
    return black, luma, from_cr, green_cb, green_cr, from_cb
