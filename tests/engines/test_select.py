"""Which engine is opened, and what is said when none can be."""

import os
import platform
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgecar.artifact import Artifact
from edgecar.engines import select
from edgecar.engines.fake import FakeEngine
from edgecar.engines.select import NAMES, default_engine, open_engine, usable_cores
from edgecar.errors import EngineError
from tests.networks import unanswered

LIBRARIES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "torch": "torch"}


@pytest.fixture
def artifact(exported) -> Artifact:
    return exported("edgecar-xs")


def refusal(artifact: Artifact, name: str, precision=None) -> str:
    with pytest.raises(EngineError) as refused:
        open_engine(artifact, name, precision, 1)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("machine", "chosen"),
    [
        ("x86_64", "openvino"),
        ("AMD64", "openvino"),
        ("aarch64", "onnxruntime"),
        ("arm64", "onnxruntime"),
    ],
)
def test_auto_goes_by_the_machine(machine, chosen, artifact, monkeypatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert default_engine() == chosen
    with open_engine(artifact, threads=1) as engine:
        assert engine.info.name == chosen


def test_auto_without_openvino_is_onnxruntime(artifact, monkeypatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert default_engine() == "onnxruntime"
    with open_engine(artifact, threads=1) as engine:
        assert engine.info.name == "onnxruntime"


@pytest.mark.parametrize("name", LIBRARIES)
def test_named_engine_without_its_library_is_no_other_engine(name, artifact, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    said = refusal(artifact, name)
    assert f"{LIBRARIES[name]} is not installed; pip install" in said


def test_unknown_name_is_answered_with_the_names() -> None:
    with pytest.raises(EngineError) as refused:
        open_engine(None, "openvinoo")
    assert "no engine is called 'openvinoo'" in str(refused.value)
    assert all(name in str(refused.value) for name in NAMES)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_absent_provider_names_what_to_install(provider, artifact) -> None:
    import onnxruntime

    wanted = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}[provider]
    if wanted in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has {wanted}")
    said = refusal(artifact, f"onnxruntime:{provider}")
    assert f"has no {wanted}" in said
    assert "onnxruntime-gpu" in said
    assert f"leave :{provider} out" in said


def test_fallback_of_the_library_is_no_silent_success(artifact, monkeypatch, capsys) -> None:
    """ONNX Runtime lists CUDA when it was built with it, and uses the CPU where CUDA fails."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, **_: session(model, options, ["CPUExecutionProvider"]),
    )
    loaded = []
    prints = lambda: loaded.append(sys.stdout.write("no cuDNN"))  # noqa: E731
    monkeypatch.setattr(onnxruntime, "preload_dlls", prints)
    said = refusal(artifact, "onnxruntime:cuda")
    assert "asked ONNX Runtime for CUDAExecutionProvider, it fell back to CPU" in said
    assert len(loaded) == 1  # what pip installed
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "precision", "said"),
    [
        ("onnxruntime", "fp16", "got --precision fp16, but ONNX Runtime computes this graph in"),
        ("onnxruntime", "int8", "in fp32;"),
        ("torch", "bf16", "got --precision bf16, the torch reference computes in fp32"),
        ("openvino", "int8", "got --precision int8"),
    ],
)
def test_precision_that_is_not_there_is_refused(name, precision, said, artifact) -> None:
    assert said in refusal(artifact, name, precision)


@pytest.mark.parametrize(
    ("kind", "name", "precision", "computed"),
    [
        ("int8 openvino", "openvino", None, "int8"),
        ("int8 openvino", "openvino", "int8", "int8"),
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


@pytest.mark.parametrize(("machine", "computed"), [("x86_64", "fp32"), ("aarch64", "fp16")])
def test_halves_are_widened_on_x86(machine, computed, reduced, monkeypatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    with open_engine(reduced("edgecar-s", "fp16"), "onnxruntime", None, 1) as engine:
        assert engine.info.precision == computed


def test_eight_bits_that_openvino_widened_are_not_called_int8(artifact) -> None:
    """Metadata that say int8 of a graph that has no Q/DQ pair."""
    claimed = Artifact(replace(artifact.metadata, precision="int8"), artifact.onnx)
    with open_engine(claimed, "openvino", "fp32", 1) as engine:
        assert engine.info.precision == "fp32"
    assert "computes edgecar-xs in fp32" in refusal(claimed, "openvino", "int8")


def test_unsigned_codes_never_reach_tensorrt(reduced, monkeypatch) -> None:
    import onnxruntime

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider"]
    )
    said = refusal(reduced("edgecar-s", "int8 onnxruntime"), "onnxruntime:tensorrt")
    assert "not for TensorRT" in said
    assert "unsigned codes" in said


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("damage", ["text", "empty", "half", "end", "operator", "input", "weights"])
def test_damaged_graph_is_one_line(name, damage, artifact) -> None:
    said = refusal(Artifact(artifact.metadata, damaged(artifact.onnx, damage)), name)
    assert damage != "operator" or "NoSuchOperator" in said


def damaged(whole: bytes, damage: str) -> bytes:
    cut = {
        "text": b"no network",
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "end": whole[:-40],
    }
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
    monkeypatch.setattr(select, "usable_cores", lambda: 3)
    monkeypatch.setattr(
        "edgecar.engines.onnxruntime.OnnxRuntimeEngine",
        lambda *given: asked.append(given[2]) or FakeEngine(lambda batch: batch),
    )
    artifact = unanswered(artifact)
    for threads in (None, 0, 2):
        open_engine(artifact, "onnxruntime", threads=threads)
    assert asked == [3, 3, 2]


def test_usable_cores_are_those_of_this_process(monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 5}, raising=False)
    assert usable_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == os.cpu_count()


# The torch reference runs graphs as they are, or says that it cannot.


def changed(artifact: Artifact, kind: str, **attributes) -> Artifact:
    """With other attributes on the first node of a kind."""
    artifact = unanswered(artifact)
    model = onnx.load_model_from_string(artifact.onnx)
    node = next(node for node in model.graph.node if node.op_type == kind)
    for entry in [entry for entry in node.attribute if entry.name in attributes]:
        node.attribute.remove(entry)
    node.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in attributes.items())
    return Artifact(artifact.metadata, model.SerializeToString())


def test_torch_refuses_operators_it_does_not_know(artifact) -> None:
    model = onnx.load_model_from_string(artifact.onnx)
    node = next(node for node in model.graph.node if node.op_type == "LeakyRelu")
    node.op_type = "Erf"
    del node.attribute[:]
    said = refusal(Artifact(artifact.metadata, model.SerializeToString()), "torch")
    assert "does not know operator Erf; use another" in said


@pytest.mark.parametrize(
    ("name", "kind", "attributes", "said"),
    [
        ("edgecar-xs", "DepthToSpace", {"mode": "DCR"}, "DepthToSpace in CRD order only"),
        ("edgecar-xs", "Conv", {"pads": [1, 1, 2, 2]}, "needs equal pads on both sides"),
        pytest.param(
            "glfusion",
            "Resize",
            {"coordinate_transformation_mode": "half_pixel"},
            "knows Resize",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "glfusion", "Resize", {"nearest_mode": "ceil"}, "knows Resize", marks=pytest.mark.slow
        ),
    ],
)
def test_torch_refuses_settings_it_would_compute_otherwise(
    name, kind, attributes, said, exported
) -> None:
    other = changed(exported(name), kind, **attributes)
    side = other.metadata.align_px * 2
    with open_engine(other, "torch", threads=1) as engine, pytest.raises(EngineError, match=said):
        engine.run(np.zeros((1, 1, side, side), np.float32))


def test_weights_reach_the_engine(artifact) -> None:
    """The control of all comparisons between engines: they run this artifact, not another."""
    model = onnx.load_model_from_string(artifact.onnx)
    last = model.graph.initializer[-1]
    values = numpy_helper.to_array(last)
    last.CopyFrom(numpy_helper.from_array(values + np.float32(0.1), last.name))
    other = Artifact(unanswered(artifact).metadata, model.SerializeToString())
    batch = np.full((1, 1, 8, 8), 0.5, np.float32)
    for name in LIBRARIES:
        with open_engine(artifact, name, "fp32", 1) as a, open_engine(other, name, "fp32", 1) as b:
            assert np.abs(a.run(batch) - b.run(batch)).max() > 1e-3
