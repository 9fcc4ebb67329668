"""`edgecar build`, on a machine without a GPU and on ones that are made up."""

import json
from pathlib import Path

import pytest

from edgecar.cli import build as verb
from edgecar.engines import accelerator
from edgecar.engines.gpu import Gpu
from edgecar.errors import EngineError
from tests.engines.fake_tensorrt import fake_tensorrt

pytest.importorskip("tensorrt_rtx")
SMALL = ("--tile", "64x64", "--batch", "2", "--level", "0")
T4 = Gpu("Tesla T4", "7.5", 40, 15360, False, "12.6", "", "")
CARD = Gpu("NVIDIA GeForce RTX 4090", "8.9", 128, 24564, False, "13.0", "", "")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGECAR_CACHE", str(tmp_path / "cache"))
    put_in(monkeypatch, None)


def put_in(monkeypatch, gpu: Gpu | None) -> None:
    """Make this a machine with that GPU, or none."""

    def find_gpu() -> Gpu:
        if gpu is None:
            raise EngineError("no NVIDIA driver here (libcuda.so.1)")
        return gpu

    monkeypatch.setattr(accelerator, "find_gpu", find_gpu)


@pytest.fixture
def tensorrt(monkeypatch):
    """A function that installs a TensorRT of some version beside TensorRT-RTX."""
    real = verb.load_library

    def install(version: str) -> None:
        fake = fake_tensorrt(version)
        monkeypatch.setattr(
            verb, "load_library", lambda name: fake if name == "tensorrt" else real(name)
        )

    return install


@pytest.fixture
def onnx(exported, tmp_path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(exported("edgecar-s").onnx)
    return path


def test_plan_for_rtx_cards_is_built_without_one(edgecar, onnx) -> None:
    done = edgecar("build", onnx, "--target", "rtx", *SMALL)
    assert done.code == 0, done.err
    assert "any card from Ampere on" in done.out
    assert "2 tile(s) of 64x64 px, 40x40 of them kept" in done.out
    assert Path("net.rtx.plan").stat().st_size > 1000
    assert "--engine tensorrt-rtx --network net.onnx" in done.err
    again = edgecar("build", onnx, "--target", "rtx", *SMALL)
    assert "which is that already" in again.out


def test_facts_are_one_json_document(edgecar, onnx) -> None:
    done = edgecar("build", onnx, "--target", "rtx", "--any-batch", *SMALL, "--json")
    table = json.loads(done.out)
    stored = json.loads(Path("net.rtx.plan.json").read_text())
    assert stored.pop("format") == 1
    assert table == {"path": str(onnx.with_name("net.rtx.plan")), **stored}
    assert table["settings"]["any_batch"] is True


def test_network_that_ships_is_built_from_a_copy_here(edgecar) -> None:
    assert edgecar("build", "edgecar-xs", "--target", "rtx", "--for", "h264", *SMALL).code == 0
    made = {path.name for path in Path().iterdir()}
    plan = "edgecar-xs.h264.rtx.plan"
    assert made == {"edgecar-xs.h264.onnx", plan, f"{plan}.json"}
    assert edgecar("build", plan, "--rebuild").code == 0


def test_lower_precision_passes_the_gate_first(edgecar) -> None:
    for outcome in ("wrote", "kept"):
        done = edgecar("build", "edgecar-xs", "--target", "rtx", "--precision", "fp16", *SMALL)
        assert done.code == 0, done.err
        assert outcome in done.out
    metadata = json.loads(Path("edgecar-xs.jpeg.fp16.rtx.plan.json").read_text())
    assert metadata["network"]["quality"]["loss_db"] < 0.01
    assert metadata["settings"]["precision"] == "fp16"


def test_without_a_gpu_auto_says_what_to_do(edgecar, onnx) -> None:
    done = edgecar("build", onnx)
    assert done.code == 1
    assert "no GPU to build for: no NVIDIA driver here" in done.err
    assert "--target rtx needs none" in done.err


def test_without_tensorrt_one_line_says_where_it_comes_from(edgecar) -> None:
    done = edgecar("build", "edgecar-s", "--target", "orin-nano")
    assert done.code == 1
    (line,) = done.err.strip().splitlines()
    assert "TensorRT is not installed; on a Jetson it comes with JetPack" in line
    assert "build on the box that will run the plan" in line
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("version", ["10.3.0", "11.4.1"])
def test_tensorrt_builds_for_the_gpu_that_is_here(version, edgecar, onnx, tensorrt, monkeypatch):
    tensorrt(version)
    put_in(monkeypatch, T4)
    done = edgecar("build", onnx, *SMALL)
    assert done.code == 0, done.err
    metadata = json.loads(Path("net.t4.plan.json").read_text())
    assert (metadata["library"], metadata["version"], metadata["gpu"]) == (
        "tensorrt",
        version,
        "Tesla T4",
    )
    assert edgecar("build", "net.t4.plan").out.endswith("fits      this box\n")


def test_plan_of_another_gpu_is_explained_and_built_again(
    edgecar, onnx, tensorrt, monkeypatch
) -> None:
    tensorrt("10.3.0")
    put_in(monkeypatch, T4)
    assert edgecar("build", onnx, *SMALL).code == 0
    put_in(monkeypatch, CARD)
    done = edgecar("build", "net.t4.plan")
    assert done.code == 1
    assert (
        "net.t4.plan does not run here: it was built for Tesla T4 (7.5), this is NVIDIA GeForce "
        "RTX 4090 (8.9); edgecar build net.t4.plan --rebuild" in done.err
    )
    assert edgecar("build", "net.t4.plan", "--rebuild").code == 0
    metadata = json.loads(Path("net.t4.plan.json").read_text())
    assert metadata["gpu"] == CARD.name
    assert metadata["settings"]["tile"] == [64, 64]
    assert edgecar("build", "net.t4.plan").code == 0


def test_plan_of_another_tensorrt_is_explained_and_built_again(
    edgecar, onnx, tensorrt, monkeypatch
) -> None:
    put_in(monkeypatch, T4)
    tensorrt("10.3.0")
    assert edgecar("build", onnx, *SMALL).code == 0
    tensorrt("10.16.0")
    assert "built with TensorRT 10.3.0, this is 10.16.0" in edgecar("build", "net.t4.plan").err
    assert "add --rebuild to replace it" in edgecar("build", onnx, *SMALL).err
    assert edgecar("build", onnx, *SMALL, "--rebuild").code == 0
    assert edgecar("build", "net.t4.plan").code == 0


def test_another_tile_or_network_does_not_replace_a_plan_unasked(edgecar, onnx, exported) -> None:
    assert edgecar("build", onnx, "--target", "rtx", *SMALL).code == 0
    other = edgecar("build", onnx, "--target", "rtx", "--tile", "96x64")
    assert "it was built with other settings; add --rebuild" in other.err
    onnx.write_bytes(exported("edgecar-xs").onnx)
    other = edgecar("build", onnx, "--target", "rtx", *SMALL)
    assert "it was built from another net.onnx; add --rebuild" in other.err
    again = edgecar("build", "net.rtx.plan", "--rebuild")
    assert "is not what net.rtx.plan was built from" in again.err


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda: Path("net.rtx.plan").write_bytes(b"cut"), "other bytes than"),
        (lambda: Path("net.rtx.plan.json").unlink(), "no net.rtx.plan.json beside it"),
        (lambda: Path("net.rtx.plan").unlink(), "no such file"),
        (lambda: None, "there is no NVIDIA GPU here"),
    ],
)
def test_plan_that_cannot_run_is_explained(spoil, said, edgecar, onnx) -> None:
    assert edgecar("build", onnx, "--target", "rtx", *SMALL).code == 0
    spoil()
    done = edgecar("build", "net.rtx.plan")
    assert done.code == 1
    assert said in done.err


def test_output_goes_where_it_was_asked_to(edgecar, onnx) -> None:
    done = edgecar("build", onnx, "--target", "rtx", *SMALL, "-o", "engines/gate.plan")
    assert done.code == 0, done.err
    assert {path.name for path in Path("engines").iterdir()} == {
        *("gate.plan", "gate.plan.json", "net.onnx")
    }
    wrong = edgecar("build", onnx, "--target", "rtx", *SMALL, "-o", "gate.engine")
    assert "gate.engine is no .plan file" in wrong.err
