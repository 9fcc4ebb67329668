"""The kernels compile for every GPU, and what was recorded of that is of these sources."""

import json
from pathlib import Path

import pytest

from edgecar.bench.kernels import compiled, find_nvcc, known_capabilities, sources_sha256
from edgecar.errors import SettingsError
from edgecar.runtime.cuda.sources import CAPABILITIES, FILES

RESULT = json.loads((Path(__file__).parents[2] / "engines" / "kernels.json").read_text())
NAMES = {name for names in FILES.values() for name in names}


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


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_file_compiles_for_every_gpu(file, capability, nvcc) -> None:
    if capability not in known_capabilities(nvcc):
        pytest.skip(f"this nvcc knows no {capability}")
    assert set(compiled(nvcc, file, capability)) == set(FILES[file])


def test_source_that_does_not_compile_is_said(nvcc, tmp_path, monkeypatch) -> None:
    (tmp_path / "changed.cu").write_text("KERNEL broken(")
    monkeypatch.setattr("edgecar.bench.kernels.FOLDER", tmp_path)
    with pytest.raises(SettingsError, match=r"changed.cu does not compile for 8.7"):
        compiled(nvcc, "changed.cu", "8.7")
