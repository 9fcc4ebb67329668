"""Plans and their metadata: what is written, what is refused, and in which words."""

import json
from dataclasses import replace

import pytest

from edgecar.artifact import Artifact, read_artifact
from edgecar.engines.gpu import Gpu
from edgecar.engines.plan import (
    plan_path,
    read_plan,
    read_plan_metadata,
    sidecar_of,
    why_not_here,
)
from edgecar.engines.targets import target_named
from edgecar.engines.trt_build import settings_for, write_plan
from edgecar.engines.trt_library import Library, load_library
from edgecar.errors import ArtifactError, EngineError, WindowError
from edgecar.metadata import Quality
from tests.engines.fake_tensorrt import fake_tensorrt

pytest.importorskip("tensorrt_rtx")
CARD = Gpu("NVIDIA GeForce RTX 4090", "8.9", 128, 24564, False, "13.0", "", "")
SMALL = {"tile": (64, 64), "batch": 2, "level": 0}


@pytest.fixture
def artifact(exported, tmp_path) -> Artifact:
    path = tmp_path / "edgecar-s.onnx"
    path.write_bytes(exported("edgecar-s").onnx)
    return read_artifact(path)


@pytest.fixture(scope="module")
def library() -> Library:
    return load_library("tensorrt-rtx")


@pytest.fixture
def built(artifact, library):
    target = target_named("rtx")
    path = plan_path(artifact.path, target)
    write_plan(artifact, path, library, target, settings_for(artifact, target, **SMALL), None)
    return path


def test_facts_come_back_as_they_were(built, artifact, library) -> None:
    metadata, content = read_plan(built)
    assert built.name == "edgecar-s.rtx.plan"
    assert content == built.read_bytes()
    assert metadata.network == artifact.metadata
    assert metadata.settings == settings_for(artifact, target_named("rtx"), **SMALL)
    assert (metadata.library, metadata.version) == ("tensorrt-rtx", library.version)
    assert (metadata.target, metadata.onnx, metadata.gpu) == ("rtx", "edgecar-s.onnx", "")
    assert metadata.layers > 3
    assert metadata.inspected is None  # nothing here can load it


def test_facts_of_a_lower_precision_come_back(reduced, tmp_path, library) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(reduced("edgecar-s", "fp16").onnx)
    half, target = read_artifact(path), target_named("rtx")
    quality = Quality(0.1, 0.2, 0, 1, 3, 6, "", "", "", 6, ("a",), ("b",), "", (("exact", 0.1),))
    half = replace(half, metadata=replace(half.metadata, quality=quality))
    made = write_plan(
        half, tmp_path / "half.plan", library, target, settings_for(half, target, **SMALL), None
    )
    assert read_plan_metadata(tmp_path / "half.plan") == made
    assert made.settings.precision == "fp16"


@pytest.mark.parametrize("end", [0, 1000, -1])
def test_plan_that_was_cut_off_is_not_loaded(end, built) -> None:
    built.write_bytes(built.read_bytes()[:end])
    with pytest.raises(ArtifactError) as refused:
        read_plan(built)
    assert "other bytes than edgecar-s.rtx.plan.json names" in str(refused.value)
    assert "--rebuild" in str(refused.value)


def test_plan_without_its_facts_is_not_loaded(built) -> None:
    sidecar_of(built).unlink()
    with pytest.raises(ArtifactError) as refused:
        read_plan(built)
    assert "no edgecar-s.rtx.plan.json beside it" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.update(format=0), "another format"),
        (lambda table: table.pop("version"), "'version'"),
        (lambda table: table.update(more=1), "'more' is missing or unknown"),
        (lambda table: table["settings"].update(tiles=1), "tiles"),
        (lambda table: table["network"].pop("halo_px"), "halo_px"),
        (lambda table: table["network"]["known_answer"].update(allowed_db=9.0), "is damaged"),
        (lambda table: table["network"].update(known_answer="much"), "is damaged"),
    ],
)
def test_facts_that_are_not_understood_are_refused(change, said, built) -> None:
    table = json.loads(sidecar_of(built).read_text())
    change(table)
    sidecar_of(built).write_text(json.dumps(table))
    with pytest.raises(ArtifactError) as refused:
        read_plan(built)
    assert said in str(refused.value)


def test_absent_plan_is_said(tmp_path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        read_plan(tmp_path / "none.plan")


def test_plan_for_any_card_runs_from_ampere_on(built, library) -> None:
    metadata = read_plan_metadata(built)
    assert why_not_here(metadata, library.version, CARD) is None
    turing = replace(CARD, name="NVIDIA GeForce RTX 2080", compute_capability="7.5")
    assert why_not_here(metadata, library.version, turing) == (
        "it was built for GPUs from Ampere on, this is NVIDIA GeForce RTX 2080 (7.5)"
    )
    assert why_not_here(metadata, library.version, None) == "there is no NVIDIA GPU here"
    assert why_not_here(metadata, "1.0", CARD) == (
        f"it was built with TensorRT-RTX {library.version}, this is 1.0"
    )


def test_plan_of_one_gpu_runs_on_that_only(built) -> None:
    metadata = replace(read_plan_metadata(built), gpu="NVIDIA L4", compute_capability="8.9")
    l4 = replace(CARD, name="NVIDIA L4")
    assert why_not_here(metadata, metadata.version, l4) is None
    assert why_not_here(metadata, metadata.version, CARD) == (
        "it was built for NVIDIA L4 (8.9), this is NVIDIA GeForce RTX 4090 (8.9)"
    )
    free = replace(metadata, settings=replace(metadata.settings, hardware_compatible=True))
    assert why_not_here(free, metadata.version, CARD) is None
    kept = replace(metadata, settings=replace(metadata.settings, version_compatible=True))
    assert why_not_here(kept, "99", l4) is None


def test_build_that_fails_leaves_what_was_there(built, artifact, library) -> None:
    before = {path.name: path.read_bytes() for path in built.parent.iterdir()}
    target = target_named("rtx")
    wrong = settings_for(artifact, target, **SMALL, version_compatible=True)
    with pytest.raises(EngineError):
        write_plan(artifact, built, library, target, wrong, None)
    assert {path.name: path.read_bytes() for path in built.parent.iterdir()} == before


def test_tensorrt_builds_only_on_the_box_itself(artifact, tmp_path, library) -> None:
    enterprise = Library("tensorrt", library.trt, library.log)
    target = target_named("t4")
    settings = settings_for(artifact, target, **SMALL)
    for gpu, said in (
        (None, "builds on the GPU that will run the plan, and there is none here"),
        (CARD, "target t4 has compute capability 7.5, this is NVIDIA GeForce RTX 4090 (8.9)"),
    ):
        with pytest.raises(EngineError) as refused:
            write_plan(artifact, tmp_path / "x.plan", enterprise, target, settings, gpu)
        assert said in str(refused.value)
        assert "run this on the t4 itself" in str(refused.value)


def test_timings_are_kept_for_the_next_build(artifact, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("EDGECAR_CACHE", str(tmp_path / "cache"))
    given: list[bytes] = []
    fake = fake_tensorrt("10.3.0", timings=given)
    t4 = Gpu("Tesla T4", "7.5", 40, 15360, False, "12.6", "", "")
    target = target_named("t4")
    settings = settings_for(artifact, target, **SMALL)
    for _ in range(2):
        metadata = write_plan(artifact, tmp_path / "x.plan", fake, target, settings, t4)
    (kept,) = (tmp_path / "cache" / "engines").iterdir()
    assert kept.name == "tensorrt-10.3.0-tesla-t4.timings"
    assert given == [b"", kept.read_bytes()]
    assert (metadata.gpu, metadata.compute_capability, metadata.cuda) == ("Tesla T4", "7.5", "12.6")


@pytest.mark.parametrize("tile", [(64, 63), (24, 64)])
def test_tile_that_does_not_suit_the_network_is_refused(tile, artifact) -> None:
    with pytest.raises(WindowError, match="multiples of 2 px and at least 26 px"):
        settings_for(artifact, target_named("rtx"), tile=tile)


def test_precision_that_the_target_does_not_take_is_refused(artifact) -> None:
    target = replace(target_named("rtx"), precisions=("int8",))
    with pytest.raises(EngineError, match="rtx takes int8, the graph is in fp32"):
        settings_for(artifact, target)


def test_graph_that_would_be_misread_is_not_built(reduced, tmp_path, library) -> None:
    path = tmp_path / "unsigned.onnx"
    path.write_bytes(reduced("edgecar-s", "int8 onnxruntime").onnx)
    artifact, target = read_artifact(path), target_named("rtx")
    settings = settings_for(artifact, target, **SMALL)
    with pytest.raises(EngineError, match="unsigned codes"):
        write_plan(artifact, tmp_path / "x.plan", library, target, settings, None)
    assert not (tmp_path / "x.plan").exists()
