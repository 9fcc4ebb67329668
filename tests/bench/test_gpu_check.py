"""The check of GPUs, on none and on one made of the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.run import gpu_check
from benchmarks.run.gpu_check import (
    Outcome,
    exit_code,
    options,
    outcome,
    table,
    write_result,
)
from benchmarks.run.gpu_parts import SkippedError, kernels_part, types_part
from edgecar.errors import EngineError
from tests.runtime.cuda.host_device import HostDevice

pytestmark = pytest.mark.slow  # a harness for our own pages

ROOT = Path(__file__).parents[2]
GIVEN = options().parse_args([])


@pytest.fixture
def no_gpu(monkeypatch):
    def find_gpu():
        raise EngineError("no NVIDIA driver here (libcuda.so.1)")

    monkeypatch.setattr(gpu_check, "find_gpu", find_gpu)


@pytest.mark.usefixtures("no_gpu")
def test_command_prints_and_keeps(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.delenv("EDGECAR_REQUIRE_GPU", raising=False)
    monkeypatch.setattr(sys, "argv", ["gpu-check", "--save", str(tmp_path / "results")])
    with pytest.raises(SystemExit) as stopped:
        gpu_check.main()
    assert stopped.value.code == 0
    captured = capsys.readouterr()
    assert captured.out == "skipped  gpu: why no NVIDIA driver here (libcuda.so.1)\n"
    assert "no network was timed: no result file" in captured.err
    kept = json.loads((tmp_path / "results" / "gpu-check.json").read_text())
    assert [part["state"] for part in kept["parts"]] == ["skipped"]


def test_it_needs_no_package_but_numpy_and_opencv(tmp_path) -> None:
    """What a bare box with a GPU has: here without a GPU, so that it ends there."""
    program = f"""
import importlib.abc, sys
class Bare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        there = ("numpy", "cv2", "edgecar", "benchmarks", "__main__")
        if top not in sys.stdlib_module_names and top not in there:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Bare())
sys.path.insert(0, {str(ROOT)!r})
sys.argv = ["gpu-check", "--save", {str(tmp_path)!r}]
from benchmarks.run import gpu_check, gpu_networks
from pathlib import Path
try:
    gpu_networks.artifact_of("edgecar-s", "fp32", Path())
except gpu_check.SkippedError as reason:
    print(reason, file=sys.stderr)
gpu_check.find_gpu = lambda: (_ for _ in ()).throw(gpu_check.EngineError("no GPU"))
gpu_check.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("skipped  gpu: why ")
    assert "onnx is not installed" in done.stderr


def test_kernels_pass_where_they_are_right() -> None:
    found = kernels_part(HostDevice())
    assert found["differing_pixels"] == 0
    assert types_part(HostDevice()) == {"types": ["fp32", "fp16", "int8"]}


def test_kernels_fail_where_one_is_wrong(monkeypatch) -> None:
    device = HostDevice()
    launch = device.launch

    def wrong(kernel, items, layers, arguments, stream) -> None:
        if kernel == "scatter_fp32":  # a row too few of the plan's
            arguments = (*arguments[:-3], arguments[-3] + 1, *arguments[-2:])
        launch(kernel, items, layers, arguments, stream)

    monkeypatch.setattr(device, "launch", wrong)
    found = outcome("kernels", lambda: kernels_part(device))
    assert found.state == "failed"
    assert "pixels are not the whole's" in found.found["why"]


ROW = {
    "p50_ms": 1.5, "p95_ms": 2.0, "fps": 700.0, "upload_ms": 0.1, "compute_ms": 1.2,
    "download_ms": 0.11, "batches": 2, "engine_ms": 1.0, "gather_ms": 0.01, "scatter_ms": 0.01,
    "detect_ms": 0.03, "overhead_share": 0.05,
}  # fmt: skip
FLOOR = {"floor_ms": 0.25, "bound_by": "memory", "engine_to_floor": 4.0}
NETWORK = {
    "engine": "tensorrt", "provider": "TensorRT 10.3", "network": "edgecar-s",
    "precision": "fp16", "tile": (384, 656), "batch": 9, "peak_mib": 120.5,
    "max_code_difference": 1,
}  # fmt: skip
GPU = Outcome("gpu", "passed", {"name": "NVIDIA H200", "compute_capability": "9.0"})


def test_failure_of_one_part_is_not_that_of_the_rest() -> None:
    def refused():
        raise EngineError("out of memory")

    def absent():
        raise SkippedError("TensorRT is not installed")

    kernel = {"gb_s": 90.0, "share_of_copy": 0.9, "reaches_aim": True}
    slow = {"gb_s": 10.0, "share_of_copy": 0.1, "reaches_aim": False}
    outcomes = [
        outcome("good", lambda: {"engine": "tensorrt", "1080p": {**ROW, **FLOOR}}),
        outcome("plain", lambda: {"1080p": ROW}),
        outcome("kernel speed", lambda: {"gather": kernel, "changed": slow}),
        outcome("bad", refused),
        outcome("left out", absent),
        outcome("worse", lambda: {}["plan"]),
    ]
    states = ["passed", "passed", "passed", "failed", "skipped", "failed"]
    assert [each.state for each in outcomes] == states
    assert exit_code(outcomes) == 3
    speed = (
        "         1080p: p50 1.50 ms, p95 2.00 ms, 700.0 frames/s; up 0.10, compute 1.20, down "
        "0.11 ms; engine 1.000 ms, runtime 5.0% of it"
    )
    assert table(outcomes).splitlines() == [
        "passed   good: engine tensorrt",
        f"{speed}, floor 0.250 ms (memory)",
        "passed   plain: ",
        speed,
        "passed   kernel speed: ",
        "         gather: 90.0 GB/s, 90% of a copy, reaches the aim",
        "         changed: 10.0 GB/s, 10% of a copy, short of the aim",
        "failed   bad: why out of memory",
        "skipped  left out: why TensorRT is not installed",
        "failed   worse: why KeyError: 'plan'",
    ]


def test_result_file_fits_the_schema(tmp_path) -> None:
    import jsonschema

    from edgecar.bench.results import SCHEMA_PATH

    row = {**ROW, **FLOOR}
    outcomes = [GPU, Outcome("x", "passed", {**NETWORK, "4k": row})]
    write_result(outcomes, tmp_path / "gpu.json")
    schema = json.loads(SCHEMA_PATH.read_text())
    document = json.loads((tmp_path / "gpu.json").read_text())
    jsonschema.validate(document, schema)
    document["rows"][0]["engine_ms"] = 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)
