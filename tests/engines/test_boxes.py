"""GPUs, the targets that they are built for, and the software that they lack."""

import json
import shutil
import subprocess
from dataclasses import replace

import pytest

from edgecar.engines import accelerator, gpu
from edgecar.engines.accelerator import accelerator_facts
from edgecar.engines.gpu import Gpu, find_gpu
from edgecar.engines.targets import all_targets, own_target, target_named, target_of
from edgecar.errors import EngineError, SettingsError
from edgecar.files import shipped
from edgecar.runtime.tiles import plan_grid
from tests.engines.conftest import CARD

# The driver: here one of a few lines, compiled on the spot.

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
    """A function that makes a driver which starts with a code and lists some GPUs."""
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


def test_facts_are_the_drivers(driver, tmp_path) -> None:
    driver()
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    server = Gpu("Orin", "8.7", 8, 7620, True, "12.6", "", "")
    assert find_gpu() == server  # other boards have a device tree as well
    assert (find_gpu(1).name, find_gpu(1).integrated) == ("Other", False)
    (tmp_path / "release").write_text("# R36 (release), REVISION: 4.3\nmore\n")
    board, release = "NVIDIA Jetson Orin Nano Developer Kit", "# R36 (release), REVISION: 4.3"
    assert find_gpu() == replace(server, board=board, l4t=release)


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
    with pytest.raises(EngineError, match="no NVIDIA driver here"):
        find_gpu()


# Targets.

BOXES = ("orin-nano", "orin-nx", "agx-orin", "thor", "t4", "l4", "a2", "h200", "rtx")


def a_gpu(name: str, capability: str, board: str = "") -> Gpu:
    return Gpu(name, capability, 16, 32768, bool(board), "13.0", board, board and "# R36")


def test_boxes_ship() -> None:
    assert set(all_targets()) == set(BOXES)
    for target in all_targets().values():
        assert min(target.tile) > 2 * 21  # the farthest-seeing network has something left
        assert target.source


@pytest.mark.parametrize(
    ("name", "capability", "board", "target"),
    [
        ("Orin", "8.7", "NVIDIA Jetson Orin Nano Developer Kit", "orin-nano"),
        ("Orin", "8.7", "NVIDIA Jetson Orin NX Engineering Reference", "orin-nx"),
        ("Orin (nvgpu)", "8.7", "NVIDIA Jetson AGX Orin Developer Kit", "agx-orin"),
        ("NVIDIA Thor", "11.0", "NVIDIA Jetson AGX Thor Developer Kit", "thor"),
        ("Tesla T4", "7.5", "", "t4"),
        ("NVIDIA L4", "8.9", "", "l4"),
        ("NVIDIA A2", "8.6", "", "a2"),
        ("NVIDIA H200", "9.0", "", "h200"),
        ("NVIDIA GeForce RTX 4090", "8.9", "", "rtx"),
        ("NVIDIA RTX A2000", "8.6", "", "rtx"),
        ("NVIDIA L40S", "8.9", "", None),
        ("NVIDIA A2000", "8.6", "", None),
        ("NVIDIA L4", "9.9", "", None),
    ],
)
def test_gpu_is_told_by_its_name(name, capability, board, target) -> None:
    found = target_of(a_gpu(name, capability, board))
    assert (found.name if found else None) == target


def test_gpu_that_no_file_is_for_gets_a_target_of_its_own() -> None:
    target = own_target(a_gpu("NVIDIA L40S", "8.9"))
    assert (target.name, target.compute_capability) == ("nvidia-l40s", "8.9")
    assert (target.batch, target.workspace_mib) == (4, 2048)
    large = own_target(replace(a_gpu("NVIDIA H100", "9.0"), multiprocessors=132))
    assert large.batch == len(plan_grid((1080, 1920), large.tile, halo_px=12))  # and no more


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("batch = 9", "batch = 0"), "batch is 0, which it cannot be"),
        (("batch = 9", 'batch = "nine"'), "batch is 'nine'"),
        (("batch = 9", "batsh = 9"), "missing key 'batch'"),
        (("tile = [384, 656]", "tile = [384]"), "tile is [384]"),
        (("tile = [384, 656]", "tile = [384, 6.5]"), "tile is [384, 6.5]"),
        (('library = "tensorrt"', 'library = "trt"'), "library is 'trt'"),
        (('"fp16", ', '"fp17", '), "precisions is ['fp17'"),
        (('title = "T4"', "title = 4"), "title is 4"),
        (("batch = 9", "batch = 9\nextra = 1"), "unknown key 'extra'"),
        (("batch = 9", "batch ="), "cannot read target"),
    ],
)
def test_file_of_the_users_is_taken_or_refused(change, said, tmp_path) -> None:
    text = (shipped("engines", "targets") / "t4.toml").read_text()
    assert change[0] in text
    own = tmp_path / "own.toml"
    own.write_text(text)
    assert target_named(str(own)) == replace(target_named("t4"), name="own")
    own.write_text(text.replace(*change))
    with pytest.raises(SettingsError) as refused:
        target_named(str(own))
    assert said in str(refused.value)


def test_unknown_name_is_answered_with_the_names() -> None:
    with pytest.raises(SettingsError) as refused:
        target_named("orin")
    assert all(box in str(refused.value) for box in BOXES)


# Software.

NANO = Gpu(
    *("Orin", "8.7", 8, 7620, True, "12.6", "NVIDIA Jetson Orin Nano Developer Kit"),
    "# R36 (release), REVISION: 4.3",
)
MODE, FOUND = "NV Power Mode: {}\n0\n", "Factory Details:\n  Rank  primary\n"
JETSONS = ("gst-inspect-1.0", "nvv4l2decoder")


@pytest.fixture
def box(monkeypatch):
    """A function that makes this another machine."""

    def put(found, mode="", decoder=("",), versions=None, nvcc="/usr/local/cuda/bin/nvcc") -> None:
        def find_gpu() -> Gpu:
            if found is None:
                raise EngineError("no NVIDIA driver here (libcuda.so.1)")
            return found

        said = {("nvpmodel", "-q"): MODE.format(mode), decoder: FOUND}
        monkeypatch.setattr(accelerator, "find_gpu", find_gpu)
        monkeypatch.setattr(accelerator, "find_nvcc", lambda: nvcc)
        monkeypatch.setattr(accelerator, "_said", lambda *words: said.get(words, ""))
        monkeypatch.setattr(accelerator, "_distribution", (versions or {}).get)
        monkeypatch.setattr(accelerator, "find_spec", lambda _name: None)

    return put


@pytest.mark.parametrize(
    ("machine", "lacks"),
    [
        ((None,), ()),
        (
            (NANO, "15W", ("",), None, None),
            ("TensorRT: on a Jetson", "pycuda", "nvcc", "nvv4l2decoder", "power mode is 15W"),
        ),
        ((NANO, "MAXN_SUPER", JETSONS, {"tensorrt": "10.3.0", "pycuda": "2025.1"}), ()),
        (
            (CARD, "", ("gst-inspect-1.0", "nvh264dec"), {"pycuda": "2025.1"}),
            ("TensorRT-RTX: pip install tensorrt-rtx",),
        ),
    ],
)
def test_what_a_gpu_lacks_is_told_with_what_to_do(machine, lacks, box) -> None:
    box(*machine)
    missing = accelerator_facts()["missing"]
    assert len(missing) == len(lacks)
    for lack, word in zip(missing, lacks, strict=True):
        assert word in lack


def test_doctor_tells_it(box, capsys, monkeypatch) -> None:
    from edgecar.cli import doctor

    monkeypatch.setattr(doctor, "shipped_answers", lambda _report: [])  # each takes a second
    box(NANO, "15W", JETSONS, {"tensorrt": "10.3.0"})
    doctor.command(as_json=False)
    printed = capsys.readouterr().out
    assert "gpu       Orin (compute capability 8.7, 8 multiprocessors, 7620 MiB, NVIDIA" in printed
    assert "tensorrt 10.3.0; target: orin-nano" in printed
    assert "decoders: nvv4l2decoder" in printed
    assert "missing   pycuda" in printed
    assert "power mode 15W" in printed
    doctor.command(as_json=True)
    found = json.loads(capsys.readouterr().out)["accelerator"]
    assert (found["gpu"]["name"], found["target"], found["power_mode"]) == (
        *("Orin", "orin-nano", "15W"),
    )
    box(None)
    doctor.command(as_json=False)
    assert "gpu       none: no NVIDIA driver here" in capsys.readouterr().out
