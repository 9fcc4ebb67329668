"""What is measured of live streams, and its table."""

import json
import subprocess

import jsonschema
import pytest

from benchmarks.run import rtsp_server, soak
from benchmarks.run.soak import PYTHON, soaked, write_pictures_of
from edgecar.bench.results import ROW_KEYS, SCHEMA_PATH, write_results
from edgecar.media.scene import photo_scene
from edgecar.media.video_codec import video_coded

pytestmark = pytest.mark.slow  # a harness for our own pages

try:
    THERE = not subprocess.run(
        [PYTHON, rtsp_server.__file__, "none"], capture_output=True, check=False
    ).returncode
except OSError:
    THERE = False


@pytest.mark.slow  # waits for a server that breaks off
@pytest.mark.skipif(not THERE, reason="needs GStreamer's RTSP server (gir1.2-gst-rtsp-server-1.0)")
def test_a_stream_that_breaks_off_is_accounted_for(tmp_path, monkeypatch, make_results):
    monkeypatch.setattr(soak, "AWAY_SECONDS", 0.5)
    coded = video_coded(photo_scene((360, 480), 20), soak.CODING)
    write_pictures_of(coded.bitstream, tmp_path / "pictures")
    row = soaked("edgecar-xs", 12, 4, 60, tmp_path / "pictures")
    assert set(row) == ROW_KEYS["live"]
    assert row["restarts"] >= 1
    assert row["reconnects"] >= 1
    assert row["frames_restored"] > 0
    assert row["frames_dropped"] > 0  # the detector takes longer than a frame lasts
    assert row["frames_unaccounted"] == row["threads_left"] == 0
    assert row["age_p95_ms"] >= row["age_p50_ms"] > 60
    path = tmp_path / "live.json"
    write_results(path, make_results(row, kind="live"))
    jsonschema.validate(json.loads(path.read_text()), json.loads(SCHEMA_PATH.read_text()))
