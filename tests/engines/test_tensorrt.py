"""Plans are run as TensorRT wants it, and what it refuses ends in one line."""

import ctypes
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from edgecar.engines.base import CODE, codes_from_unit
from edgecar.engines.plan import sidecar_of
from edgecar.engines.tensorrt import TensorrtTiles
from edgecar.engines.trt_library import Library
from edgecar.errors import ArtifactError, EngineError
from edgecar.runtime.cuda.runner import CudaRunner
from edgecar.spec import QUANTISER
from tests.engines.conftest import CARD
from tests.runtime.cuda.host_device import HostDevice

trt = pytest.importorskip("tensorrt_rtx")
SHAPE = (2, 1, 64, 64)


def a_network(batch, quantisers):
    return 1 - batch * quantisers[:, None, None, None]


class FakeContext:
    """What is left of TensorRT's context without a GPU: its rules, and a function for a network."""

    def __init__(self) -> None:
        self.device, self.addresses, self.shapes = HostDevice(), {}, {}
        self.takes_shape = self.takes_address = self.runs = True

    def set_input_shape(self, name, shape) -> bool:
        self.shapes[name] = shape
        return self.takes_shape

    def infer_shapes(self) -> list[str]:
        return [name for name in ("input", QUANTISER) if name not in self.shapes]

    def set_tensor_address(self, name, address) -> bool:
        assert isinstance(address, int)
        assert address % 256 == 0
        self.addresses[name] = address
        return self.takes_address

    def execute_async_v3(self, stream) -> bool:
        given = dict(self.addresses)

        def run() -> None:
            tiles, told, made = (
                np.ctypeslib.as_array((ctypes.c_float * int(np.prod(shape))).from_address(address))
                for address, shape in (
                    (given["input"], self.shapes["input"]),
                    (given[QUANTISER], self.shapes[QUANTISER]),
                    (given["output"], self.shapes["input"]),
                )
            )
            batch = tiles.reshape(self.shapes["input"])
            made[:] = a_network(batch, told).reshape(-1)

        if self.runs:
            self.device.call(run, stream)
        return self.runs


@pytest.fixture
def runtime() -> SimpleNamespace:
    """Loads any plan; `engine` and `context` may be taken away."""
    names = {
        "input": trt.TensorIOMode.INPUT,
        "output": trt.TensorIOMode.OUTPUT,
        QUANTISER: trt.TensorIOMode.INPUT,
    }
    made = SimpleNamespace(context=FakeContext(), loaded=None)
    made.engine = SimpleNamespace(
        num_io_tensors=3,
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
    assert runtime.context.shapes == {"input": SHAPE, QUANTISER: SHAPE[:1]}
    runner = CudaRunner(runtime.context.device, engine, halo_px=12)
    for seed, quantiser in enumerate((0.2, 0.2, 0.9)):
        frame = np.random.default_rng(seed).integers(0, 256, (90, 130), np.uint8)
        unit = a_network((frame * CODE)[None, None], np.float32([quantiser]))[0]
        assert (runner.result(runner.submit(frame, None, quantiser)) == codes_from_unit(unit)).all()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: setattr(r, "engine", None), "does not load it: it does not say why; edgecar"),
        (lambda r: setattr(r, "context", None), "no memory for its activations"),
        (lambda r: setattr(r.context, "takes_shape", False), "does not take (2, 1, 64, 64)"),
        (
            lambda r: setattr(r.engine, "num_io_tensors", 1),
            "has inputs ['input'] and outputs [], its metadata say a picture and 'quantiser'",
        ),
        (
            lambda r: setattr(r.engine, "num_io_tensors", 2),
            "has inputs ['input'] and outputs ['output'], its metadata say a picture and 'quanti",
        ),
        (
            lambda r: setattr(
                r.engine,
                "get_tensor_dtype",
                lambda name: trt.float16 if name == QUANTISER else trt.float32,
            ),
            "'quantiser' is not float32; build it again",
        ),
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


def test_plan_with_an_input_that_its_metadata_do_not_name_is_refused(built, fake, tmp_path) -> None:
    plan = shutil.copytree(built.parent, tmp_path / "copy") / built.name
    table = json.loads(sidecar_of(plan).read_text())
    table["network"].update(takes_quantiser=False, known_answer=None)
    sidecar_of(plan).write_text(json.dumps(table))
    with pytest.raises(EngineError, match=r"metadata say a picture and one output; build it again"):
        TensorrtTiles(plan, fake, CARD)


@pytest.mark.parametrize("what", ["takes_address", "runs"])
def test_batch_that_is_refused_is_no_silent_success(what, built, fake, runtime) -> None:
    engine = TensorrtTiles(built, fake, CARD)
    setattr(runtime.context, what, False)
    with pytest.raises(EngineError, match=r"refuses the address of input|failed: "):
        engine.enqueue(4096, 12288, 8192, 1)


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
