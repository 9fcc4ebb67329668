"""Plans are run as TensorRT wants it, and what it refuses ends in one line."""

import ctypes
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from edgecar.artifact import read_artifact
from edgecar.engines.fake import FakeEngine
from edgecar.engines.tensorrt import TensorrtTiles
from edgecar.engines.trt_library import Library
from edgecar.errors import ArtifactError, EngineError
from edgecar.runtime.cuda.runner import CudaRunner
from edgecar.runtime.restorer import Restorer
from tests.engines.conftest import CARD
from tests.runtime.cuda.host_device import HostDevice

trt = pytest.importorskip("tensorrt_rtx")
SHAPE = (2, 1, 64, 64)


class FakeContext:
    """What is left of TensorRT's context without a GPU: its rules, and a function for a network."""

    def __init__(self) -> None:
        self.device, self.addresses, self.shape = HostDevice(), {}, None
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


@pytest.fixture
def runtime() -> SimpleNamespace:
    """Loads any plan; `engine` and `context` may be taken away."""
    names = {"input": trt.TensorIOMode.INPUT, "output": trt.TensorIOMode.OUTPUT}
    made = SimpleNamespace(context=FakeContext(), loaded=None)
    made.engine = SimpleNamespace(
        num_io_tensors=2,
        get_tensor_name=lambda index: list(names)[index],
        get_tensor_mode=lambda name: names[name],
        get_tensor_dtype=lambda _name: trt.float32,
        create_execution_context=lambda: made.context,
    )

    def deserialize_cuda_engine(plan: bytes):
        made.loaded = plan
        return made.engine

    made.deserialize_cuda_engine = deserialize_cuda_engine
    return made


@pytest.fixture
def fake(runtime, library) -> Library:
    """TensorRT-RTX with that runtime."""
    module = SimpleNamespace(
        __version__=library.version,
        Runtime=lambda _log: runtime,
        TensorIOMode=trt.TensorIOMode,
        nptype=trt.nptype,
    )
    return Library("tensorrt-rtx", module, library.log)


def test_frames_go_through_the_plan(built, fake, runtime) -> None:
    engine = TensorrtTiles(built, fake, CARD)
    assert (engine.info.name, engine.info.provider) == ("tensorrt-rtx", fake.title)
    assert (engine.shape, engine.channels) == ((2, 64, 64), 1)
    assert (engine.reads, engine.writes) == ("fp32", "fp32")
    assert runtime.loaded == built.read_bytes()
    assert runtime.context.shape == SHAPE
    runner = CudaRunner(runtime.context.device, engine, halo_px=12)
    artifact = replace(read_artifact(built.with_name("net.onnx")), onnx=b"")
    reference = Restorer(artifact, FakeEngine(lambda batch: 1 - batch, 1, (2, 64, 64)), reuse=False)
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
            lambda r: setattr(r.engine, "get_tensor_dtype", lambda _name: trt.int8),
            "the plan has tensors of int8, need float32",
        ),
    ],
)
def test_plan_that_cannot_be_loaded_is_refused_in_a_line(spoil, said, built, fake, runtime) -> None:
    spoil(runtime)
    with pytest.raises(EngineError) as refused:
        TensorrtTiles(built, fake, CARD)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("what", ["takes_address", "runs"])
def test_batch_that_is_refused_is_no_silent_success(what, built, fake, runtime) -> None:
    engine = TensorrtTiles(built, fake, CARD)
    setattr(runtime.context, what, False)
    with pytest.raises(EngineError, match=r"refuses the address of input|failed: "):
        engine.enqueue(4096, 8192, 1)


def test_wrong_gpu_or_spoilt_plan_is_told_before_anything_is_loaded(
    built, fake, runtime, tmp_path
) -> None:
    volta = replace(CARD, name="NVIDIA Tesla V100", compute_capability="7.0")
    with pytest.raises(EngineError, match=r"from Ampere on, .*--rebuild"):
        TensorrtTiles(built, fake, volta)
    spoilt = shutil.copytree(built.parent, tmp_path / "copy") / built.name
    spoilt.write_bytes(built.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="other bytes"):
        TensorrtTiles(spoilt, fake, CARD)
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
