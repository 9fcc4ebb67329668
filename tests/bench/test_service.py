"""What is measured of the service, and its tables."""

import json

import jsonschema
import pytest

from benchmarks.run import service, soak
from benchmarks.run.service import loaded, soaked
from benchmarks.run.soak import write_pictures_of
from edgecar.bench.results import ROW_KEYS, SCHEMA_PATH, write_results
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
    assert set(row) == ROW_KEYS["service"]
    outcomes = ("frames_restored", "frames_passed", "frames_dropped", "frames_in_flight")
    assert row["frames_read"] == sum(row[key] for key in outcomes)
    assert row["frames_read"] > 0
    assert sum(row["levels"].values()) == pytest.approx(1, abs=0.01)
    checked(tmp_path / "service.json", make_results(row, kind="service"))


@pytest.mark.slow  # kills processes
@pytest.mark.skipif(not THERE, reason="needs GStreamer's RTSP server (gir1.2-gst-rtsp-server-1.0)")
def test_cameras_that_are_killed_are_accounted_for(clip, tmp_path, monkeypatch, make_results):
    monkeypatch.setattr(service, "KILL_SECONDS", (2.0, 3.0))
    monkeypatch.setattr(soak, "AWAY_SECONDS", 0.5)
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
