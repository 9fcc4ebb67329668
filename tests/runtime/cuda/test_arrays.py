"""Device pointers in and out: the CUDA array interface and DLPack."""

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from edgecar.errors import MediaError
from edgecar.runtime.cuda import arrays
from edgecar.runtime.cuda.arrays import CUDA, DeviceArray, array_from_capsule, frame_from_array
from tests.runtime.cuda.host_device import HANDLES, HostDevice, from_device, on_device
from tests.runtime.cuda.small_network import a_clip, runner_of

CPU = 1  # kDLCPU


class Owner:
    """Something that memory lives as long as."""


@pytest.fixture
def lend(monkeypatch):
    """A function that makes a device array where NumPy may look."""
    monkeypatch.setattr(arrays, "CUDA", CPU)

    def lend(array: np.ndarray, owner: object = None) -> DeviceArray:
        kind = {1: "uint8", 2: "fp16", 4: "fp32"}[array.itemsize]
        return DeviceArray(array.ctypes.data, array.shape, array.strides, owner, kind)

    return lend


@pytest.mark.parametrize("shape", [(3, 4, 5), (7,), (1, 2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
def test_another_library_reads_a_capsule(shape, dtype, lend) -> None:
    array = np.arange(np.prod(shape)).astype(dtype).reshape(shape)[..., ::2]
    seen = np.from_dlpack(lend(array))
    assert seen.dtype == dtype
    assert (seen == array).all()
    with pytest.raises(BufferError):
        lend(array).__dlpack__(dl_device=(CUDA, 0))


@pytest.mark.parametrize("taken", [True, False])
def test_owner_lives_until_the_other_library_is_done(taken, lend) -> None:
    owner, array = Owner(), np.zeros(4, np.uint8)
    gone, lent = weakref.ref(owner), lend(array, owner)
    seen = np.from_dlpack(lent) if taken else lent.__dlpack__()
    del owner, lent
    gc.collect()
    assert gone() is not None
    del seen
    gc.collect()
    assert gone() is None


def test_capsule_of_another_library_is_read_once_and_given_back() -> None:
    array = np.arange(24, dtype=np.float16).reshape(4, 6)[:, 1:5]
    capsule = array.__dlpack__()
    found = array_from_capsule(capsule)
    assert (found.address, found.shape, found.strides) == (array.ctypes.data, (4, 4), (12, 2))
    assert found.kind == "fp16"
    for taken in (capsule, None):
        with pytest.raises(MediaError, match="no fresh DLPack capsule"):
            array_from_capsule(taken)
    gone = weakref.ref(array)
    del array
    gc.collect()
    assert gone() is not None  # lent
    del found
    gc.collect()
    assert gone() is None


def test_capsule_of_torch_is_read() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(12, dtype=torch.uint8).reshape(3, 4)
    found = array_from_capsule(torch.utils.dlpack.to_dlpack(tensor))
    assert (found.address, found.shape, found.strides) == (tensor.data_ptr(), (3, 4), (4, 1))


def test_array_says_where_it_lies() -> None:
    array = DeviceArray(4096, (1, 3, 4, 5), (120, 40, 10, 2), None, "fp16")
    assert array.__dlpack_device__() == (CUDA, 0)
    found = array_from_capsule(array.__dlpack__(stream=1, max_version=(1, 0)))
    assert (found.address, found.shape, found.strides) == (4096, array.shape, array.strides)
    assert array.__cuda_array_interface__["typestr"] == "<f2"
    assert array.__cuda_array_interface__["strides"] == (120, 40, 10, 2)


@pytest.mark.parametrize("wish", [{"stream": 0}, {"copy": True}, {"dl_device": (CPU, 0)}])
def test_wish_that_cannot_be_granted_is_refused(wish) -> None:
    with pytest.raises(BufferError):
        DeviceArray(4096, (1, 4, 4), (16, 4, 1)).__dlpack__(**wish)


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
    ordinal = 0

    def __dlpack__(self, stream: int):
        if self._heeds:
            event = self._device.event()
            self._device.record(event, self.stream)
            self._device.wait(self._device.streams[stream - HANDLES], event)
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.ordinal


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
        restorer, wanted = runner_of(device), runner_of(device)
        for frame in a_clip(seed, (32, 40), frames=3):
            foreign = kind(device, frame, heeds)
            restored = from_device(restorer(foreign)).copy()
            wrong.append((restored != wanted(frame)).any())
            foreign.done()
    assert any(wrong) is differs


def test_array_elsewhere_is_not_taken_for_one_of_this_gpu() -> None:
    device = HostDevice()
    frame = np.zeros((1, 32, 40), np.uint8)  # has __dlpack__, too
    assert isinstance(runner_of(device)(frame), np.ndarray)
    foreign = ByDlpack(device, frame)
    foreign.ordinal = 1
    with pytest.raises(MediaError, match="device 2:1, need one on GPU 0"):
        runner_of(device)(foreign)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"typestr": "<f4"}, "fp32 (4, 8), need uint8"),
        ({"typestr": "<i8"}, "<i8"),
        ({"shape": (2, 2, 2, 2)}, "(2, 2, 2, 2)"),
        ({"strides": (8, 2)}, "need whole rows"),
    ],
)
def test_device_array_of_another_kind_is_refused(change, said) -> None:
    given = {"typestr": "|u1", "shape": (4, 8), "data": (4096, False), "version": 3, **change}
    with pytest.raises(MediaError) as refused:
        frame_from_array(SimpleNamespace(__cuda_array_interface__=given), HostDevice(), None)
    assert said in str(refused.value)


@pytest.mark.parametrize(("version", "joined"), [(2, [1]), (3, [])])
def test_array_that_states_no_stream_counts_as_unfinished(version, joined) -> None:
    """On the default stream; and without strides it is whole."""
    device, seen = HostDevice(), []
    device.join = lambda _stream, handle: seen.append(handle)
    given = {"typestr": "|u1", "shape": (2, 4, 8), "data": (4096, True), "version": version}
    found = frame_from_array(SimpleNamespace(__cuda_array_interface__=given), device, None)
    assert seen == joined
    assert (found.shape, found.strides) == ((2, 4, 8), (32, 8, 1))
