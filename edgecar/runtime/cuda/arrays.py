"""Arrays in device memory, exchanged with other libraries without a copy.

Two protocols do the same: DLPack (torch, JAX, CuPy, ONNX Runtime's training build) and
``__cuda_array_interface__`` (CuPy, Numba, pycuda, torch). Both are taken and given.
"""

import ctypes
import weakref
from ctypes import CFUNCTYPE, POINTER, PYFUNCTYPE, Structure, c_char_p, c_int, c_void_p, py_object
from dataclasses import dataclass
from typing import Any

from edgecar.errors import MediaError

CUDA, CUDA_MANAGED = 2, 13
"""Values of ``DLDeviceType``: memory of a GPU, and memory that moves between it and the CPU."""

INTEGER, UNSIGNED, FLOAT = 0, 1, 2
"""Values of ``DLDataTypeCode``."""

FRESH, USED = b"dltensor", b"used_dltensor"
DEFAULT_STREAM, STATES_STREAM = 1, 3  # handle; first version of the array interface with streams
AMBIGUOUS_STREAM = 0  # the standard forbids it: the default stream is 1, or 2 of each thread


@dataclass(frozen=True)
class Layout:
    """Where an array lies.

    Attributes:
        address: Address of the first value.
        shape: Length of each axis.
        strides: In values, not bytes.
        code: Kind of number, a ``DLDataTypeCode``.
        bits: Bits of a value.
        device_type: Kind of device, a ``DLDeviceType``.
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
        ("device_stream", ctypes.c_uint16),
        ("shape", POINTER(ctypes.c_int64)),
        ("strides", POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = CFUNCTYPE(None, c_void_p)


class _Managed(Structure):
    """``DLManagedTensor``."""

    _fields_ = (("tensor", _Tensor), ("context", c_void_p), ("deleter", c_void_p))


_lent: dict[int, tuple[Any, ...]] = {}
"""Structures held by other libraries until they call the deleter, by address."""


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
    tensor.code, tensor.bits, tensor.device_stream = layout.code, layout.bits, 1
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
        tensor.bits * tensor.device_stream,
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


@dataclass(frozen=True)
class _OnDevice:
    """Base of arrays given to other libraries; complete, so that any stream may read them."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    owner: Any = None

    @property
    def _byte_strides(self) -> tuple[int, ...]:
        raise NotImplementedError

    @property
    def _type(self) -> tuple[str, int, int]:
        """As the array interface names it, and DLPack's code and bits."""
        raise NotImplementedError

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self._type[0],
            "data": (self.address, False),
            "strides": self._byte_strides,
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
        """A capsule for another library's ``from_dlpack``.

        Args:
            stream: Stream that will read it; any will do, because it is complete.
            max_version: Newest form that the caller takes.
            dl_device: Where it is wanted; here or nowhere.
            copy: True asks for a copy, which is the caller's to make.

        Raises:
            BufferError: It is wanted elsewhere, or copied, or the stream is ambiguous.
        """
        if stream == AMBIGUOUS_STREAM:
            raise BufferError("stream 0 is ambiguous; give 1 for the default stream, or a handle")
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError("got copy or another device, but it is lent where it lies; copy it")
        _, code, bits = self._type
        strides = tuple(step * 8 // bits for step in self._byte_strides)
        return capsule_of(Layout(self.address, self.shape, strides, code, bits), self.owner)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, 0


@dataclass(frozen=True)
class DeviceArray(_OnDevice):
    """Codes ``(channels, height, width)`` in device memory.

    What edgecar gives is overwritten by the next frame but one of the same camera; copy what you
    keep. torch, CuPy and Numba take it as it is, by ``__cuda_array_interface__`` or DLPack.

    Attributes:
        address: Address of the first code.
        shape: ``(channels, height, width)``.
        strides: Bytes from plane to plane and from row to row.
        owner: Keeps the memory alive.
    """

    shape: tuple[int, int, int]
    strides: tuple[int, int]

    @property
    def _byte_strides(self) -> tuple[int, ...]:
        return (*self.strides, 1)

    @property
    def _type(self) -> tuple[str, int, int]:
        return "|u1", UNSIGNED, 8


@dataclass(frozen=True)
class DeviceTensor(_OnDevice):
    """A tensor without gaps in device memory, such as a detector's input.

    Attributes:
        address: Address of the first value.
        shape: Length of each axis.
        strides: In bytes.
        owner: Keeps the memory alive.
        kind: ``fp32``, ``fp16`` or ``uint8``.
    """

    kind: str = "fp32"

    @property
    def _byte_strides(self) -> tuple[int, ...]:
        return self.strides

    @property
    def _type(self) -> tuple[str, int, int]:
        types = {"fp32": ("<f4", FLOAT, 32), "fp16": ("<f2", FLOAT, 16), "uint8": ("|u1", 1, 8)}
        return types[self.kind]


def is_on_device(array: Any) -> bool:
    """Return True if an array says that it lies in device memory."""
    if hasattr(array, "__cuda_array_interface__"):
        return True
    of_gpus = (CUDA, CUDA_MANAGED)
    return hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] in of_gpus


@dataclass(frozen=True)
class Arrival:
    """A picture of another library.

    Attributes:
        array: Where it lies.
        stream: Handle of the stream whose work so far makes it; None: it is complete, or what makes
            it was told to be waited for.
    """

    array: DeviceArray
    stream: int | None


def arrival(array: Any, stream: int | None = None) -> Arrival:
    """Return a picture in device memory, whatever library it is of.

    DLPack comes first: its protocol says what must be waited for. The other one does so from
    version 3 on; an array of an earlier version counts as still being made on the default stream.

    Args:
        array: ``(height, width)`` or ``(channels, height, width)`` of uint8, whose rows are whole.
        stream: Handle of the stream that it will be read on, for libraries that make streams wait
            for one another (DLPack).

    Raises:
        MediaError: It is something else, or on another GPU.
    """
    if isinstance(array, DeviceArray):
        return Arrival(array, None)
    if hasattr(array, "__dlpack__"):
        return Arrival(_from_dlpack(array, stream), None)
    metadata = array.__cuda_array_interface__
    shape, strides = tuple(metadata["shape"]), metadata.get("strides")
    kind = metadata["typestr"]
    if strides is None and shape:
        strides = (*((shape[-2] * shape[-1],) if len(shape) == 3 else ()), shape[-1], 1)
    found = _picture(metadata["data"][0], shape, strides, kind in ("|u1", "<u1"), kind, array)
    stated = metadata.get("version", 0) >= STATES_STREAM
    return Arrival(found, metadata.get("stream") if stated else DEFAULT_STREAM)


def _from_dlpack(array: Any, stream: int | None) -> DeviceArray:
    kind, ordinal = array.__dlpack_device__()
    if kind not in (CUDA, CUDA_MANAGED) or ordinal:
        raise MediaError(f"got an array on device {kind}:{ordinal}, need one on GPU 0")
    capsule = array.__dlpack__() if stream is None else array.__dlpack__(stream=stream)
    layout, loan = layout_from_capsule(capsule)
    is_codes = (layout.code, layout.bits) == (UNSIGNED, 8)
    words = f"of type {layout.code} with {layout.bits} bits"
    return _picture(layout.address, layout.shape, layout.strides, is_codes, words, loan)


def _picture(
    address: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    is_codes: bool,
    kind: str,
    owner: Any,
) -> DeviceArray:
    if not is_codes or len(shape) not in (2, 3):
        raise MediaError(f"got a device array {kind} {shape}, need uint8 (H, W) or (C, H, W)")
    channels, height, width = shape if len(shape) == 3 else (1, *shape)
    if len(shape) == 2:
        strides = (height * strides[0], *strides)
    if strides[2] != 1 or min(strides) < 0:
        raise MediaError(f"got a device array with strides {strides}, need whole rows")
    return DeviceArray(address, (channels, height, width), (strides[0], strides[1]), owner)
