"""Metadata in an ONNX file: written, read, and refused where they are missing or impossible."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecar import artifact as artifacts
from edgecar.artifact import find_artifact, read_artifact, shipped_for, shipped_names
from edgecar.errors import ArtifactError
from edgecar.metadata import OPTIONAL, PREFIX, Metadata, Quality, read_metadata, write_metadata

FACTS = Metadata(
    model="edgecar-s",
    channels=1,
    halo_px=12,
    align_px=2,
    context="local",
    bytes_per_px=68,
    precision="fp32",
    trained_on="jpeg 10-40, subsampled",
    weights_sha256="0123456789abcdef" * 4,
    parity_max_error=2.2649765014648438e-06,
    parity_budget=1e-4,
)


NEEDED = [field.name for field in fields(Metadata) if field.name not in OPTIONAL]
QUALITY = Quality(
    loss_db=0.0321,
    worst_db=0.14,
    shift_codes=0.02,
    budget_db=0.05,
    budget_worst_db=0.15,
    pictures=6,
    data="photographs, jpeg 10-40",
    data_sha256="ab" * 32,
    method="percentile 99.9",
    layers=6,
    kept=("first", "last"),
    engines=("openvino", "tensorrt"),
    fp32_sha256="cd" * 32,
)


def picture(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, "h", "w"])


def network(factor: float = 0.5, size: int = 1) -> onnx.ModelProto:
    """A picture times a constant."""
    values = numpy_helper.from_array(np.full((size, 1, 1, 1), factor, np.float32), "factor")
    node = helper.make_node("Mul", ["input", "factor"], ["output"])
    graph = helper.make_graph([node], "network", [picture("input")], [picture("output")], [values])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


@pytest.fixture
def write(tmp_path):
    """Writes a network with metadata; some changed, some left out."""

    def to(without: str = "", **changes: object) -> Path:
        model, path = network(), tmp_path / "network.onnx"
        write_metadata(model, FACTS)
        for entry in list(model.metadata_props):
            name = entry.key.removeprefix(PREFIX)
            if name == without:
                model.metadata_props.remove(entry)
            elif name in changes:
                entry.value = str(changes[name])
        onnx.save(model, path)
        return path

    return to


def refusal(path: Path) -> str:
    with pytest.raises(ArtifactError) as refused:
        read_artifact(path)
    said = str(refused.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    return said


def test_facts_come_back(write) -> None:
    artifact = read_artifact(write())
    assert artifact.metadata == FACTS
    for field in fields(Metadata):
        assert type(getattr(artifact.metadata, field.name)) is type(getattr(FACTS, field.name))


@pytest.mark.parametrize(
    ("trained_on", "coder"),
    [
        ("jpeg 10-40", "jpeg"),
        ("h264 crf 29-47", "h264"),
        ("hevc", "hevc"),
        ("", None),
        ("my h264 camera", None),
        ("JPEG 10-40", None),
    ],
)
def test_coder_is_the_first_word_of_what_was_trained_on(trained_on, coder) -> None:
    assert replace(FACTS, trained_on=trained_on).coder == coder


@pytest.mark.parametrize(
    ("trained_on", "purpose", "weights_for"),
    [
        ("h264 crf 29-47", "view", "h264"),
        ("h264 crf 29-47", "detect", "h264:detect"),
        ("my camera", "detect", None),
    ],
)
def test_purpose_comes_back_and_goes_with_the_coder(trained_on, purpose, weights_for) -> None:
    model, metadata = network(), replace(FACTS, trained_on=trained_on, purpose=purpose)
    write_metadata(model, metadata)
    assert read_metadata(model) == metadata
    assert metadata.weights_for == weights_for
    for entry in model.metadata_props:
        entry.value = entry.value.replace('"detect"', '"destroy"')
    if purpose == "detect":
        with pytest.raises(ArtifactError, match="'destroy' is none of view, detect; export it ag"):
            read_metadata(model)


@pytest.mark.parametrize("text", ["", "Ü 10–40", "a: b\nc", " spaced "])
@pytest.mark.parametrize("quality", [None, QUALITY, replace(QUALITY, kept=())])
def test_any_text_and_the_outcome_of_the_gate_come_back(text, quality) -> None:
    model, metadata = network(), replace(FACTS, trained_on=text, quality=quality)
    write_metadata(model, metadata)
    assert read_metadata(onnx.load_model_from_string(model.SerializeToString())) == metadata
    write_metadata(model, FACTS)  # nothing of it is left
    assert read_metadata(model) == FACTS


def test_bytes_are_the_whole_network(write) -> None:
    import onnxruntime

    path = write()
    artifact = read_artifact(path)
    assert artifact.path == path
    session = onnxruntime.InferenceSession(artifact.onnx, providers=["CPUExecutionProvider"])
    (restored,) = session.run(None, {"input": np.ones((1, 1, 2, 2), np.float32)})
    assert np.array_equal(restored, np.full((1, 1, 2, 2), 0.5, np.float32))


def test_writing_replaces_facts_and_keeps_what_others_wrote() -> None:
    model = network()
    model.metadata_props.add(key="author", value="someone")
    write_metadata(model, replace(FACTS, quality=QUALITY))
    write_metadata(model, replace(FACTS, halo_px=20))
    keys = [entry.key for entry in model.metadata_props]
    assert sorted(keys) == sorted(
        ["author", f"{PREFIX}format", *(f"{PREFIX}{name}" for name in NEEDED)]
    )
    assert read_metadata(model).halo_px == 20


def test_weights_beside_the_file_are_read_in(tmp_path) -> None:
    import onnxruntime

    model, path = network(0.25, size=1000), tmp_path / "large.onnx"
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("ReduceMean", ["factor"], ["mean"], keepdims=0))
    model.graph.node.append(helper.make_node("Mul", ["input", "mean"], ["output"]))
    write_metadata(model, FACTS)
    onnx.save(model, path, save_as_external_data=True, location="large.bin", size_threshold=0)
    assert (tmp_path / "large.bin").stat().st_size >= 4000
    artifact = read_artifact(path)
    (tmp_path / "large.bin").unlink()
    session = onnxruntime.InferenceSession(artifact.onnx, providers=["CPUExecutionProvider"])
    (restored,) = session.run(None, {"input": np.ones((1, 1, 1, 1), np.float32)})
    assert restored.item() == 0.25
    # And without them, the file is refused.
    assert "its weights cannot be read" in refusal(path)


def test_missing_fact_is_named(write) -> None:
    for name in NEEDED:
        assert f"fact {name!r} is missing; export it again" in refusal(write(without=name))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"halo_px": 13}, "halo 13 px, need a multiple of 2"),
        ({"halo_px": -2}, "halo -2 px, need a multiple of 2"),
        ({"align_px": 0}, "alignment 0 px; need"),
        ({"align_px": -2}, "alignment -2 px; need"),
        ({"halo_px": "twelve"}, "'twelve'"),
        ({"halo_px": "12.0"}, "'12.0'"),
        ({"channels": 0}, ": 0 channels"),
        ({"channels": 2}, ": 2 channels"),
        ({"bytes_per_px": 0}, "0 bytes per px"),
        ({"bytes_per_px": -68}, "-68 bytes per px"),
        ({"context": "global"}, "'global' is none of local, windowed"),
        ({"precision": "fp8"}, "'fp8' is none of fp32, tf32, bf16, fp16, int8"),
        ({"parity_budget": "little"}, "'little'"),
        ({"format": 2}, "artifact format 2, this edgecar reads 1"),
        ({"format": ""}, "artifact format , this edgecar reads 1"),
    ],
)
def test_impossible_fact_is_refused(changes, said, write) -> None:
    message = refusal(write(**changes))
    assert said in message
    assert "export" in message


def test_foreign_network_is_told_to_be_exported(write, tmp_path) -> None:
    assert "artifact format None" in refusal(write(without="format"))
    path, model = tmp_path / "foreign.onnx", network()
    model.metadata_props.add(key="author", value="someone")
    onnx.save(model, path)
    assert "without edgecar's metadata" in refusal(path)


@pytest.mark.parametrize(
    "content", [b"", b"no network\n", b"\x00" * 100, b"\x08\x0a\x12\xff\xff", b"PK\x03\x04zip"]
)
def test_file_that_is_no_network_is_refused(content, tmp_path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    assert "ONNX" in refusal(path)


def test_truncated_network_is_refused(write) -> None:
    path = write()
    whole = path.read_bytes()
    for end in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:end])
        refusal(path)


def test_missing_file_and_folder_are_refused(tmp_path) -> None:
    assert "no such file; make one with: edgecar export" in refusal(tmp_path / "absent.onnx")
    assert "no such file" in refusal(tmp_path)


# Names.


@pytest.fixture
def weights(tmp_path, monkeypatch) -> Path:
    folder, work = tmp_path / "weights", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    for name in ("edgecar-s.jpeg.onnx", "msfan.jpeg.onnx", "edgecar-s.h264.onnx", "notes.txt"):
        (folder / name).touch()
    monkeypatch.setattr(artifacts, "WEIGHTS", folder)
    monkeypatch.chdir(work)
    return folder


def test_name_means_the_shipped_weights_for_a_codec(weights) -> None:
    assert find_artifact("edgecar-s") == weights / "edgecar-s.jpeg.onnx"
    assert find_artifact("edgecar-s", "h264") == weights / "edgecar-s.h264.onnx"
    assert shipped_names() == ["edgecar-s", "msfan"]
    assert shipped_names("hevc") == []
    (weights / "edgecar-s.h264-detect.onnx").touch()
    assert find_artifact("edgecar-s", "h264:detect") == weights / "edgecar-s.h264-detect.onnx"
    assert shipped_names("h264") == shipped_names("h264:detect") == ["edgecar-s"]
    assert shipped_for("edgecar-s") == ["jpeg", "h264", "h264:detect"]
    assert shipped_for("nosuch") == []


@pytest.mark.usefixtures("weights")
def test_path_means_itself() -> None:
    path = Path("mine.onnx")
    assert find_artifact("mine.onnx") == path  # reading it says whether it is there
    assert find_artifact(path) == path
    Path("edgecar-s").touch()
    assert find_artifact("edgecar-s") == Path("edgecar-s")


@pytest.mark.parametrize(
    ("name", "codec", "said"),
    [
        ("edgecar-m", "jpeg", "no jpeg weights ship for 'edgecar-m' (there are: edgecar-s, msfan)"),
        ("msfan", "h264", "no h264 weights ship for 'msfan' (there are: edgecar-s; it has"),
        ("msfan", "hevc", "(there are: none; it has some for jpeg); give"),
        ("edgecar-s", "h264:detect", "(there are: none; it has some for jpeg, h264); give"),
        ("edgecar-s", "jpeg:detect", "no weights are made for 'jpeg:detect'; choose jpeg, "),
        ("network.pt", "jpeg", "network.pt: no such file"),
        ("msfan", "mpeg4", "no weights are made for 'mpeg4'; choose jpeg, h264, hevc"),
        ("", "jpeg", "there are"),
    ],
)
@pytest.mark.usefixtures("weights")
def test_unknown_name_is_answered_with_those_there_are(name, codec, said) -> None:
    with pytest.raises(ArtifactError) as refused:
        find_artifact(name, codec)
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "7", '{"kept": [], "engines": []}', "nothing"])
def test_damaged_outcome_is_refused(text) -> None:
    model = network()
    write_metadata(model, replace(FACTS, quality=QUALITY))
    (entry,) = (e for e in model.metadata_props if e.key == f"{PREFIX}quality")
    entry.value = text
    with pytest.raises(ArtifactError, match="export it again"):
        read_metadata(model)
