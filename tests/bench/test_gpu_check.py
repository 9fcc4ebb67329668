"""The check of GPUs, on none and on one made of the CPU."""

import json
import sys

import pytest

from edgecar.bench import gpu_check, gpu_parts
from edgecar.bench.gpu_check import Outcome, all_outcomes, exit_code, outcome, table
from edgecar.bench.gpu_parts import SkippedError, kernel_speed_part, kernels_part, types_part
from edgecar.errors import EngineError
from tests.runtime.cuda.host_device import HostDevice


@pytest.fixture
def no_gpu(monkeypatch):
    def find_gpu():
        raise EngineError("no NVIDIA driver here (libcuda.so.1)")

    monkeypatch.setattr(gpu_check, "find_gpu", find_gpu)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_everything_is_skipped_and_says_why(monkeypatch) -> None:
    monkeypatch.delenv("EDGECAR_REQUIRE_GPU", raising=False)
    (only,) = all_outcomes()
    assert only == Outcome("gpu", "skipped", {"why": "no NVIDIA driver here (libcuda.so.1)"})
    assert exit_code([only]) == 0
    monkeypatch.setenv("EDGECAR_REQUIRE_GPU", "1")
    assert exit_code([only]) == 3


@pytest.mark.usefixtures("no_gpu")
def test_command_prints_and_keeps(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.delenv("EDGECAR_REQUIRE_GPU", raising=False)
    monkeypatch.setattr(sys, "argv", ["gpu-check", "--save", str(tmp_path / "results")])
    with pytest.raises(SystemExit) as stopped:
        gpu_check.main()
    assert stopped.value.code == 0
    assert capsys.readouterr().out == "skipped  gpu: why no NVIDIA driver here (libcuda.so.1)\n"
    kept = json.loads((tmp_path / "results" / "gpu-check.json").read_text())
    assert [part["state"] for part in kept["parts"]] == ["skipped"]


def test_kernels_pass_where_they_are_right() -> None:
    found = kernels_part(HostDevice())
    assert found["differing_pixels"] == 0
    assert types_part(HostDevice()) == {"types": ["fp32", "fp16", "int8"]}


@pytest.mark.parametrize("kernel", ["gather_fp16", "gather_int8", "scatter_fp16"])
def test_type_that_is_wrong_is_named(kernel, monkeypatch) -> None:
    device = HostDevice()
    launch = device.launch
    monkeypatch.setattr(
        device, "launch", lambda name, *rest: None if name == kernel else launch(name, *rest)
    )
    assert outcome("types", lambda: types_part(device)) == Outcome(
        "types", "failed", {"why": f"{kernel} differs from NumPy"}
    )


def test_speeds_are_shares_of_a_copy(monkeypatch) -> None:
    monkeypatch.setattr(gpu_parts, "COPIES_TIMED", 1)
    monkeypatch.setattr(gpu_parts, "COPY_BYTES", 1 << 20)
    facts = kernel_speed_part(HostDevice())
    for name in ("gather_fp32", "gather_fp16", "scatter_fp32", "scatter_fp16"):
        assert facts[f"{name}_share_of_copy"] == pytest.approx(
            facts[f"{name}_gb_s"] / facts["copy_gb_s"]
        )


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


def test_failure_of_one_part_is_not_that_of_the_rest() -> None:
    def refused():
        raise EngineError("out of memory")

    def absent():
        raise SkippedError("TensorRT is not installed")

    outcomes = [
        outcome("good", lambda: {"1080p": {"p50_ms": 1.5, "p95_ms": 2.0, "fps": 700.0}}),
        outcome("bad", refused),
        outcome("left out", absent),
        outcome("worse", lambda: {}["plan"]),
    ]
    assert [each.state for each in outcomes] == ["passed", "failed", "skipped", "failed"]
    assert exit_code(outcomes) == 3
    assert table(outcomes).splitlines() == [
        "passed   good: ",
        "         1080p: p50 1.50 ms, p95 2.00 ms, 700.0 frames/s",
        "failed   bad: why out of memory",
        "skipped  left out: why TensorRT is not installed",
        "failed   worse: why KeyError: 'plan'",
    ]
