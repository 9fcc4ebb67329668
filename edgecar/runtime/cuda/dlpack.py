"""DLPack capsules: arrays in device memory, from one library to another without a copy.

The structures are those of ``dlpack.h``, version 0.8, which every library still takes; the protocol
around them (``__dlpack__``, ``__dlpack_device__``) is that of the Python array API standard.
"""

import ctypes
import weakref
from ctypes import CFUNCTYPE, POINTER, PYFUNCTYPE, Structure, c_char_p, c_int, c_void_p, py_object
from dataclasses import dataclass
from typing import Any

from edgecar.errors import MediaError

CUDA, CUDA_MANAGED = 2, 13
"""Of ``DLDeviceType``: memory of a GPU, and memory that moves between it and the CPU."""

INTEGER, UNSIGNED, FLOAT = 0, 1, 2
"""Of ``DLDataTypeCode``."""

FRESH, USED = b"dltensor", b"used_dltensor"
AMBIGUOUS_STREAM = 0  # the standard forbids it: the default stream is 1, or 2 of each thread


@dataclass(frozen=True)
class Layout:
    """Where an array lies.

    Attributes:
        address: Of its first value.
        shape: Of it.
        strides: In values, not bytes.
        code: Of ``DLDataTypeCode``.
        bits: Of a value.
        device_type: Of ``DLDeviceType``.
        ordinal: Number of the device.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    code: int
    bits: int
    device_type: int = CUDA
    ordinal: int = 0


class _Tensor(Structure):
    """``DLTensor``."""

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
    )


_Deleter = CFUNCTYPE(None, c_void_p)


class _Managed(Structure):
    """``DLManagedTensor``."""

    _fields_ = (("tensor", _Tensor), ("context", c_void_p), ("deleter", c_void_p))


_lent: dict[int, tuple[Any, ...]] = {}
"""What others hold, by the address of its structure, until they call its deleter."""


def _give_back(address: int) -> None:
    _lent.pop(address, None)


_returned = _Deleter(_give_back)

# By address: an object that is being freed must not be counted a reference to.
_is_fresh = PYFUNCTYPE(c_int, c_void_p, c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer_of_freed = PYFUNCTYPE(c_void_p, c_void_p, c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_make = PYFUNCTYPE(py_object, c_void_p, c_char_p, c_void_p)(("PyCapsule_New", ctypes.pythonapi))
_is_called = PYFUNCTYPE(c_int, py_object, c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer = PYFUNCTYPE(c_void_p, py_object, c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_rename = PYFUNCTYPE(c_int, py_object, c_char_p)(("PyCapsule_SetName", ctypes.pythonapi))


def _discard(capsule: int) -> None:
    """A capsule is freed; if nobody took what is in it, that goes back."""
    if _is_fresh(capsule, FRESH):
        _give_back(_pointer_of_freed(capsule, FRESH))


_discarded = PYFUNCTYPE(None, c_void_p)(_discard)


def capsule_of(layout: Layout, owner: Any) -> Any:
    """A capsule for whoever asked `__dlpack__`; the owner lives until it is done with."""
    count = len(layout.shape)
    shape = (ctypes.c_int64 * count)(*layout.shape)
    strides = (ctypes.c_int64 * count)(*layout.strides)
    managed = _Managed()
    tensor = managed.tensor
    tensor.data, tensor.ndim = layout.address, count
    tensor.device_type, tensor.device_id = layout.device_type, layout.ordinal
    tensor.code, tensor.bits, tensor.lanes = layout.code, layout.bits, 1
    tensor.shape, tensor.strides = shape, strides
    managed.deleter = ctypes.cast(_returned, c_void_p)
    address = ctypes.addressof(managed)
    _lent[address] = (managed, shape, strides, owner)
    return _make(address, FRESH, ctypes.cast(_discarded, c_void_p))


def layout_from_capsule(capsule: Any) -> tuple[Layout, Any]:
    """Take what another library lends.

    Returns:
        Where it lies, and what must be kept for as long as it is used.

    Raises:
        MediaError: It is no capsule, or was taken before.
    """
    if not _is_called(capsule, FRESH):
        raise MediaError("got no fresh DLPack capsule; call __dlpack__ again")
    address = _pointer(capsule, FRESH)
    managed = _Managed.from_address(address)
    tensor = managed.tensor
    count = tensor.ndim
    shape = tuple(tensor.shape[:count])
    strides = tuple(tensor.strides[:count]) if tensor.strides else _whole(shape)
    layout = Layout(
        (tensor.data or 0) + tensor.byte_offset,
        shape,
        strides,
        tensor.code,
        tensor.bits * tensor.lanes,
        tensor.device_type,
        tensor.device_id,
    )
    _rename(capsule, USED)
    return layout, _Loan(address, managed.deleter)


class _Loan:
    """Gives a tensor back once nobody needs it."""

    def __init__(self, address: int, deleter: int | None) -> None:
        if deleter:
            weakref.finalize(self, _Deleter(deleter), address)


def _whole(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of an array without gaps."""
    strides: list[int] = []
    step = 1
    for side in reversed(shape):
        strides.insert(0, step)
        step *= side
    return tuple(strides)
