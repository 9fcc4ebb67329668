"""The check of GPUs, on none and on one made of the CPU."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from benchmarks.run import gpu_ceilings, gpu_check, gpu_networks, gpu_speed
from benchmarks.run.gpu_check import Outcome, exit_code, outcome, parts, table, write_result
from benchmarks.run.gpu_files import prepare
from benchmarks.run.gpu_networks import (
    NETWORKS,
    PRECISIONS,
    artifact_of,
    ceilings_part,
    difference,
    network_part,
    open_tiles,
    with_floor,
)
from benchmarks.run.gpu_parts import SkippedError, kernels_part, types_part
from benchmarks.run.gpu_speed import Bench
from edgecar.bench.predict import work_of_tile
from edgecar.bench.results import SCHEMA_PATH
from edgecar.engines.gpu import Gpu
from edgecar.engines.targets import own_target
from edgecar.engines.trt_lint import refuse_misread_bytes
from edgecar.errors import EngineError, GateError
from tests.runtime.cuda.host_device import HostDevice
from tests.runtime.cuda.test_engines import QueuedTiles

pytestmark = pytest.mark.slow  # a harness for our own pages

ROOT = Path(__file__).parents[2]
CARD = Gpu("NVIDIA Toy", "8.6", 8, 4096, False, "13.0", "", "")
TILE = (64, 96)
SMALL = {"480p": (80, 120), "1080p": (130, 200)}


def no_gpu():
    raise EngineError("no NVIDIA driver here (libcuda.so.1)")


def test_command_prints_and_keeps(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(gpu_check, "find_gpu", no_gpu)
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


def test_kernels_pass_where_they_are_right_and_fail_where_one_is_wrong(monkeypatch) -> None:
    device = HostDevice()
    assert kernels_part(device)["differing_pixels"] == 0
    assert types_part(device) == {"types": ["fp32", "fp16"]}
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


def test_failure_of_one_part_is_not_that_of_the_rest() -> None:
    def absent():
        raise SkippedError("TensorRT is not installed")

    kernel = {"gb_s": 90.0, "share_of_copy": 0.9, "reaches_aim": True}
    slow = {"gb_s": 10.0, "share_of_copy": 0.1, "reaches_aim": False}
    outcomes = [
        outcome("good", lambda: {"engine": "tensorrt", "1080p": {**ROW, **FLOOR}}),
        outcome("kernel speed", lambda: {"gather": kernel, "changed": slow}),
        outcome("bad", no_gpu),
        outcome("left out", absent),
        outcome("worse", lambda: {}["plan"]),
    ]
    assert exit_code(outcomes) == 3
    assert table(outcomes).splitlines() == [
        "passed   good: engine tensorrt",
        "         1080p: p50 1.50 ms, p95 2.00 ms, 700.0 frames/s; up 0.10, compute 1.20, down "
        "0.11 ms; engine 1.000 ms, runtime 5.0% of it, floor 0.250 ms (memory)",
        "passed   kernel speed: ",
        "         gather: 90.0 GB/s, 90% of a copy, reaches the aim",
        "         changed: 10.0 GB/s, 10% of a copy, short of the aim",
        "failed   bad: why no NVIDIA driver here (libcuda.so.1)",
        "skipped  left out: why TensorRT is not installed",
        "failed   worse: why KeyError: 'plan'",
    ]


def test_result_file_fits_the_schema(tmp_path) -> None:
    gpu = Outcome("gpu", "passed", {"name": "NVIDIA H200", "compute_capability": "9.0"})
    found = Outcome("x", "passed", {**NETWORK, "4k": {**ROW, **FLOOR}})
    write_result([gpu, found], tmp_path / "gpu.json")
    schema = json.loads(SCHEMA_PATH.read_text())
    document = json.loads((tmp_path / "gpu.json").read_text())
    jsonschema.validate(document, schema)
    document["rows"][0]["engine_ms"] = 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Bench:
    """A GPU made of the CPU, small frames, hardly any time, ONNX Runtime's CPU as every engine."""
    for module in (gpu_networks, gpu_speed):
        monkeypatch.setattr(module, "SIZES", SMALL)
    target = replace(own_target(CARD), tile=TILE, batch=2)
    monkeypatch.setattr(Bench, "target", property(lambda _bench: target))
    device = HostDevice()

    def open_here(_bench, _name, artifact, shape, _stream):
        return QueuedTiles(device, artifact, shape), {"build_seconds": 1.0}

    monkeypatch.setattr(gpu_networks, "open_tiles", open_here)
    (tmp_path / "work").mkdir()
    work = tmp_path / "work"
    return Bench(device, CARD, 1e-4, tmp_path / "files", work, tuple(SMALL), copy_bytes=1 << 20)


def test_network_is_compared_timed_and_weighed(bench) -> None:
    bench.ceilings["onnxruntime", "fp32"] = {"tera_ops": 1.0, "copy_gb_s": 1.0}
    metadata = network_part(bench, "onnxruntime", "edgecar-s", "fp32")
    assert metadata["max_code_difference"] == 0  # the same library on both sides
    named = ("network", "precision", "batch", "build_seconds")
    assert [metadata[name] for name in named] == ["edgecar-s", "fp32", 2, 1.0]
    # At the least both frames of a lane up and down, and its batch of tiles in and out.
    frames = 4 * 130 * 256 + 2 * 4 * 2 * TILE[0] * TILE[1]
    assert metadata["peak_mib"] > frames / (1 << 20)
    for label, batches in (("480p", 2), ("1080p", 5)):
        row = metadata[label]
        named = ("p50_ms", "fps", "upload_ms", "compute_ms", "download_ms", "engine_ms", "floor_ms")
        assert all(row[name] > 0 for name in named)
        assert row["p50_ms"] <= row["p95_ms"]
        added = row["gather_ms"] + row["scatter_ms"] + row["detect_ms"]
        assert row["overhead_share"] == pytest.approx(added / row["engine_ms"])
        assert row["batches"] == batches


@pytest.mark.parametrize(
    ("precision", "codes", "passes"),
    [
        ("fp32", [0, 1, 1, 1], True),
        ("fp32", [0, 0, 0, 2], False),
        ("fp16", [0, 0, 0, 2], True),
        ("fp16", [0, 0, 0, 3], False),
        ("int8", [0] * 199 + [9], True),
        ("int8", [0] * 19 + [2], False),
    ],
)
def test_limits_are_those_of_the_precision(precision, codes, passes) -> None:
    wanted = np.full(len(codes), 100, np.uint8)
    got = wanted + np.array(codes, np.uint8)
    if passes:
        found = difference(got, wanted, precision, "the CPU's")
        assert found["max_code_difference"] == max(codes)
    else:
        with pytest.raises(AssertionError):
            difference(got, wanted, precision, "the CPU's")


def test_floor_is_the_slower_of_bytes_and_operations(exported) -> None:
    artifact = exported("edgecar-s")
    work = work_of_tile(artifact, TILE)
    metadata = {"tile": TILE, "1080p": {"engine_ms": 8.0}}
    row = with_floor(metadata, {"tera_ops": 1e-3, "copy_gb_s": 1e6}, artifact)["1080p"]
    tiles = round(row["floor_ms"] / (2 * work.macs / 1e9 * 1e3))
    assert row["bound_by"] == "arithmetic"
    assert tiles > (1080 * 1920) / (TILE[0] * TILE[1])  # halos are read twice
    assert row["engine_to_floor"] == pytest.approx(8.0 / row["floor_ms"])
    slow = with_floor(metadata, {"tera_ops": 1e6, "copy_gb_s": 1e-3}, artifact)["1080p"]
    assert slow["bound_by"] == "memory"
    assert slow["floor_ms"] == pytest.approx(tiles * work.values * 4 / 1e6 * 1e3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_ceiling_is_what_wide_convolutions_take(precision, bench, monkeypatch) -> None:
    monkeypatch.setattr(gpu_ceilings, "WIDTH", 8)
    monkeypatch.setattr(gpu_ceilings, "WIDE_TILE", (32, 32))
    monkeypatch.setattr(bench, "timed", lambda work, _stream=None: work() or 0.5)
    refuse_misread_bytes(gpu_ceilings.wide_network(precision).onnx)
    metadata = ceilings_part(bench, "onnxruntime", precision)
    macs = 2 * 32 * 32 * 9 * (8 + 4 * 8 * 8 + 8)
    assert metadata["tera_ops"] == pytest.approx(2 * macs / 0.5 / 1e12)
    assert metadata["copy_gb_s"] == pytest.approx(2 * (1 << 20) / 0.5 / 1e9)
    assert bench.ceilings == {("onnxruntime", precision): metadata}


def test_files_are_made_once_refusals_kept_and_graphs_found(tmp_path, reduced) -> None:
    asked = []

    def lower(network: str, precision: str):
        asked.append((network, precision))
        if precision == "int8":
            raise GateError("loses 0.3 dB")
        return reduced("edgecar-s", "fp16")

    with pytest.raises(SkippedError, match="make gpu-files, where torch is installed"):
        artifact_of("edgecar-s", "int8", tmp_path)
    wanted = {"edgecar-s.jpeg.int8.onnx": "refused when it was made: loses 0.3 dB"}
    for _ in range(2):
        assert prepare(tmp_path, ("edgecar-s",), lower) == wanted
    assert asked == [("edgecar-s", "fp16"), ("edgecar-s", "int8")]
    for precision in ("fp16", "fp32"):
        assert artifact_of("edgecar-s", precision, tmp_path).metadata.precision == precision
    with pytest.raises(SkippedError, match=r"loses 0\.3 dB"):
        artifact_of("edgecar-s", "int8", tmp_path)


def test_every_network_and_precision_is_a_part(bench) -> None:
    order = list(parts(bench))
    for network in NETWORKS:
        for precision in PRECISIONS:
            assert f"tensorrt {network} {precision}" in order
            assert f"onnxruntime:cuda {network} {precision}" in order
    assert order.index("ceilings tensorrt fp16") < order.index("tensorrt edgecar-s fp16")


def test_absent_libraries_are_left_out(tmp_path, exported, monkeypatch) -> None:
    """With the real opening: here there is neither TensorRT nor a CUDA provider."""
    bench = Bench(HostDevice(), CARD, 1e-4, work=tmp_path)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    for name, words in (
        ("tensorrt", "TensorRT is not installed"),
        ("onnxruntime:cuda", "no CUDAExecutionProvider"),
    ):
        with pytest.raises(SkippedError, match=words):
            open_tiles(bench, name, exported("edgecar-xs"), (2, *TILE), bench.device.stream())
