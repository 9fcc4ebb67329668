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


class Driver(ModuleType):
    """Takes notes; fails where it is told to."""

    def __init__(self, integrated: bool = False) -> None:
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
            integrated=integrated,
            can_map_host_memory=1,
            retain_primary_context=lambda: self.context,
        )
        self.host_alloc_flags = SimpleNamespace(DEVICEMAP=2)
        self.event_flags = SimpleNamespace(DISABLE_TIMING=2)

    def note(self, *what) -> None:
        self.notes.append(what)
        if what[0] in self.fails:
            raise CudaError(f"{what[0]} failed:\nout of memory")

    def init(self) -> None:
        self.note("init")

    def Device(self, ordinal):  # noqa: N802
        self.note("device", ordinal)
        return self.gpu

    def mem_alloc(self, size: int) -> int:
        self.note("mem_alloc", size)
        return 512

    def memset_d8(self, address, value, size) -> None:
        self.note("memset", address, value, size)

    def pagelocked_empty(self, shape, dtype, mem_flags=0):
        self.note("pagelocked", shape, mem_flags)
        return np.ones(shape, dtype).view(Mapped)

    def mem_get_info(self) -> tuple[int, int]:
        return 300, 1000

    def memcpy_htod_async(self, to, source, stream) -> None:
        self.note("up", to, source.nbytes, stream)

    def memcpy_dtoh_async(self, to, source, stream) -> None:
        self.note("down", to.nbytes, source, stream)


class Mapped(np.ndarray):
    @property
    def base(self):
        return SimpleNamespace(get_device_pointer=lambda: 4096)


@pytest.fixture
def driver(monkeypatch):
    def install(**options) -> Driver:
        driver = Driver(**options)
        package = ModuleType("pycuda")
        package.driver, package.compiler = driver, ModuleType("pycuda.compiler")
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
        monkeypatch.setitem(sys.modules, "pycuda.compiler", package.compiler)
        return driver

    return install


def test_memory_is_nought_and_copies_go_where_they_should(driver) -> None:
    notes = driver()
    device = CudaDevice(1)
    assert not device.shared
    memory, staged = device.memory(96), device.staging(96)
    assert (memory.address, memory.host) == (512, None)
    assert not staged.host.any()
    device.upload(memory, staged, "s")
    device.download(staged, memory, "s")
    assert ("device", 1) in notes.notes
    assert ("memset", 512, 0, 96) in notes.notes
    assert ("pagelocked", 96, 0) in notes.notes
    assert notes.notes[-2:] == [("up", 512, 96, "s"), ("down", 96, 512, "s")]


def test_shared_memory_has_an_address_for_kernels(driver) -> None:
    notes = driver(integrated=True)
    device = CudaDevice()
    assert device.shared
    assert device.staging(8).address == 4096
    assert ("pagelocked", 8, 2) in notes.notes


def test_every_thread_enters_the_context_once(driver) -> None:
    notes = driver()
    device = CudaDevice()
    for _ in range(2):
        device.memory(8)
    worker = threading.Thread(target=lambda: [device.memory(8), device.memory(8)])
    worker.start()
    worker.join()
    pushes = [note[1] for note in notes.notes if note[0] == "push"]
    assert len(pushes) == len(set(pushes)) == 2


@pytest.mark.parametrize("what", ["mem_alloc", "memset"])
def test_failure_of_cuda_is_one_line(what, driver) -> None:
    notes = driver()
    device = CudaDevice()
    notes.fails.add(what)
    with pytest.raises(EngineError) as refused:
        device.memory(8)
    assert str(refused.value) == f"CUDA failed: {what} failed: out of memory"


def test_absent_gpu_is_said(driver) -> None:
    driver().fails.add("device")
    with pytest.raises(EngineError, match="no CUDA device 0: device failed"):
        CudaDevice()


def test_kernel_is_launched_over_its_grid(driver) -> None:
    launches = []
    notes = driver()

    class Function:
        def prepare(self, kinds) -> None:
            self.kinds = kinds

        def prepared_async_call(self, grid, block, stream, *arguments) -> None:
            launches.append((self.kinds, grid, block, stream, arguments))

    compiled = []

    def source_module(source, **options):
        compiled.append((source, options))
        return SimpleNamespace(get_function=lambda _name: Function())

    sys.modules["pycuda.compiler"].SourceModule = source_module
    device = CudaDevice()
    for _ in range(2):
        device.launch("listed", 300, 1, (1, 300, 5, 2, None), "s")
    assert launches == [("PiiPP", (2, 1), (256, 1, 1), "s", (1, 300, 5, 2, 0))] * 2
    ((source, options),) = compiled  # once
    assert "KERNEL listed(" in source
    assert options["no_extern_c"]
    assert "-fmad=false" in options["options"]
    sys.modules["pycuda.compiler"].SourceModule = lambda *_a, **_k: notes.note("compile")
    notes.fails.add("compile")
    with pytest.raises(EngineError, match="CUDA failed: compile failed"):
        device.launch("changed", 1, 1, (), "s")


@pytest.mark.parametrize("failing", [None, "cuEventRecord"])
def test_stream_of_another_library_is_waited_for(failing, driver, monkeypatch) -> None:
    driver()
    calls = []

    class Library:
        def __init__(self, name: str) -> None:
            assert name == "libcuda.so.1"

        def __getattr__(self, name: str):
            def call(*arguments) -> int:
                given = [getattr(a, "value", None) if hasattr(a, "value") else a for a in arguments]
                calls.append((name, given))
                return 700 if name == failing else 0

            return call

    monkeypatch.setattr(through_pycuda.ctypes, "CDLL", Library)
    device, ours = CudaDevice(), SimpleNamespace(handle=77)
    assert device.handle(ours) == 77
    assert device.free_bytes() == 300
    if failing:
        with pytest.raises(EngineError, match=r"CUDA failed to record an event.*700"):
            device.join(ours, 55)
        return
    device.join(ours, 55)
    created, recorded, waited, destroyed = calls
    assert (created[0], created[1][1]) == ("cuEventCreate", 2)
    assert (recorded[0], recorded[1][1]) == ("cuEventRecord", 55)
    assert (waited[0], waited[1][0], waited[1][2]) == ("cuStreamWaitEvent", 77, 0)
    assert destroyed[0] == "cuEventDestroy_v2"


def test_graphs_are_destroyed_when_nobody_holds_them_and_with_the_device(driver, monkeypatch):
    driver()
    calls = []

    class Library:
        def __init__(self, _name: str) -> None:
            pass

        def __getattr__(self, name: str):
            def call(*arguments) -> int:
                if name == "cuGraphInstantiateWithFlags":
                    arguments[0]._obj.value = len(calls) + 1
                calls.append((name, getattr(arguments[0], "value", None)))
                return 0

            return call

    def destroyed() -> list[int]:
        return [graph for name, graph in calls if name == "cuGraphExecDestroy"]

    monkeypatch.setattr(through_pycuda.ctypes, "CDLL", Library)
    device, stream = CudaDevice(), SimpleNamespace(handle=77)
    first, second = (device.captured(lambda: None, stream) for _ in range(2))
    first()
    (launched,) = [graph for name, graph in calls if name == "cuGraphLaunch"]
    assert not destroyed()
    del first
    assert destroyed() == [launched]
    device.close()
    assert len(destroyed()) == len(set(destroyed())) == 2
    del second
    assert len(destroyed()) == 2
