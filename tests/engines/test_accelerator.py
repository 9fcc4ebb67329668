"""What a GPU lacks is told with what to do, and nothing is asked of a machine without one."""

import json

import pytest

from edgecar.engines import accelerator
from edgecar.engines.accelerator import accelerator_facts
from edgecar.engines.gpu import Gpu
from edgecar.errors import EngineError

NANO = Gpu(
    *("Orin", "8.7", 8, 7620, True, "12.6", "NVIDIA Jetson Orin Nano Developer Kit"),
    "# R36 (release), REVISION: 4.3",
)
CARD = Gpu("NVIDIA GeForce RTX 4090", "8.9", 128, 24564, False, "13.0", "", "")
SAID = {
    ("nvpmodel", "-q"): "NV Power Mode: 15W\n0\n",
    ("gst-inspect-1.0", "nvv4l2decoder"): "Factory Details:\n  Rank  primary\n",
}


@pytest.fixture
def box(monkeypatch):
    """A function that makes this another machine."""

    def put(gpu, said=None, versions=None, nvcc="/usr/local/cuda/bin/nvcc") -> None:
        def find_gpu() -> Gpu:
            if gpu is None:
                raise EngineError("no NVIDIA driver here (libcuda.so.1)")
            return gpu

        monkeypatch.setattr(accelerator, "find_gpu", find_gpu)
        monkeypatch.setattr(accelerator, "find_nvcc", lambda: nvcc)
        monkeypatch.setattr(accelerator, "_said", lambda *words: (said or {}).get(words, ""))
        monkeypatch.setattr(accelerator, "_distribution", (versions or {}).get)
        monkeypatch.setattr(accelerator, "find_spec", lambda _name: None)

    return put


def test_machine_without_a_gpu_lacks_nothing(box) -> None:
    box(None)
    metadata = accelerator_facts()
    assert metadata["gpu"] is None
    assert metadata["absence"] == "no NVIDIA driver here (libcuda.so.1)"
    assert metadata["missing"] == []


def test_bare_jetson_is_told_all_that_it_lacks(box) -> None:
    box(NANO, SAID | {("gst-inspect-1.0", "nvv4l2decoder"): ""}, nvcc=None)
    metadata = accelerator_facts()
    assert (metadata["target"], metadata["power_mode"]) == ("orin-nano", "15W")
    lacks = metadata["missing"]
    words = ("TensorRT: on a Jetson", "pycuda", "nvcc", "nvv4l2decoder", "power mode is 15W")
    assert len(lacks) == len(words)
    for lack, word in zip(lacks, words, strict=True):
        assert word in lack


def test_complete_jetson_lacks_nothing(box) -> None:
    said = SAID | {("nvpmodel", "-q"): "NV Power Mode: MAXN_SUPER\n2"}
    box(NANO, said, {"tensorrt": "10.3.0", "pycuda": "2025.1"})
    metadata = accelerator_facts()
    assert metadata["missing"] == []
    assert metadata["decoders"] == ["nvv4l2decoder"]
    assert metadata["libraries"] == {"tensorrt": "10.3.0"}


def test_card_wants_the_edition_for_cards(box) -> None:
    box(CARD, {("gst-inspect-1.0", "nvh264dec"): "Factory Details:"}, {"pycuda": "2025.1"})
    (lack,) = accelerator_facts()["missing"]
    assert "TensorRT-RTX: pip install tensorrt-rtx" in lack


def test_doctor_tells_it(box, capsys, monkeypatch) -> None:
    from edgecar.cli import doctor

    monkeypatch.setattr(doctor, "shipped_answers", lambda _report: [])  # each takes a second
    box(NANO, SAID, {"tensorrt": "10.3.0"})
    doctor.command(as_json=False)
    printed = capsys.readouterr().out
    assert "gpu       Orin (compute capability 8.7, 8 multiprocessors, 7620 MiB, NVIDIA" in printed
    assert "tensorrt 10.3.0; target: orin-nano" in printed
    assert "missing   pycuda" in printed
    assert "power mode 15W" in printed
    doctor.command(as_json=True)
    metadata = json.loads(capsys.readouterr().out)["accelerator"]
    assert metadata["gpu"]["name"] == "Orin"
    box(None)
    doctor.command(as_json=False)
    assert "gpu       none: no NVIDIA driver here" in capsys.readouterr().out
