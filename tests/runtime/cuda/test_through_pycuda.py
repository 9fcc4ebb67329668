"""What pycuda is asked for, on a pycuda that only takes notes."""

import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from edgecar.errors import EngineError
from edgecar.runtime.cuda import through_pycuda
from edgecar.runtime.cuda.through_pycuda import CudaDevice


class CudaError(Exception):
    pass


class Mapped(np.ndarray):
    @property
    def base(self):
        return SimpleNamespace(get_device_pointer=lambda: 4096)


class Driver(ModuleType):
    """Takes notes; fails where it is told to."""

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.notes: list[tuple] = []
        self.fails: set[str] = set()
        self.Error, self.CompileError = CudaError, type("CompileError", (CudaError,), {})
        self.context = SimpleNamespace(
            push=lambda: self.note("push", threading.get_ident()),
            pop=lambda: self.note("pop"),
            detach=lambda: self.note("detach"),
        )
        self.gpu = SimpleNamespace(
            integrated=False,
            can_map_host_memory=1,
            retain_primary_context=lambda: self.context,
        )
        self.host_alloc_flags = SimpleNamespace(DEVICEMAP=2)
        self.event_flags = SimpleNamespace(DISABLE_TIMING=2)
        self.init = lambda: self.note("init")
        self.Device = lambda ordinal: self.note("device", ordinal) or self.gpu
        self.mem_alloc = lambda size: self.note("mem_alloc", size) or 512
        self.memset_d8 = lambda *what: self.note("memset", *what)
        self.mem_get_info = lambda: (300, 1000)
        self.memcpy_htod_async = lambda to, source, s: self.note("up", to, source.nbytes, s)
        self.memcpy_dtoh_async = lambda to, source, s: self.note("down", to.nbytes, source, s)

    def note(self, *what) -> None:
        self.notes.append(what)
        if what[0] in self.fails:
            raise CudaError(f"{what[0]} failed:\nout of memory")

    def pagelocked_empty(self, shape, dtype, mem_flags=0):
        self.note("pagelocked", shape, mem_flags)
        return np.ones(shape, dtype).view(Mapped)


@pytest.fixture
def pycuda(monkeypatch) -> Driver:
    package = ModuleType("pycuda")
    package.driver, package.compiler = driver, _ = Driver(), ModuleType("pycuda.compiler")
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    monkeypatch.setitem(sys.modules, "pycuda.compiler", package.compiler)
    return driver


@pytest.fixture
def cuda(monkeypatch) -> list[tuple[str, list]]:
    """Calls of the driver's own library; one of a name in ``failing`` fails."""
    calls = []

    class Library:
        failing = ""

        def __init__(self, name: str) -> None:
            assert name == "libcuda.so.1"

        def __getattr__(self, name: str):
            def call(*arguments) -> int:
                calls.append((name, [getattr(given, "value", given) for given in arguments]))
                return 700 if name == Library.failing else 0

            return call

    monkeypatch.setattr(through_pycuda.ctypes, "CDLL", Library)
    return SimpleNamespace(calls=calls, library=Library)


def test_memory_is_nought_and_copies_go_where_they_should(pycuda) -> None:
    device = CudaDevice(1)
    assert not device.shared
    memory, staged = device.memory(96), device.staging(96)
    assert (memory.address, memory.host) == (512, None)
    assert not staged.host.any()
    device.upload(memory, staged, "s")
    device.download(staged, memory, "s")
    expected = {("device", 1), ("memset", 512, 0, 96), ("pagelocked", 96, 0)}
    assert expected <= set(pycuda.notes)
    assert pycuda.notes[-2:] == [("up", 512, 96, "s"), ("down", 96, 512, "s")]


def test_shared_memory_has_an_address_for_kernels(pycuda) -> None:
    pycuda.gpu.integrated = True
    device = CudaDevice()
    assert device.shared
    assert device.staging(8).address == 4096
    assert ("pagelocked", 8, 2) in pycuda.notes


def test_every_thread_enters_the_context_once(pycuda) -> None:
    device = CudaDevice()
    for _ in range(2):
        device.memory(8)
    worker = threading.Thread(target=lambda: [device.memory(8), device.memory(8)])
    worker.start()
    worker.join()
    pushes = [note[1] for note in pycuda.notes if note[0] == "push"]
    assert len(pushes) == len(set(pushes)) == 2


@pytest.mark.parametrize("what", ["mem_alloc", "memset"])
def test_failure_of_cuda_is_one_line(what, pycuda) -> None:
    device = CudaDevice()
    pycuda.fails |= {what, "device"}
    with pytest.raises(EngineError) as refused:
        device.memory(8)
    assert str(refused.value) == f"CUDA failed: {what} failed: out of memory"
    with pytest.raises(EngineError, match="no CUDA device 0: device failed"):
        CudaDevice()


def test_kernel_is_compiled_once_and_launched_over_its_grid(pycuda) -> None:
    launches, compiled = [], []
    function = SimpleNamespace(
        prepare=lambda kinds: launches.append(kinds),
        prepared_async_call=lambda *given: launches.append(given),
    )

    def source_module(source, **options):
        compiled.append((source, options))
        return SimpleNamespace(get_function=lambda _name: function)

    sys.modules["pycuda.compiler"].SourceModule = source_module
    device = CudaDevice()
    for _ in range(2):
        device.launch("listed", 300, 1, (1, 300, 5, 2, None), "s")
    assert launches == ["PiiPP", *[((2, 1), (256, 1, 1), "s", 1, 300, 5, 2, 0)] * 2]
    ((source, options),) = compiled
    assert "KERNEL listed(" in source
    assert options["no_extern_c"]
    assert "-fmad=false" in options["options"]
    sys.modules["pycuda.compiler"].SourceModule = lambda *_a, **_k: pycuda.note("compile")
    pycuda.fails.add("compile")
    with pytest.raises(EngineError, match="CUDA failed: compile failed"):
        device.launch("changed", 1, 1, (), "s")


@pytest.mark.usefixtures("pycuda")
def test_stream_of_another_library_is_waited_for(cuda) -> None:
    device, ours = CudaDevice(), SimpleNamespace(handle=77)
    assert device.handle(ours) == 77
    assert device.free_bytes() == 300
    device.join(ours, 55)
    created, recorded, waited, destroyed = cuda.calls
    assert (created[0], created[1][1]) == ("cuEventCreate", 2)
    assert (recorded[0], recorded[1][1]) == ("cuEventRecord", 55)
    assert (waited[0], waited[1][0], waited[1][2]) == ("cuStreamWaitEvent", 77, 0)
    assert destroyed[0] == "cuEventDestroy_v2"
    cuda.library.failing = "cuEventRecord"
    with pytest.raises(EngineError, match=r"CUDA failed to record an event.*700"):
        device.join(ours, 55)
