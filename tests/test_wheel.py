"""The wheel, installed in an empty environment and used from another folder."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.cli.test_run import clip  # noqa: F401  # a fixture

pytestmark = pytest.mark.slow  # builds wheels and environments

ROOT = Path(__file__).parents[1]
MAX_WHEEL_MB = 40
MAX_ENVIRONMENT_MB = 575  # without bytecode, which Python writes or not as it is told


def run(*command: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # Built from the sdist, as an index would; no isolation: hatchling is a dev dependency.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("empty") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "--python", python, "install", "-c", ROOT / "constraints.txt", wheel)
    return folder


def test_wheel_holds_the_package_and_its_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    inside = [name for name in names if not name.split("/")[0].endswith(".dist-info")]
    assert {name.split("/")[0] for name in inside} == {"edgecar"}
    allowed = (
        ".py",
        "py.typed",
        ".json",
        ".toml",
        ".onnx",
        ".safetensors",
        ".cu",
        ".cuh",
        ".css",
        ".js",
        ".html",
        ".svg",
        ".txt",
    )
    assert [name for name in inside if not name.endswith(allowed)] == []
    for needed in (
        "edgecar/py.typed",
        "edgecar/data/export/recipes/default.toml",
        "edgecar/data/export/training/edgecar-s.jpeg.toml",
        "edgecar/runtime/cuda/kernels/gather.cu",
        "edgecar/data/export/scoring/multiscale-iqa.toml",
        "edgecar/evaluate/coco.txt",
        "edgecar/evaluate/weights/multiscale-iqa.onnx",
        "edgecar/evaluate/weights/multiscale-iqa.safetensors",
        "edgecar/data/engines/targets/orin-nano.toml",
        "edgecar/data/engines/service/cameras.toml",
        "edgecar/serve/page/index.html",
        "edgecar/data/benchmarks/suites/video.toml",
        "edgecar/zoo/weights/edgecar-s.jpeg.onnx",
        "edgecar/zoo/weights/manifest.json",
        "edgecar/bench/result_schema.json",
        "edgecar/report/page.css",
        "edgecar/report/page.js",
        "edgecar/gstreamer/python/edgecarrestore.py",
    ):
        assert needed in names
    assert wheel.stat().st_size < MAX_WHEEL_MB * 1e6


def test_weights_in_the_wheel_are_small_and_whole(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {
            Path(entry.filename).name: entry
            for entry in archive.infolist()
            if entry.filename.startswith("edgecar/zoo/weights/")
        }
        assert sum(entry.compress_size for entry in inside.values()) <= MAX_WHEEL_MB * 1e6
        for entry in json.loads(archive.read(inside["manifest.json"])):
            checkpoint = inside[entry["file"]]
            assert hashlib.sha256(archive.read(checkpoint)).hexdigest() == entry["sha256"]
            assert f"{Path(entry['file']).stem}.onnx" in inside


def test_runs_without_torch_from_another_folder(environment, clip, tmp_path):  # noqa: F811
    edgecar = environment / "bin" / "edgecar"
    artifact = ROOT / "edgecar" / "zoo" / "weights" / "edgecar-s.jpeg.onnx"
    for network in ("edgecar-s", artifact):
        done = run(
            edgecar, "run", clip, "-o", "out.mp4", "--network", network, "--json", cwd=tmp_path
        )
        assert json.loads(done.stdout)["frames"] == 12
    assert (tmp_path / "out.mp4").stat().st_size > 0
    assert "edgecar-s" in run(edgecar, "models", cwd=tmp_path).stdout
    row = json.loads(
        run(
            edgecar, "bench", "--res", "64x48", "--networks", artifact, "--json", cwd=tmp_path
        ).stdout
    )["rows"][0]
    assert row["fps"] > 0
    scored = run(edgecar, "score", clip, "--crf", 41, "--network", "edgecar-s",
                 "--tolerance", 100, "--frames", 2, "--json", cwd=tmp_path)  # fmt: skip
    assert len(json.loads(scored.stdout)["rows"]) == 2
    python = environment / "bin" / "python"
    assert subprocess.run(
        [python, "-c", "import torch"], capture_output=True, check=False
    ).returncode


def test_what_needs_torch_names_the_extra(environment, tmp_path):
    edgecar = environment / "bin" / "edgecar"
    for command in (
        ["export", "msfan.pt"],
        ["train", "edgecar-s", "--data", ".", "--val", "."],
        ["train-scorer", "--data", "."],
    ):
        done = subprocess.run(
            [edgecar, *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "pip install 'edgecar[train]'" in done.stderr.strip().splitlines()[-1]


def test_environment_is_small(environment, capsys):
    files = [p for p in environment.rglob("*") if p.is_file() and not p.is_symlink()]
    size_mb = sum(p.stat().st_size for p in files if p.suffix != ".pyc") / 1e6
    with capsys.disabled():
        sys.stdout.write(f"\nruntime environment: {size_mb:.0f} MB\n")
    assert size_mb < MAX_ENVIRONMENT_MB


def test_run_imports_no_torch_even_where_it_is_installed(clip, tmp_path):  # noqa: F811
    program = (
        "import sys; from edgecar.cli import main\n"
        f"sys.argv = ['edgecar', 'run', {str(clip)!r}, '-o', 'null', '--json']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert 'torch' not in sys.modules and 'edgecar.zoo.registry' not in sys.modules\n"
    )
    run(sys.executable, "-c", program, cwd=tmp_path)
