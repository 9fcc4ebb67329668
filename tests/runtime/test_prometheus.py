"""What Prometheus gets when it asks."""

import socket
import sys
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgecar.errors import SettingsError
from edgecar.media.frame import Coding
from edgecar.runtime.prometheus import listening_address, serve_metrics
from edgecar.runtime.stats import RunStats


def scraped(url):
    """Samples as Prometheus would store them: ``{(name, labels): value}``."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    samples = [sample for family in families for sample in family.samples]
    found = {(s.name, *sorted(s.labels.items())): s.value for s in samples}
    assert len(found) == len(samples)
    return found


def named(found, name, camera="front", **labels):
    return found.get((f"edgecar_{name}", *sorted({"camera_name": camera, **labels}.items())))


@pytest.fixture
def front():
    seconds = 0.0
    stats = RunStats(clock=lambda: seconds)
    for _ in range(10):
        stats.count_read(Coding(qp=30.5))
    for _ in range(6):
        stats.count_restored()
    stats.count_passed("below_qp")
    stats.count_passed("over_latency_budget")
    stats.count_dropped()
    for milliseconds in range(1, 101):
        stats.times.add("restore", milliseconds / 1000)
    stats.queues["read"] = lambda: 3
    seconds = 2.0
    return stats


def test_a_scrape_has_every_number(front):
    with serve_metrics(0, {"front": front.snapshot}) as url:
        found = scraped(url)
    expected = {
        **{"camera_fps": 5, "process_fps": 3, "skipped_fps": 1.5, "frames_read_total": 10},
        **{"frames_in_flight": 1, "qp": 30.5, "jpeg_quality": None, "corrupt_frames_total": 0},
        **{"reconnects_total": 0, "windows_run_total": 0, "computed_ratio": 0},
    }
    assert {name: named(found, name) for name in expected} == expected
    for outcome, frames in {"restored": 6, "passed": 2, "dropped": 1}.items():
        assert named(found, "frames_total", outcome=outcome) == frames
    assert named(found, "frames_passed_total", reason="below_qp") == 1
    assert named(found, "queue_depth", queue="read") == 3
    assert any(name == "process_resident_memory_bytes" for name, *_ in found)
    latency = "stage_latency_seconds"
    for quantile, seconds in {"0.5": 0.05, "0.95": 0.095, "0.99": 0.099}.items():
        assert named(found, latency, stage="restore", quantile=quantile) == seconds
    assert named(found, f"{latency}_count", stage="restore") == 100
    assert named(found, f"{latency}_sum", stage="restore") == pytest.approx(5.05)  # a sum of floats


def test_every_scrape_asks_anew_and_cameras_come_and_go(front):
    cameras = {"front": front.snapshot}
    with serve_metrics(0, cameras) as url:
        front.count_restored()
        assert named(scraped(url), "frames_total", outcome="restored") == 7
        cameras['back "yard"\n'] = RunStats().snapshot
        found = scraped(url)
        assert named(found, "frames_read_total", 'back "yard"\n') == 0
        assert named(found, "frames_read_total") == 10
        del cameras["front"]
        assert named(scraped(url), "frames_read_total") is None


def test_the_port_is_free_afterwards(front):
    with serve_metrics(0, {"front": front.snapshot}) as url:
        port = int(url.split(":")[2].split("/")[0])
    with serve_metrics(port, {}) as again:
        assert again == url
        scraped(again)


def test_nobody_else_reaches_it_unless_told():
    with serve_metrics(0, {}) as url:
        assert url.startswith("http://127.0.0.1:")
    with serve_metrics(0, {}, "0.0.0.0") as url:
        assert url.startswith("http://0.0.0.0:")


def test_a_taken_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = rf"127.0.0.1:{port} \(Address already in use\)"
        with pytest.raises(SettingsError, match=said), serve_metrics(port, {}):
            pass


@pytest.mark.parametrize(("port", "host"), [(0, "203.0.113.1"), (70000, "127.0.0.1")])
def test_an_address_that_cannot_be_had(port, host):
    with pytest.raises(SettingsError, match="give a free port"), serve_metrics(port, {}, host):
        pass


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    said = r"pip install 'edgecar\[metrics\]'"
    with pytest.raises(SettingsError, match=said), serve_metrics(0, {}):
        pass


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9101", ("127.0.0.1", 9101)),
        ("0", ("127.0.0.1", 0)),
        ("0.0.0.0:9101", ("0.0.0.0", 9101)),
        ("nvr.local:80", ("nvr.local", 80)),
        ("[::1]:9101", ("::1", 9101)),
    ],
)
def test_addresses(text, address):
    assert listening_address(text) == address


@pytest.mark.parametrize("text", ["", "front", "0.0.0.0", "host:", "1:70000", "-1", "٣"])
def test_addresses_that_are_none(text):
    with pytest.raises(SettingsError, match="PORT or HOST:PORT"):
        listening_address(text)
