"""Restored frames as detectors take them, without leaving the GPU."""

from dataclasses import dataclass
from typing import Any, Literal

from edgecar.errors import MediaError
from edgecar.media.color import matrix_weights
from edgecar.media.frame import COLOUR_NOT_STATED, Colour
from edgecar.runtime.cuda.arrays import DeviceArray, DeviceTensor, arrival
from edgecar.runtime.cuda.device import Device
from edgecar.runtime.cuda.device_stream import GROUP
from edgecar.spec import Size

ONE = 1 << 16  # of the kernels' colour matrix (kernels/detector.cu)
GREY = 114  # what YOLO's own letterbox is filled with
ALIGNED_PX = 2  # luma samples of a sample of chroma, along either side

ITEM_BYTES = {"fp32": 4, "fp16": 2}


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in a detector's tensor; boxes found there are scaled back with it.

    Attributes:
        top: Row of its first pixel.
        left: Column of it.
        height: Height of the picture there.
        width: Width of the picture there.
        scale: By which it was made smaller or larger.
    """

    top: int
    left: int
    height: int
    width: int
    scale: float


class DetectorInput:
    """Makes a detector's tensor of luma and chroma in device memory, as NV12 has them.

    The tensor is overwritten by the next call.

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
        self._stream, self._done = device.stream(), device.event()
        self._tensor = device.memory(3 * side[0] * side[1] * ITEM_BYTES[kind])
        self._bgr = device.memory(1)

    def __call__(
        self, luma: Any, chroma: Any, colour: Colour = COLOUR_NOT_STATED
    ) -> tuple[DeviceTensor, Placement]:
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
        picture, size = self._picture(luma, chroma, colour)
        place = placement(size, self._side)
        height, width = self._side
        # Integers as the kernel takes them, after those of the picture.
        box = (place.top, place.left, place.height, place.width, height, width, self._fill)
        self._run(f"letterbox_{self._kind}", height * width, (*picture, *box, self._tensor.address))
        item = ITEM_BYTES[self._kind]
        strides = (3 * height * width * item, height * width * item, width * item, item)
        shape = (1, 3, height, width)
        found = DeviceTensor(self._tensor.address, shape, strides, self._tensor, self._kind)
        return found, place

    def bgr(self, luma: Any, chroma: Any, colour: Colour = COLOUR_NOT_STATED) -> DeviceTensor:
        """The picture in its own size, ``(H, W, 3)`` of uint8, blue first; arguments as above."""
        picture, (height, width) = self._picture(luma, chroma, colour)
        count = height * width * 3
        if self._bgr.size != count:
            self._bgr = self._device.memory(count)
        groups = height * -(-width // GROUP)
        self._run("nv12_to_bgr", groups, (*picture, self._bgr.address))
        shape, strides = (height, width, 3), (width * 3, 3, 1)
        return DeviceTensor(self._bgr.address, shape, strides, self._bgr, "uint8")

    def _picture(self, luma: Any, chroma: Any, colour: Colour) -> tuple[tuple[int, ...], Size]:
        """Return the arguments that both kernels take first, and the size of the picture."""
        y, uv = self._plane(luma), self._plane(chroma)
        _, height, width = y.shape
        wanted = (1, -(-height // ALIGNED_PX), -(-width // ALIGNED_PX) * ALIGNED_PX)
        if y.shape[0] != 1 or uv.shape != wanted:
            raise MediaError(
                f"got luma {y.shape} and chroma {uv.shape}, need chroma {wanted} for it: Cb and Cr "
                "in turn, at half the size"
            )
        planes = (y.address, y.strides[1], uv.address, uv.strides[1])
        return (*planes, height, width, *kernel_matrix(colour)), (height, width)

    def _plane(self, plane: Any) -> DeviceArray:
        found = arrival(plane, self._device.handle(self._stream))
        if found.stream is not None:
            self._device.join(self._stream, found.stream)
        return found.array

    def _run(self, kernel: str, items: int, arguments: tuple[int, ...]) -> None:
        self._device.launch(kernel, items, 1, arguments, self._stream)
        self._device.record(self._done, self._stream)
        self._device.finish(self._done)


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
    luma, *others = (round(factor * ONE) for factor in factors)
    from_cr, green_cb, green_cr, from_cb = others
    return black, luma, from_cr, green_cb, green_cr, from_cb
