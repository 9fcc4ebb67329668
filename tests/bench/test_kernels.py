"""The kernels compile for every GPU, and what was recorded of that is of these sources."""

import json
import re
import subprocess
from itertools import product
from pathlib import Path

import pytest

from benchmarks.run.kernels import compiled, find_nvcc, known_capabilities, sources_sha256
from edgecar.runtime.cuda.device import CAPABILITIES, DEVICE_FLAGS, FOLDER, KERNELS

RESULT = json.loads((Path(__file__).parents[2] / "engines" / "kernels.json").read_text())
NAMES = {name for kernels in KERNELS.values() for name in kernels}


@pytest.fixture
def nvcc() -> str:
    found = find_nvcc()
    if found is None:
        pytest.skip("no nvcc here")
    return found


def test_record_is_of_these_sources() -> None:
    """If this fails: make kernels."""
    assert RESULT["sources_sha256"] == sources_sha256()


def test_record_has_every_kernel_on_every_gpu_without_spills() -> None:
    assert set(RESULT["kernels"]) == set(CAPABILITIES)
    for kernels in RESULT["kernels"].values():
        assert set(kernels) == NAMES
        for row in kernels.values():
            assert row["spill_stores"] == row["spill_loads"] == 0
            # 64 thousand registers: with 64 each, a multiprocessor still holds 1024 threads.
            assert 0 < row["registers"] <= 64


@pytest.mark.slow  # runs nvcc for every GPU
def test_every_kernel_compiles_for_every_gpu(nvcc, tmp_path) -> None:
    """All files as one, for all GPUs in one go: most of the time goes into CUDA's own headers."""
    known = [capability.replace(".", "") for capability in known_capabilities(nvcc)]
    source, binary = tmp_path / "all.cu", tmp_path / "all.fatbin"
    source.write_text("".join(f'#include "{FOLDER / file}"\n' for file in KERNELS))
    targets = [f"-gencode=arch=compute_{each},code=sm_{each}" for each in known]
    command = [nvcc, *DEVICE_FLAGS, *targets, "-Xptxas", "-v", "-fatbin", source, "-o", binary]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"Compiling entry function '(\w+)' for 'sm_(\d+)'", done.stderr)
    assert sorted(found) == sorted(product(NAMES, known))
    assert "87" in known  # Jetson Orin, which every nvcc from 11.4 on knows


def test_file_compiles_alone(nvcc) -> None:
    assert set(compiled(nvcc, "gather.cu", "8.7")) == set(KERNELS["gather.cu"])


@pytest.mark.slow
@pytest.mark.parametrize("file", KERNELS)
def test_file_compiles_alone_for_every_gpu(file, nvcc) -> None:
    for capability in known_capabilities(nvcc):
        assert set(compiled(nvcc, file, capability)) == set(KERNELS[file])
