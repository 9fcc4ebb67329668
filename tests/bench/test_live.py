"""What is measured of live streams, and its table."""

import json
import subprocess

import jsonschema
import pytest

from benchmarks.run import rtsp_server, soak
from benchmarks.run.soak import PYTHON, soaked, write_pictures
from edgecar.bench.page import readme
from edgecar.bench.results import LIVE_KEYS, SCHEMA_PATH, write_results

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
    monkeypatch.setattr(soak, "SIZE", (360, 480))
    monkeypatch.setattr(soak, "CLIP_FRAMES", 20)
    monkeypatch.setattr(soak, "AWAY_SECONDS", 0.5)
    write_pictures(tmp_path / "pictures")
    row = soaked("edgecar-xs", 12, 4, 60, tmp_path / "pictures")
    assert set(row) == set(LIVE_KEYS)
    assert row["restarts"] >= 1
    assert row["reconnects"] >= 1
    assert row["frames_restored"] > 0
    assert row["frames_dropped"] > 0  # the detector takes longer than a frame lasts
    assert row["frames_unaccounted"] == row["threads_left"] == 0
    assert row["age_p95_ms"] >= row["age_p50_ms"] > 60
    path = tmp_path / "live.json"
    write_results(path, make_results(row, kind="live"))
    jsonschema.validate(json.loads(path.read_text()), json.loads(SCHEMA_PATH.read_text()))


def test_the_page_has_a_line_for_each_run(make_results):
    row = dict.fromkeys(LIVE_KEYS, 0) | {
        "network": "edgecar-s", "height": 480, "width": 640, "source_fps": 25.0, "seconds": 1800,
        "frames_read": 45000, "frames_dropped": 12, "memory_growth_mib": 1.84, "age_p95_ms": 122.6,
    }  # fmt: skip
    section = readme([("cpu", make_results(row, kind="live"))]).split("## Live streams\n")[1]
    assert "| edgecar-s | 640×480 at 25 frames/s | 30 | 0 | 45,000 | 0 | 12 | 0 |" in section
    assert "| 0 | 0 | 123 | 0.0 | 1.8 | 0 |" in section
    assert "`python -m benchmarks.run.soak --help` says how" in readme([])
