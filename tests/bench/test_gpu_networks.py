"""Networks through the check of GPUs, on a GPU made of the CPU."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.run import gpu_networks, gpu_speed
from benchmarks.run.gpu_ceilings import wide_network
from benchmarks.run.gpu_check import parts
from benchmarks.run.gpu_files import prepare
from benchmarks.run.gpu_networks import (
    NETWORKS,
    PRECISIONS,
    Machine,
    artifact_of,
    ceilings_part,
    difference,
    network_part,
    open_tiles,
    with_floor,
)
from benchmarks.run.gpu_parts import SkippedError
from benchmarks.run.gpu_speed import Bench
from edgecar.artifact import read_artifact
from edgecar.bench.predict import work_of_tile
from edgecar.engines.gpu import Gpu
from edgecar.engines.targets import own_target
from edgecar.engines.trt_lint import refuse_misread_bytes
from edgecar.errors import GateError
from tests.runtime.cuda.host_device import HostDevice
from tests.runtime.cuda.test_engines import QueuedTiles

pytestmark = pytest.mark.slow  # a harness for our own pages

CARD = Gpu("NVIDIA Toy", "8.6", 8, 4096, False, "13.0", "", "")
TILE = (64, 96)
SMALL = {"480p": (80, 120), "1080p": (130, 200)}


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    """A GPU made of the CPU, small frames, hardly any time, ONNX Runtime's CPU as every engine."""
    for module in (gpu_networks, gpu_speed):
        monkeypatch.setattr(module, "SIZES", SMALL)
    target = replace(own_target(CARD), tile=TILE, batch=2)
    monkeypatch.setattr(Machine, "target", property(lambda _machine: target))
    device = HostDevice()
    bench = Bench(device, seconds=1e-4, copy_bytes=1 << 20)

    def open_here(_machine: Machine, name: str, artifact: Any, shape: Any, _stream: Any):
        if name == "absent":
            raise SkippedError("it is not installed")
        return QueuedTiles(device, artifact, shape), {"build_seconds": 1.0}

    monkeypatch.setattr(gpu_networks, "open_tiles", open_here)
    (tmp_path / "work").mkdir()
    return Machine(bench, CARD, tmp_path / "files", tmp_path / "work", tuple(SMALL))


def test_network_is_compared_timed_and_weighed(machine) -> None:
    metadata = network_part(machine, "onnxruntime", "edgecar-s", "fp32")
    assert metadata["max_code_difference"] == 0  # the same library on both sides
    assert (metadata["network"], metadata["precision"], metadata["batch"]) == (
        "edgecar-s",
        "fp32",
        2,
    )
    assert metadata["build_seconds"] == 1.0
    # At the least both frames of a lane up and down, and its batch of tiles in and out.
    frames = 4 * 130 * 256 + 2 * 4 * 2 * TILE[0] * TILE[1]
    assert metadata["peak_mib"] > frames / (1 << 20)
    for label, size in SMALL.items():
        row = metadata[label]
        named = ("p50_ms", "fps", "upload_ms", "compute_ms", "download_ms", "engine_ms")
        assert all(row[name] > 0 for name in named)
        assert row["p50_ms"] <= row["p95_ms"]
        added = row["gather_ms"] + row["scatter_ms"] + row["detect_ms"]
        assert row["overhead_share"] == pytest.approx(added / row["engine_ms"])
        assert row["batches"] == {"480p": 2, "1080p": 5}[label], size


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
    ceilings = {"tera_ops": 1e-3, "copy_gb_s": 1e6}
    row = with_floor(metadata, ceilings, artifact)["1080p"]
    tiles = round(row["floor_ms"] / (2 * work.macs / 1e9 * 1e3))
    assert row["bound_by"] == "arithmetic"
    assert tiles > (1080 * 1920) / (TILE[0] * TILE[1])  # halos are read twice
    assert row["engine_to_floor"] == pytest.approx(8.0 / row["floor_ms"])
    slow = with_floor(metadata, {"tera_ops": 1e6, "copy_gb_s": 1e-3}, artifact)["1080p"]
    assert slow["bound_by"] == "memory"
    assert slow["floor_ms"] == pytest.approx(tiles * work.values * 4 / 1e6 * 1e3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_ceiling_is_what_wide_convolutions_take(precision, machine, monkeypatch) -> None:
    from benchmarks.run import gpu_ceilings

    monkeypatch.setattr(gpu_ceilings, "WIDTH", 8)
    monkeypatch.setattr(gpu_ceilings, "WIDE_TILE", (32, 32))
    monkeypatch.setattr(machine.bench, "timed", lambda work, _stream=None: work() or 0.5)
    metadata = ceilings_part(machine, "onnxruntime", precision)
    macs = 2 * 32 * 32 * 9 * (8 + 4 * 8 * 8 + 8)
    assert metadata["tera_ops"] == pytest.approx(2 * macs / 0.5 / 1e12)
    assert metadata["copy_gb_s"] == pytest.approx(2 * (1 << 20) / 0.5 / 1e9)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_wide_network_is_one_that_tensorrt_reads(precision, monkeypatch) -> None:
    from benchmarks.run import gpu_ceilings

    monkeypatch.setattr(gpu_ceilings, "WIDTH", 16)
    refuse_misread_bytes(wide_network(precision).onnx)


def test_graphs_are_found_where_they_were_put(tmp_path, reduced) -> None:
    made = reduced("edgecar-s", "fp16")
    (tmp_path / "edgecar-s.jpeg.fp16.onnx").write_bytes(made.onnx)
    assert artifact_of("edgecar-s", "fp16", tmp_path).metadata.precision == "fp16"
    assert artifact_of("edgecar-s", "fp32", tmp_path).metadata.precision == "fp32"
    with pytest.raises(SkippedError, match="make gpu-files, where torch is installed"):
        artifact_of("edgecar-s", "int8", tmp_path)
    (tmp_path / "refused.json").write_text(json.dumps({"edgecar-s.jpeg.int8.onnx": "too lossy"}))
    with pytest.raises(SkippedError, match="too lossy"):
        artifact_of("edgecar-s", "int8", tmp_path)


def test_files_are_made_once_and_refusals_kept(tmp_path, reduced) -> None:
    asked = []

    def lower(network: str, precision: str):
        asked.append((network, precision))
        if precision == "int8":
            raise GateError("loses 0.3 dB")
        return reduced("edgecar-s", "fp16")

    wanted = {"edgecar-s.jpeg.int8.onnx": "refused when it was made: loses 0.3 dB"}
    for _ in range(2):
        assert prepare(tmp_path, ("edgecar-s",), lower) == wanted
    assert asked == [("edgecar-s", "fp16"), ("edgecar-s", "int8")]
    assert read_artifact(tmp_path / "edgecar-s.jpeg.fp16.onnx").metadata.precision == "fp16"


def test_every_network_and_precision_is_a_part(machine) -> None:
    named = parts(machine)
    for network in NETWORKS:
        for precision in PRECISIONS:
            assert f"tensorrt {network} {precision}" in named
            assert f"onnxruntime:cuda {network} {precision}" in named
    order = list(named)
    assert order.index("ceilings tensorrt fp16") < order.index("tensorrt edgecar-s fp16")


def test_absent_libraries_are_left_out(tmp_path, exported, monkeypatch) -> None:
    """With the real opening: here there is neither TensorRT nor a CUDA provider."""
    bench = Bench(HostDevice(), seconds=1e-4)
    machine = Machine(bench, CARD, Path(), tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    for name, words in (
        ("tensorrt", "TensorRT is not installed"),
        ("onnxruntime:cuda", "no CUDAExecutionProvider"),
    ):
        with pytest.raises(SkippedError, match=words):
            open_tiles(machine, name, exported("edgecar-xs"), (2, *TILE), bench.device.stream())
