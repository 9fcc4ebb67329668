"""Pictures that lie in device memory, as other libraries hand them over and take them."""

from dataclasses import dataclass
from typing import Any

from edgecar.errors import MediaError


@dataclass(frozen=True)
class DeviceArray:
    """Codes ``(channels, height, width)`` in device memory.

    What edgecar gives is overwritten by the next frame but one of the same camera; copy what you
    keep. torch, CuPy and Numba take it as it is, by ``__cuda_array_interface__``.

    Attributes:
        address: Of the first code.
        shape: ``(channels, height, width)``.
        strides: Bytes from plane to plane and from row to row.
        owner: Keeps the memory alive.
    """

    address: int
    shape: tuple[int, int, int]
    strides: tuple[int, int]
    owner: Any = None

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": "|u1",
            "data": (self.address, False),
            "strides": (*self.strides, 1),
            "version": 3,
        }


def is_on_device(array: Any) -> bool:
    """Whether an array lies in device memory, as far as it says so."""
    return hasattr(array, "__cuda_array_interface__")


def device_array(array: Any) -> DeviceArray:
    """A picture in device memory, of whatever library.

    Args:
        array: ``(height, width)`` or ``(channels, height, width)`` of uint8, whose rows are whole.

    Raises:
        MediaError: It is something else.
    """
    facts = array.__cuda_array_interface__
    shape = tuple(facts["shape"])
    strides = facts.get("strides")
    if facts["typestr"] not in ("|u1", "<u1") or len(shape) not in (2, 3):
        raise MediaError(
            f"got a device array {facts['typestr']} {shape}, need uint8 (H, W) or (C, H, W)"
        )
    channels, height, width = shape if len(shape) == 3 else (1, *shape)
    if strides is None:
        strides = (height * width, width, 1)
    elif len(shape) == 2:
        strides = (height * strides[0], *strides)
    if strides[2] != 1 or min(strides) < 0:
        raise MediaError(f"got a device array with strides {strides}, need whole rows")
    return DeviceArray(facts["data"][0], (channels, height, width), (strides[0], strides[1]), array)
