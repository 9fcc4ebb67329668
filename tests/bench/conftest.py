"""Result rows and files as the commands write them."""

from collections.abc import Callable
from typing import Any

import pytest

from edgecar.bench.machine import Machine
from edgecar.bench.results import Results, Row

MakeRow = Callable[..., dict[str, Any]]

TIMED = {
    "network": "edgecar-s",
    "channels": 1,
    "height": 1080,
    "width": 1920,
    "engine": "openvino",
    "provider": "CPU",
    "precision": "bf16",
    "params": 39_332,
    "published_memory_mb": 900.5,
    "published_tflops": 0.6117,
    "gmacs": 20.305,
    "p50_ms": 56.04,
    "p95_ms": 61.2,
    "fps": 17.84,
    "peak_mb": 412.4,
}
UNTIMED = dict.fromkeys(("engine", "provider", "precision", "p50_ms", "p95_ms", "fps", "peak_mb"))
JPEG = {
    "network": "edgecar-s",
    "set": "Classic5",
    "quality": 10,
    "psnr_in": 27.821,
    "psnr_out": 29.333,
    "ssim_in": 0.7688,
    "ssim_out": 0.8055,
    "psnrb_in": 25.209,
    "psnrb_out": 29.1,
    "worst_picture_gain_db": 0.2,
}
VIDEO = {
    "network": "edgecar-s",
    "codec": "h264",
    "clip": "street",
    "quantiser": 35,
    "frames": 150,
    "kbps": 96.4,
    "psnr_in": 32.0,
    "psnr_out": 32.5,
    "ssim_in": 0.91,
    "ssim_out": 0.92,
    "worst_frame_gain_db": 0.1,
}


@pytest.fixture
def timed() -> MakeRow:
    return lambda **changes: {**TIMED, **changes}


@pytest.fixture
def counted() -> MakeRow:
    return lambda **changes: {**TIMED, **UNTIMED, **changes}


@pytest.fixture
def jpeg() -> MakeRow:
    return lambda **changes: {**JPEG, **changes}


@pytest.fixture
def video() -> MakeRow:
    return lambda **changes: {**VIDEO, **changes}


@pytest.fixture
def make_results() -> Callable[..., Results]:
    def make(*rows: Row, kind: str = "bench", **machine: Any) -> Results:
        metadata = Machine(
            cpu="Some CPU",
            cpu_features=["avx2", "avx512_bf16"],
            cores=2,
            memory_gib=15.6,
            os="Linux-6.1-x86_64",
            python="3.11.7",
            gpus=[],
            jetson=None,
        )
        return Results(
            kind=kind,
            rows=rows,
            machine=Machine(**{**metadata, **machine}),
            versions={"numpy": "2.4.6", "opencv": "5.0.0"},
            commit="0123456789abcdef0123456789abcdef01234567-dirty",
            command="edgecar bench --suite small",
            date="2026-01-31T23:59:59Z",
        )

    return make
