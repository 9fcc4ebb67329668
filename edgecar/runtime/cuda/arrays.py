"""Arrays in device memory, exchanged with other libraries without a copy.

Two protocols do the same: DLPack (torch, JAX, CuPy, ONNX Runtime's training build) and
``__cuda_array_interface__`` (CuPy, Numba, pycuda, torch). Both are taken and given.
"""

import ctypes
import weakref
from ctypes import CFUNCTYPE, POINTER, PYFUNCTYPE, c_char_p, c_int, c_void_p, py_object, pythonapi
from dataclasses import dataclass
from typing import Any

from edgecar.errors import MediaError
from edgecar.runtime.cuda.device import Device

CUDA, CUDA_MANAGED = 2, 13
"""Values of ``DLDeviceType``: memory of a GPU, and memory that moves between it and the CPU."""

KINDS = {"uint8": ("|u1", 1, 8), "fp32": ("<f4", 2, 32), "fp16": ("<f2", 2, 16)}
"""Name in the array interface, and DLPack's code and bits, of each kind of value."""

FRESH, USED = b"dltensor", b"used_dltensor"
DEFAULT_STREAM, STATES_STREAM = 1, 3  # handle; first version of the array interface with streams
AMBIGUOUS_STREAM = 0  # the standard forbids it: the default stream is 1, or 2 of each thread


@dataclass(frozen=True)
class DeviceArray:
    """An array in device memory, complete: any stream may read it.

    Frames that edgecar gives are overwritten by the next but one of the same camera; copy what you
    keep. torch, CuPy and Numba take it as it is, by DLPack or ``__cuda_array_interface__``.

    Attributes:
        address: Address of the first value.
        shape: Length of each axis; ``(channels, height, width)`` for frames.
        strides: Bytes from value to value along each axis.
        owner: Keeps the memory alive.
        kind: Type of the values: ``uint8``, ``fp16`` or ``fp32``.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    owner: Any = None
    kind: str = "uint8"

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": KINDS[self.kind][0],
            "data": (self.address, False),
            "strides": self.strides,
            "version": 3,
            "stream": None,  # nothing to wait for
        }

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,  # the old form serves all
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A capsule for another library's ``from_dlpack``; any stream may read it.

        Raises:
            BufferError: It is wanted elsewhere, or copied, or the stream is ambiguous.
        """
        if stream == AMBIGUOUS_STREAM:
            raise BufferError("stream 0 is ambiguous; give 1 for the default stream, or a handle")
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError("got copy or another device, but it is lent where it lies; copy it")
        return _capsule_from_array(self)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, 0


def is_on_device(array: Any) -> bool:
    """Return True if an array says that it lies in device memory."""
    if hasattr(array, "__cuda_array_interface__"):
        return True
    kinds = (CUDA, CUDA_MANAGED)
    return hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] in kinds


def frame_from_array(array: Any, device: Device, stream: Any) -> DeviceArray:
    """Return a frame of any library; ``stream`` waits until it is complete.

    DLPack comes first: its protocol says what must be waited for. The other one does so from
    version 3 on; an array of an earlier version counts as still being made on the default stream.

    Args:
        array: ``(height, width)`` or ``(channels, height, width)`` of uint8, whose rows are whole.
        device: Device that it must lie on.
        stream: Stream of the device that it will be read on.

    Raises:
        MediaError: It is something else, or on another GPU.
    """
    if isinstance(array, DeviceArray):
        return array
    if hasattr(array, "__dlpack__"):
        kind, ordinal = array.__dlpack_device__()
        if kind not in (CUDA, CUDA_MANAGED) or ordinal:
            raise MediaError(f"got an array on device {kind}:{ordinal}, need one on GPU 0")
        found = array_from_capsule(array.__dlpack__(stream=device.handle(stream)))
    else:
        given = array.__cuda_array_interface__
        shape = tuple(given["shape"])
        kinds = {typestr: kind for kind, (typestr, _, _) in KINDS.items()}
        kind = kinds.get(given["typestr"].replace("<u1", "|u1"), given["typestr"])
        strides = given.get("strides") or _whole_strides(shape)
        found = DeviceArray(given["data"][0], shape, tuple(strides), array, kind)
        stated = given.get("version", 0) >= STATES_STREAM
        making = given.get("stream") if stated else DEFAULT_STREAM
        if making is not None:
            device.join(stream, making)
    shape, strides = found.shape, found.strides
    if found.kind != "uint8" or len(shape) not in (2, 3):
        raise MediaError(f"got a device array {found.kind} {shape}, need uint8 (H, W) or (C, H, W)")
    if strides[-1] != 1 or min(strides) < 0:
        raise MediaError(f"got a device array with strides {strides}, need whole rows")
    if len(shape) == 2:
        shape, strides = (1, *shape), (shape[0] * strides[0], *strides)
    return DeviceArray(found.address, shape, strides, found.owner)


class _Managed(ctypes.Structure):
    """``DLManagedTensor``, with the fields of its ``DLTensor`` in place."""

    _fields_ = (
        ("data", c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", POINTER(ctypes.c_int64)),
        ("strides", POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("context", c_void_p),
        ("deleter", c_void_p),
    )


_lent: dict[int, tuple[Any, ...]] = {}
"""Structures held by other libraries until they call the deleter, by address."""


_give_back = CFUNCTYPE(None, c_void_p)(lambda address: _lent.pop(address, None))

# Capsules by address: one that is being freed must not be counted a reference to.
_is_valid = PYFUNCTYPE(c_int, c_void_p, c_char_p)(("PyCapsule_IsValid", pythonapi))
_pointer = PYFUNCTYPE(c_void_p, c_void_p, c_char_p)(("PyCapsule_GetPointer", pythonapi))
_rename = PYFUNCTYPE(c_int, c_void_p, c_char_p)(("PyCapsule_SetName", pythonapi))
_new = PYFUNCTYPE(py_object, c_void_p, c_char_p, c_void_p)(("PyCapsule_New", pythonapi))


def _discard(capsule: int) -> None:
    """Give back what is in a capsule that is freed, if nobody took it."""
    if _is_valid(capsule, FRESH):
        _lent.pop(_pointer(capsule, FRESH), None)


_discarded = PYFUNCTYPE(None, c_void_p)(_discard)


def _capsule_from_array(array: DeviceArray) -> Any:
    """Lend an array; its owner lives until the other library is done with it."""
    _, code, bits = KINDS[array.kind]
    count = len(array.shape)
    shape = (ctypes.c_int64 * count)(*array.shape)
    strides = (ctypes.c_int64 * count)(*(step * 8 // bits for step in array.strides))
    deleter = ctypes.cast(_give_back, c_void_p)
    managed = _Managed(
        *(array.address, CUDA, 0, count, code, bits, 1, shape, strides, 0, None, deleter)
    )
    address = ctypes.addressof(managed)
    _lent[address] = (managed, shape, strides, array.owner)
    return _new(address, FRESH, ctypes.cast(_discarded, c_void_p))


def array_from_capsule(capsule: Any) -> DeviceArray:
    """Take what another library lends; it is given back when nobody holds the array's owner.

    Raises:
        MediaError: It is no capsule, or was taken before.
    """
    if not _is_valid(id(capsule), FRESH):
        raise MediaError("got no fresh DLPack capsule; call __dlpack__ again")
    address = _pointer(id(capsule), FRESH)
    managed = _Managed.from_address(address)
    code, bits = managed.code, managed.bits * managed.lanes
    kinds = {(code, bits): kind for kind, (_, code, bits) in KINDS.items()}
    kind = kinds.get((code, bits), f"of type {code} with {bits} bits")
    shape = tuple(managed.shape[: managed.ndim])
    steps = managed.strides[: managed.ndim] if managed.strides else _whole_strides(shape)
    strides = tuple(step * bits // 8 for step in steps)
    _rename(id(capsule), USED)
    loan = _Loan()
    if managed.deleter:
        weakref.finalize(loan, CFUNCTYPE(None, c_void_p)(managed.deleter), address)
    return DeviceArray((managed.data or 0) + managed.byte_offset, shape, strides, loan, kind)


class _Loan:
    """Somebody holds what another library lent for as long as this lives."""


def _whole_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of an array without gaps, in values."""
    strides: list[int] = []
    step = 1
    for side in reversed(shape):
        strides.insert(0, step)
        step *= side
    return tuple(strides)
