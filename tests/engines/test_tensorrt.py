"""Plans are run as TensorRT wants it, and what it refuses ends in one line."""

import ctypes
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from edgecar.artifact import read_artifact
from edgecar.engines.fake import FakeEngine
from edgecar.engines.gpu import Gpu
from edgecar.engines.plan import plan_path
from edgecar.engines.targets import target_named
from edgecar.engines.tensorrt import TensorrtTiles
from edgecar.engines.trt_build import settings_for, write_plan
from edgecar.engines.trt_library import Library, load_library
from edgecar.errors import ArtifactError, EngineError
from edgecar.runtime.cuda.runner import CudaRunner
from edgecar.runtime.restorer import Restorer
from tests.runtime.cuda.host_device import HostDevice

trt = pytest.importorskip("tensorrt_rtx")
CARD = Gpu("NVIDIA GeForce RTX 4090", "8.9", 128, 24564, False, "13.0", "", "")
SHAPE = (2, 1, 64, 64)


class FakeContext:
    """What is left of TensorRT's context without a GPU: its rules, and a function for a network."""

    def __init__(self, device: HostDevice) -> None:
        self.device, self.addresses, self.shape = device, {}, None
        self.takes_shape = self.takes_address = self.runs = True

    def set_input_shape(self, name, shape) -> bool:
        assert name == "input"
        self.shape = shape
        return self.takes_shape

    def infer_shapes(self) -> list[str]:
        return [] if self.shape else ["input"]

    def set_tensor_address(self, name, address) -> bool:
        assert isinstance(address, int)
        assert address % 256 == 0
        self.addresses[name] = address
        return self.takes_address

    def execute_async_v3(self, stream) -> bool:
        assert set(self.addresses) == {"input", "output"}
        count, given = int(np.prod(self.shape)), dict(self.addresses)

        def run() -> None:
            batch, made = (
                np.ctypeslib.as_array((ctypes.c_float * count).from_address(given[name]))
                for name in ("input", "output")
            )
            made[:] = 1 - batch

        if self.runs:
            self.device.call(run, stream)
        return self.runs


class FakeRuntime:
    """Loads any plan; `engine` and `context` may be taken away."""

    engine: SimpleNamespace | None
    context: FakeContext | None

    def __init__(self, device: HostDevice) -> None:
        names = ("input", "output")
        modes = {"input": trt.TensorIOMode.INPUT, "output": trt.TensorIOMode.OUTPUT}
        self.context = FakeContext(device)
        self.engine = SimpleNamespace(
            num_io_tensors=2,
            get_tensor_name=lambda index: names[index],
            get_tensor_mode=lambda name: modes[name],
            get_tensor_dtype=lambda _name: trt.float32,
            create_execution_context=lambda: self.context,
        )
        self.loaded: bytes | None = None

    def deserialize_cuda_engine(self, plan: bytes):
        self.loaded = plan
        return self.engine


@pytest.fixture(scope="module")
def built(exported, tmp_path_factory):
    """A plan for RTX cards, with its metadata."""
    onnx = tmp_path_factory.mktemp("plan") / "net.onnx"
    onnx.write_bytes(exported("edgecar-xs").onnx)
    artifact, target = read_artifact(onnx), target_named("rtx")
    path = plan_path(onnx, target)
    settings = settings_for(artifact, target, tile=(64, 64), batch=2, level=0)
    write_plan(artifact, path, load_library("tensorrt-rtx"), target, settings, None)
    return path


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime(HostDevice())


@pytest.fixture
def library(runtime) -> Library:
    real = load_library("tensorrt-rtx")
    module = SimpleNamespace(
        __version__=real.version,
        Runtime=lambda _log: runtime,
        TensorIOMode=trt.TensorIOMode,
        nptype=trt.nptype,
    )
    return Library("tensorrt-rtx", module, real.log)


def test_plan_says_what_it_is(built, library, runtime) -> None:
    with TensorrtTiles(built, library, CARD) as engine:
        assert engine.info.name == "tensorrt-rtx"
        assert engine.info.provider == library.title
        assert engine.shape == (2, 64, 64)
        assert (engine.reads, engine.writes, engine.channels) == ("fp32", "fp32", 1)
        assert runtime.loaded == built.read_bytes()
        assert runtime.context.shape == SHAPE


def test_frames_go_through_the_plan(built, library, runtime) -> None:
    engine = TensorrtTiles(built, library, CARD)
    runner = CudaRunner(runtime.context.device, engine, halo_px=8)
    fake = FakeEngine(lambda batch: 1 - batch, 1, (2, 64, 64))
    reference = Restorer(
        replace(read_artifact(built.with_name("net.onnx")), onnx=b""), fake, reuse=False
    )
    for seed in range(3):
        frame = np.random.default_rng(seed).integers(0, 256, (90, 130), np.uint8)
        assert (runner.result(runner.submit(frame)) == reference.luma(frame)).all()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: setattr(r, "engine", None), "does not load it: it does not say why; edgecar"),
        (lambda r: setattr(r, "context", None), "no memory for its activations"),
        (lambda r: setattr(r.context, "takes_shape", False), "does not take (2, 1, 64, 64)"),
        (lambda r: setattr(r.engine, "num_io_tensors", 1), "1 input(s) and 0 output(s)"),
        (
            lambda r: setattr(r.engine, "get_tensor_dtype", lambda _name: trt.int32),
            "the plan has tensors of int32, need float32",
        ),
    ],
)
def test_plan_that_cannot_be_loaded_is_refused_in_a_line(
    spoil, said, built, library, runtime
) -> None:
    spoil(runtime)
    with pytest.raises(EngineError) as refused:
        TensorrtTiles(built, library, CARD)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("what", ["takes_address", "runs"])
def test_batch_that_is_refused_is_no_silent_success(what, built, library, runtime) -> None:
    engine = TensorrtTiles(built, library, CARD)
    setattr(runtime.context, what, False)
    with pytest.raises(EngineError, match=r"refuses the address of input|failed: "):
        engine.enqueue(4096, 8192, 1)


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        (replace(CARD, name="NVIDIA Tesla V100", compute_capability="7.0"), "from Ampere on"),
    ],
)
def test_wrong_gpu_is_told_before_anything_is_loaded(gpu, said, built, library, runtime) -> None:
    with pytest.raises(EngineError) as refused:
        TensorrtTiles(built, library, gpu)
    assert said in str(refused.value)
    assert "--rebuild" in str(refused.value)
    assert runtime.loaded is None


def test_spoilt_plan_is_not_loaded(built, library, runtime, tmp_path) -> None:
    spoilt = tmp_path / built.name
    spoilt.write_bytes(built.read_bytes()[:-1])
    spoilt.with_name(f"{built.name}.json").write_text(
        built.with_name(f"{built.name}.json").read_text()
    )
    with pytest.raises(ArtifactError, match="other bytes"):
        TensorrtTiles(spoilt, library, CARD)
    assert runtime.loaded is None


def test_real_library_refuses_without_a_gpu(built) -> None:
    """The loader of TensorRT-RTX itself, which answers with None where there is no driver."""
    from edgecar.engines.gpu import find_gpu

    try:
        find_gpu()
    except EngineError:
        with pytest.raises(EngineError, match="does not load it: "):
            TensorrtTiles(built, gpu=CARD)
    else:
        pytest.skip("there is a GPU here")
