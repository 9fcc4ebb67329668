"""Which engine is opened, in which arithmetic, and what is said when none can be."""

import os
import platform
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecar.artifact import Artifact
from edgecar.engines.fake import FakeEngine
from edgecar.engines.libraries import imported_onnxruntime
from edgecar.engines.onnxruntime import FULL_PRECISION, PROVIDERS
from edgecar.engines.select import NAMES, default_engine, open_engine, usable_cores
from edgecar.engines.tiles import OnnxRuntimeTiles
from edgecar.errors import EngineError
from tests.networks import unanswered

LIBRARIES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "torch": "torch"}


@pytest.fixture
def artifact(exported) -> Artifact:
    return exported("edgecar-xs")


def refusal(artifact: Artifact | None, name: str, precision=None) -> str:
    with pytest.raises(EngineError) as refused:
        open_engine(artifact, name, precision, 1)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("machine", "chosen", "halves"),
    [
        ("x86_64", "openvino", "fp32"),  # which widens halves
        ("AMD64", "openvino", "fp32"),
        ("arm64", "onnxruntime", "fp16"),
    ],
)
def test_auto_goes_by_the_machine(machine, chosen, halves, artifact, reduced, monkeypatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert default_engine() == chosen
    with open_engine(artifact, threads=1) as engine:
        assert engine.info.name == chosen
    with open_engine(reduced("edgecar-s", "fp16"), "onnxruntime", None, 1) as engine:
        assert engine.info.precision == halves


def test_auto_without_openvino_is_onnxruntime(artifact, monkeypatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with open_engine(artifact, threads=1) as engine:
        assert engine.info.name == "onnxruntime"


@pytest.mark.parametrize("name", LIBRARIES)
def test_named_engine_without_its_library_is_no_other_engine(name, artifact, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert f"{LIBRARIES[name]} is not installed; pip install" in refusal(artifact, name)


def test_unknown_name_is_answered_with_the_names() -> None:
    said = refusal(None, "openvinoo")
    assert "no engine is called 'openvinoo'" in said
    assert all(name in said for name in NAMES)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_absent_provider_names_what_to_install(provider, artifact) -> None:
    if PROVIDERS[provider] in imported_onnxruntime().get_available_providers():
        pytest.skip(f"this ONNX Runtime has {PROVIDERS[provider]}")
    said = refusal(artifact, f"onnxruntime:{provider}")
    for part in (f"has no {PROVIDERS[provider]}", "onnxruntime-gpu", f"leave :{provider} out"):
        assert part in said


def test_fallback_of_the_library_is_no_silent_success(artifact, monkeypatch, capsys) -> None:
    """ONNX Runtime lists CUDA when it was built with it, and uses the CPU where CUDA fails."""
    library = imported_onnxruntime()
    monkeypatch.setattr(library, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    session = library.InferenceSession
    on_cpu = lambda model, options, **_: session(model, options, [PROVIDERS["cpu"]])  # noqa: E731
    monkeypatch.setattr(library, "InferenceSession", on_cpu)
    loaded = []
    prints = lambda: loaded.append(sys.stdout.write("no cuDNN"))  # noqa: E731
    monkeypatch.setattr(library, "preload_dlls", prints)
    said = refusal(artifact, "onnxruntime:cuda")
    assert "asked ONNX Runtime for CUDAExecutionProvider, it fell back to CPU" in said
    assert len(loaded) == 1  # what pip installed
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "precision", "said"),
    [
        ("onnxruntime", "fp16", "ONNX Runtime computes this graph in fp32; leave --precision out"),
        ("torch", "bf16", "the torch reference computes in fp32"),
        ("openvino", "int8", "this CPU computes edgecar-xs in"),
        *((name, "tf32", "leave --precision out") for name in LIBRARIES),
    ],
)
def test_precision_that_is_not_there_is_refused(name, precision, said, artifact) -> None:
    words = refusal(artifact, name, precision)
    assert f"got --precision {precision}" in words
    assert said in words


@pytest.mark.parametrize(
    ("kind", "name", "precision", "computed"),
    [
        ("int8 openvino", "openvino", None, "int8"),
        ("int8 tensorrt", "openvino", "int8", "int8"),
        ("int8 onnxruntime", "openvino", "int8", "int8"),
        ("int8 onnxruntime", "onnxruntime", None, "int8"),
        ("fp16", "openvino", "fp32", "fp32"),
        ("fp16", "torch", None, "fp32"),
        ("int8 openvino", "torch", None, "fp32"),
    ],
)
def test_lower_precision_is_said_where_it_is_computed(
    kind, name, precision, computed, reduced
) -> None:
    with open_engine(reduced("edgecar-s", kind), name, precision, 1) as engine:
        assert engine.info.precision == computed


def test_eight_bits_that_openvino_widened_are_not_called_int8(artifact) -> None:
    """Metadata that say int8 of a graph that has no Q/DQ pair."""
    claimed = replace(artifact, metadata=replace(artifact.metadata, precision="int8"))
    with open_engine(claimed, "openvino", "fp32", 1) as engine:
        assert engine.info.precision == "fp32"
    assert "computes edgecar-xs in fp32" in refusal(claimed, "openvino", "int8")


class Session:
    """Stands for ONNX Runtime on a GPU: remembers what it was asked for, and computes nothing."""

    asked: list[tuple[str, dict[str, str]]]

    def __init__(self, _onnx, _options, providers) -> None:
        Session.asked = providers

    def get_providers(self) -> list[str]:
        return [name for name, _ in Session.asked]

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="input")]

    get_outputs = get_inputs


@pytest.fixture
def gpu(monkeypatch, reduced) -> None:
    for kind in ("fp16", "int8 onnxruntime"):
        reduced("edgecar-xs", kind)  # while the library is still itself
    library = imported_onnxruntime()
    monkeypatch.delenv(FULL_PRECISION[0], raising=False)
    monkeypatch.setattr(library, "InferenceSession", Session)
    monkeypatch.setattr(library, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(library, "preload_dlls", lambda: None, raising=False)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("kind", "precision", "tf32", "said"),
    [
        *(("fp32", None, "0", "fp32"), ("fp32", "fp32", "0", "fp32")),
        *(("fp32", "tf32", "1", "tf32"), ("fp16", None, "0", "fp16")),
    ],
)
def test_cuda_is_tf32_only_if_it_is_called_so(
    kind, precision, tf32, said, artifact, reduced
) -> None:
    given = unanswered(artifact) if kind == "fp32" else reduced("edgecar-xs", kind)
    with open_engine(given, "onnxruntime:cuda", precision, 1) as engine:
        assert engine.info.precision == said
    assert [options["use_tf32"] for _, options in Session.asked] == [tf32]


@pytest.mark.usefixtures("gpu")
def test_tiles_on_cuda_are_never_tf32(artifact) -> None:
    with OnnxRuntimeTiles(artifact, (1, 64, 64), stream=7) as tiles:
        assert tiles.info.precision == "fp32"
    assert [options["use_tf32"] for _, options in Session.asked] == ["0"]


@pytest.mark.usefixtures("gpu")
def test_tensorrt_in_onnxruntime_is_called_what_it_computes(artifact, reduced, monkeypatch) -> None:
    """The TensorRT provider has no option against TF32; NVIDIA's variable is the only way."""
    artifact = unanswered(artifact)
    with open_engine(artifact, "onnxruntime:tensorrt", None, 1) as engine:
        assert engine.info.precision == "tf32"
    assert "set NVIDIA_TF32_OVERRIDE=0" in refusal(artifact, "onnxruntime:tensorrt", "fp32")
    monkeypatch.setenv(*FULL_PRECISION)
    with open_engine(artifact, "onnxruntime:tensorrt", "fp32", 1) as engine:
        assert engine.info.precision == "fp32"
    said = refusal(reduced("edgecar-xs", "int8 onnxruntime"), "onnxruntime:tensorrt")
    assert "not for TensorRT" in said
    assert "unsigned codes" in said


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("damage", ["text", "empty", "half", "end", "operator", "input", "weights"])
def test_damaged_graph_is_one_line(name, damage, artifact) -> None:
    said = refusal(Artifact(artifact.metadata, damaged(artifact.onnx, damage)), name)
    assert damage != "operator" or "NoSuchOperator" in said


def damaged(whole: bytes, damage: str) -> bytes:
    half = len(whole) // 2
    cut = {"text": b"no network", "empty": b"", "half": whole[:half], "end": whole[:-40]}
    if damage in cut:
        return cut[damage]
    model = onnx.load_model_from_string(whole)
    if damage == "operator":
        model.graph.node[0].op_type = "NoSuchOperator"
    elif damage == "input":
        model.graph.node[0].input[0] = "nothing"
    else:
        model.graph.initializer[0].raw_data = b"1234"
    return model.SerializeToString()


def test_threads_default_to_the_cores_that_may_be_used(artifact, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 3, 5}, raising=False)
    monkeypatch.setattr(
        "edgecar.engines.onnxruntime.OnnxRuntimeEngine",
        lambda *given: asked.append(given[2]) or FakeEngine(lambda batch: batch),
    )
    for threads in (None, 0, 2):
        open_engine(unanswered(artifact), "onnxruntime", threads=threads)
    assert asked == [3, 3, 2]
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == os.cpu_count()


@pytest.mark.parametrize(
    ("operator", "weights", "attributes"),
    [
        ("Conv", (4, 1, 3, 2), {"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}),
        ("ConvTranspose", (1, 2, 3, 3), {"strides": [2, 2], "output_padding": [1, 0]}),
        ("ConvTranspose", (1, 2, 3, 3), {"strides": [2, 2], "pads": [0, 1, 2, 0]}),
        ("MaxPool", None, {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 2, 1]}),
        ("MaxPool", None, {"kernel_shape": [2, 2], "dilations": [2, 1]}),
    ],
)
def test_operators_that_torch_computes_are_those_of_onnx(
    operator, weights, attributes, artifact
) -> None:
    """Compared with ONNX Runtime, uneven settings too, which our exports do not have."""
    random = np.random.default_rng(0)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "c", "h", "w"])
        for name in ("input", "output")
    ]
    constants = []
    if weights:
        values = random.random(weights, np.float32)
        constants = [numpy_helper.from_array(values, "w")]
    inputs = ["input", *(tensor.name for tensor in constants)]
    node = helper.make_node(operator, inputs, ["output"], **attributes)
    graph = helper.make_graph([node], "one", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    made = Artifact(unanswered(artifact).metadata, model.SerializeToString())
    batch = random.random((1, 1, 16, 24), np.float32) - 0.5
    with open_engine(made, "torch") as one, open_engine(made, "onnxruntime") as other:
        # Sums of up to nine products below 1, each rounded to 6e-8.
        np.testing.assert_allclose(one.run(batch), other.run(batch), rtol=0, atol=1e-6)


def test_weights_reach_the_engine(artifact) -> None:
    """The control of all comparisons between engines: they run this artifact, not another."""
    model = onnx.load_model_from_string(artifact.onnx)
    last = [weights for weights in model.graph.initializer if len(weights.dims) == 4][-1]
    values = numpy_helper.to_array(last)
    last.CopyFrom(numpy_helper.from_array(values + np.float32(0.1), last.name))
    other = Artifact(unanswered(artifact).metadata, model.SerializeToString())
    batch = np.full((1, 1, 8, 8), 0.5, np.float32)
    for name in LIBRARIES:
        with open_engine(artifact, name, "fp32", 1) as a, open_engine(other, name, "fp32", 1) as b:
            assert np.abs(a.run(batch) - b.run(batch)).max() > 1e-3
