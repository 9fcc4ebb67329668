"""The driver is asked as it wants to be: here by a driver of a few lines, compiled on the spot."""

import shutil
import subprocess

import pytest

from edgecar.engines import gpu
from edgecar.engines.gpu import Gpu, find_gpu
from edgecar.errors import EngineError

SOURCE = """
#include <stddef.h>
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int* count) { *count = COUNT; return 0; }
int cuDeviceGet(int* device, int ordinal) { *device = 40 + ordinal; return 0; }
int cuDriverGetVersion(int* version) { *version = 12060; return 0; }
int cuDeviceGetName(char* name, int length, int device) {
    strncpy(name, device == 40 ? "Orin" : "Other", length); return 0;
}
int cuDeviceGetAttribute(int* value, int attribute, int device) {
    switch (attribute) {
        case 16: *value = 8; break;
        case 18: *value = device == 40; break;
        case 75: *value = 8; break;
        case 76: *value = 7; break;
        default: return 1;
    }
    return 0;
}
int cuDeviceTotalMem_v2(size_t* bytes, int device) { *bytes = (size_t)7620 << 20; return 0; }
int cuGetErrorString(int error, const char** words) {
    *words = error == 999 ? "unknown error" : NULL; return error == 999 ? 0 : 1;
}
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc here to compile a driver with")

    def make(init: int = 0, count: int = 2) -> None:
        source, library = tmp_path / "driver.c", tmp_path / f"driver-{init}-{count}.so"
        source.write_text(SOURCE)
        names = (f"-DINIT={init}", f"-DCOUNT={count}")
        subprocess.run([compiler, "-shared", "-fPIC", *names, source, "-o", library], check=True)
        monkeypatch.setattr(gpu, "DRIVER", str(library))
        monkeypatch.setattr(gpu, "L4T_RELEASE", tmp_path / "release")
        monkeypatch.setattr(gpu, "DEVICE_TREE_MODEL", tmp_path / "model")

    return make


def test_facts_are_the_drivers(driver) -> None:
    driver()
    assert find_gpu() == Gpu("Orin", "8.7", 8, 7620, True, "12.6", "", "")
    other = find_gpu(1)
    assert (other.name, other.integrated) == ("Other", False)


def test_jetson_says_what_board_it_is(driver, tmp_path) -> None:
    driver()
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    assert find_gpu().board == ""  # other boards have a device tree as well
    (tmp_path / "release").write_text("# R36 (release), REVISION: 4.3\nmore\n")
    found = find_gpu()
    assert found.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert found.l4t == "# R36 (release), REVISION: 4.3"


@pytest.mark.parametrize(
    ("init", "count", "said"),
    [
        (999, 1, "refuses cuInit: unknown error (999)"),
        (35, 1, "refuses cuInit: error 35"),
        (0, 0, "lists 0 GPU(s), asked for number 0"),
    ],
)
def test_driver_that_says_no_is_quoted(init, count, said, driver) -> None:
    driver(init, count)
    with pytest.raises(EngineError) as refused:
        find_gpu()
    assert said in str(refused.value)


def test_absent_driver_is_said(monkeypatch) -> None:
    monkeypatch.setattr(gpu, "DRIVER", "libno-such-driver.so.1")
    with pytest.raises(EngineError) as refused:
        find_gpu()
    assert "no NVIDIA driver here (libno-such-driver" in str(refused.value)
