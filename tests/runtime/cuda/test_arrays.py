"""Device pointers in and out: the CUDA array interface and DLPack."""

import ctypes
import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from edgecar.engines.fake import FakeEngine
from edgecar.errors import MediaError
from edgecar.runtime.cuda.arrays import (
    CUDA,
    UNSIGNED,
    DeviceArray,
    DeviceTensor,
    Layout,
    arrival,
    capsule_of,
    layout_from_capsule,
)
from edgecar.runtime.cuda.runner import CudaRunner, ReferenceTiles
from tests.runtime.cuda.device_arrays import from_device, on_device
from tests.runtime.cuda.host_device import HANDLES, HostDevice
from tests.runtime.cuda.small_network import HALO, InTurn, a_clip, blurred

CPU = 1  # kDLCPU


class Owner:
    """Something that memory lives as long as."""


def of_cpu(array: np.ndarray) -> Layout:
    """A layout as of a GPU's array, but where NumPy may look."""
    strides = tuple(step // array.itemsize for step in array.strides)
    bits = 8 * array.itemsize
    return Layout(array.ctypes.data, array.shape, strides, UNSIGNED, bits, CPU)


class Lent:
    """What `numpy.from_dlpack` takes."""

    def __init__(self, layout: Layout, owner: object) -> None:
        self.layout, self.owner = layout, owner

    def __dlpack__(self, **_options: object):
        return capsule_of(self.layout, self.owner)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.layout.device_type, 0


@pytest.mark.parametrize("shape", [(3, 4, 5), (7,), (1, 2, 3, 4)])
def test_another_library_reads_a_capsule(shape) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)[..., ::2]
    assert (np.from_dlpack(Lent(of_cpu(array), array)) == array).all()


def test_owner_lives_until_the_other_library_is_done() -> None:
    owner, array = Owner(), np.zeros(4, np.uint8)
    gone = weakref.ref(owner)
    seen = np.from_dlpack(Lent(of_cpu(array), owner))
    del owner
    gc.collect()
    assert gone() is not None
    del seen
    gc.collect()
    assert gone() is None


def test_capsule_that_nobody_takes_gives_its_owner_back() -> None:
    owner, array = Owner(), np.zeros(4, np.uint8)
    gone = weakref.ref(owner)
    capsule = capsule_of(of_cpu(array), owner)
    del owner
    assert gone() is not None
    del capsule
    gc.collect()
    assert gone() is None


def test_capsule_of_another_library_is_read_and_given_back() -> None:
    array = np.arange(24, dtype=np.uint16).reshape(4, 6)[:, 1:5]
    before = ctypes.py_object(array)  # keeps it
    layout, loan = layout_from_capsule(array.__dlpack__())
    assert (layout.address, layout.shape, layout.strides) == (array.ctypes.data, (4, 4), (6, 1))
    assert (layout.code, layout.bits, layout.device_type) == (UNSIGNED, 16, CPU)
    gone = weakref.ref(array)
    del array, before
    gc.collect()
    assert gone() is not None  # lent
    del loan
    gc.collect()
    assert gone() is None


def test_capsule_of_torch_is_read() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(12, dtype=torch.uint8).reshape(3, 4)
    layout, _ = layout_from_capsule(torch.utils.dlpack.to_dlpack(tensor))
    assert (layout.address, layout.shape, layout.strides) == (tensor.data_ptr(), (3, 4), (4, 1))


def test_capsule_is_taken_once() -> None:
    capsule = capsule_of(of_cpu(np.zeros(4, np.uint8)), None)
    layout_from_capsule(capsule)
    with pytest.raises(MediaError, match="no fresh DLPack capsule"):
        layout_from_capsule(capsule)
    with pytest.raises(MediaError, match="no fresh DLPack capsule"):
        layout_from_capsule(None)


def test_device_array_comes_back_as_it_went() -> None:
    owner = Owner()
    array = DeviceArray(4096, (3, 4, 5), (64, 16), owner)
    assert array.__dlpack_device__() == (CUDA, 0)
    layout, _ = layout_from_capsule(array.__dlpack__(stream=1, max_version=(1, 0)))
    assert layout == Layout(4096, (3, 4, 5), (64, 16, 1), UNSIGNED, 8, CUDA, 0)


def test_tensor_counts_strides_in_values() -> None:
    tensor = DeviceTensor(4096, (1, 3, 4, 5), (120, 40, 10, 2), None, "fp16")
    layout, _ = layout_from_capsule(tensor.__dlpack__())
    assert (layout.strides, layout.bits) == ((60, 20, 5, 1), 16)
    assert tensor.__cuda_array_interface__["typestr"] == "<f2"
    assert tensor.__cuda_array_interface__["strides"] == (120, 40, 10, 2)


@pytest.mark.parametrize("wish", [{"stream": 0}, {"copy": True}, {"dl_device": (CPU, 0)}])
def test_wish_that_cannot_be_granted_is_refused(wish) -> None:
    with pytest.raises(BufferError):
        DeviceArray(4096, (1, 4, 4), (16, 4)).__dlpack__(**wish)


class Foreign:
    """An array of another library, which is still being written on a stream of its own.

    Args:
        device: Whose memory it lies in.
        frame: That it will hold.
        heeds: Whether it makes the reader's stream wait, as the protocol asks.
    """

    def __init__(self, device: HostDevice, frame: np.ndarray, heeds: bool = True) -> None:
        self._device, self._heeds = device, heeds
        self.array = on_device(device, np.zeros_like(frame), frame.shape[2])
        self.stream = device.stream()
        memory = self.array.owner.host.reshape(frame.shape)
        device.later(self.stream, lambda: np.copyto(memory, frame))

    def done(self) -> None:
        event = self._device.event()
        self._device.record(event, self.stream)
        self._device.finish(event)


class ByDlpack(Foreign):
    def __dlpack__(self, stream: int | None = None):
        if self._heeds:
            event = self._device.event()
            self._device.record(event, self.stream)
            self._device.wait(self._device._streams[stream - HANDLES], event)
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, 0


class ByInterface(Foreign):
    @property
    def __cuda_array_interface__(self) -> dict:
        stream = self._device.handle(self.stream) if self._heeds else None
        return {**self.array.__cuda_array_interface__, "stream": stream}


@pytest.mark.parametrize("kind", [ByDlpack, ByInterface])
@pytest.mark.parametrize(("heeds", "differs"), [(True, False), (False, True)])
def test_frame_that_is_still_being_made_is_waited_for(kind, heeds, differs) -> None:
    """And the control: where nobody waits, other bytes come out for some lot."""
    wrong = []
    for seed in range(12):
        device = HostDevice(seed)
        tiles = ReferenceTiles(device, FakeEngine(blurred), (2, 16, 20))
        restorer = InTurn(CudaRunner(device, tiles, HALO))
        wanted = InTurn(CudaRunner(device, tiles, HALO))
        for frame in a_clip(seed, (32, 40), frames=3):
            foreign = kind(device, frame, heeds)
            restored = from_device(restorer(foreign)).copy()
            wrong.append((restored != wanted(frame)).any())
            foreign.done()
    assert any(wrong) is differs


def test_array_on_another_gpu_is_refused() -> None:
    class Elsewhere(ByDlpack):
        def __dlpack_device__(self) -> tuple[int, int]:
            return CUDA, 1

    frame = np.zeros((1, 32, 40), np.uint8)
    with pytest.raises(MediaError, match="device 2:1, need one on GPU 0"):
        arrival(Elsewhere(HostDevice(), frame))


def test_array_of_the_cpu_is_not_taken_for_one_of_the_gpu() -> None:
    device = HostDevice()
    tiles = ReferenceTiles(device, FakeEngine(blurred), (2, 16, 20))
    frame = np.zeros((32, 40), np.uint8)  # has __dlpack__, too
    assert isinstance(InTurn(CudaRunner(device, tiles, HALO))(frame), np.ndarray)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"typestr": "<f4"}, "<f4"),
        ({"shape": (2, 2, 2, 2)}, "(2, 2, 2, 2)"),
        ({"strides": (8, 2)}, "need whole rows"),
    ],
)
def test_device_array_of_another_kind_is_refused(change, said) -> None:
    metadata = {"typestr": "|u1", "shape": (4, 8), "data": (4096, False), "version": 3, **change}
    with pytest.raises(MediaError) as refused:
        arrival(SimpleNamespace(__cuda_array_interface__=metadata))
    assert said in str(refused.value)


@pytest.mark.parametrize(("version", "stream"), [(2, 1), (3, None)])
def test_array_that_states_no_stream_counts_as_unfinished(version, stream) -> None:
    """On the default stream; and without strides it is whole."""
    metadata = {"typestr": "|u1", "shape": (2, 4, 8), "data": (4096, True), "version": version}
    found = arrival(SimpleNamespace(__cuda_array_interface__=metadata))
    assert found.stream == stream
    assert (found.array.shape, found.array.strides) == ((2, 4, 8), (32, 8))
