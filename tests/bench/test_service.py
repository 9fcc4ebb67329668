"""What is measured of the service, and its tables."""

import json

import jsonschema
import pytest

from benchmarks.run import service
from benchmarks.run.service import loaded, soaked
from benchmarks.run.soak import write_pictures_of
from edgecar.bench.page import readme
from edgecar.bench.results import SCHEMA_PATH, SERVICE_KEYS, write_results
from edgecar.media.scene import photo_scene
from edgecar.media.video_codec import VideoCoding, video_coded
from tests.bench.test_live import THERE

pytestmark = pytest.mark.slow  # a harness for our own pages


@pytest.fixture
def clip(tmp_path):
    coded = video_coded(photo_scene((360, 480), 20), VideoCoding("h264", 35, gop=10, b_frames=0))
    path = tmp_path / "gate.mkv"
    path.write_bytes(coded.bitstream)
    return path


def checked(path, results) -> None:
    write_results(path, results)
    jsonschema.validate(json.loads(path.read_text()), json.loads(SCHEMA_PATH.read_text()))


def test_frames_under_load_add_up(clip, tmp_path, monkeypatch, make_results):
    monkeypatch.setattr(service, "WARM_UP_SECONDS", 1.0)
    monkeypatch.setattr(service, "SAMPLE_SECONDS", 0.2)
    row = loaded([clip, clip], "edgecar-xs", 2, tmp_path, "shed")
    assert set(row) == set(SERVICE_KEYS)
    outcomes = ("frames_restored", "frames_passed", "frames_dropped", "frames_in_flight")
    assert row["frames_read"] == sum(row[key] for key in outcomes)
    assert row["frames_read"] > 0
    assert sum(row["levels"].values()) == pytest.approx(1, abs=0.01)
    checked(tmp_path / "service.json", make_results(row, kind="service"))


@pytest.mark.slow  # kills processes
@pytest.mark.skipif(not THERE, reason="needs GStreamer's RTSP server (gir1.2-gst-rtsp-server-1.0)")
def test_cameras_that_are_killed_are_accounted_for(clip, tmp_path, monkeypatch, make_results):
    monkeypatch.setattr(service, "KILL_SECONDS", (2.0, 3.0))
    monkeypatch.setattr(service, "AWAY_SECONDS", 0.5)
    monkeypatch.setattr(service, "SAMPLE_SECONDS", 0.5)
    row = soaked([clip, clip], "edgecar-xs", 8, tmp_path, "drop")
    assert row["kills"] >= 2
    assert row["frames_read"] > 0
    assert row["frames_in_flight"] == 0
    assert row["frames_written"] + row["frames_left_out"] == row["frames_given"]
    assert row["frames_written"] > 0
    assert len(row["memory_tenths_mib"]) == 10
    checked(tmp_path / "service.json", make_results(row, kind="service"))


def test_pictures_for_a_server_are_those_of_the_clip(clip, tmp_path):
    write_pictures_of(clip.read_bytes(), tmp_path / "pictures")
    data = (tmp_path / "pictures").read_bytes()
    count = at = 0
    while at < len(data):
        at += 4 + int.from_bytes(data[at : at + 4], "big")
        count += 1
    assert (count, at) == (20, len(data))


def test_checks_have_a_table(tmp_path, make_results):
    rows = [
        {"check": "fuzz", "tries": 5400, "failures": 0, "seconds": 81.4, "detail": {"200": 5400}},
        {"check": "kill mp4", "tries": 9, "failures": 1, "seconds": 60, "detail": {"lost": 26}},
    ]
    checked(tmp_path / "checks.json", make_results(*rows, kind="service-checks"))
    section = readme([("cpu", make_results(*rows, kind="service-checks"))])
    assert "| fuzz | 5,400 | 0 | 81 | 200: 5,400 |" in section
    assert "| kill mp4 | 9 | 1 | 60 | lost: 26 |" in section


def test_the_page_has_a_line_for_each_run(make_results):
    row = dict.fromkeys(SERVICE_KEYS, 1) | {
        "case": "load", "network": "xs.onnx", "policy": "shed",
        "engine": "openvino", "precision": "int8",
        "levels": {"xs.onnx": 0.75, "pass": 0.25}, "frames_given": None, "threads_left": None,
        "read_fps": 99.5, "restored_fps": 74.6, "cpu_share": 0.831, "age_p95_ms": 61.6,
        "memory_tenths_mib": [401.2, 398.7],
    }  # fmt: skip
    section = readme([("cpu", make_results(row, kind="service"))]).split("## Service\n")[1]
    assert "| load | xs.onnx | openvino, int8 | shed | 1 |" in section
    assert "| 99.5 | 74.6 | xs.onnx 75%, pass 25% |" in section
    assert "| 62 | 83% | 1 | 1 | 401 399 |" in section
    assert "`python -m benchmarks.run.service --help` says how" in readme([])
