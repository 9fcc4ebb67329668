"""Counters as Prometheus text over HTTP; names and labels follow Frigate's ``/api/metrics``."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIServer

from edgecar.closing import Closing
from edgecar.errors import SettingsError
from edgecar.runtime.stats import Snapshot

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

LOCALHOST = "127.0.0.1"
"""Cameras' names and rates are nobody else's business unless the user says so."""

Cameras = Mapping[str, Callable[[], Snapshot]]
"""By name, asked at every scrape; cameras may come and go meanwhile."""

Value = Callable[[Snapshot], float | None]
Values = Callable[[Snapshot], Mapping[str, float]]

GAUGES: tuple[tuple[str, str, Value], ...] = (
    ("camera_fps", "Frames read a second.", lambda s: s.camera_fps),
    ("process_fps", "Frames restored a second.", lambda s: s.process_fps),
    ("skipped_fps", "Frames passed or dropped a second.", lambda s: s.skipped_fps),
    ("frames_in_flight", "Frames on their way.", lambda s: s.frames_in_flight),
    ("computed_ratio", "Pixels computed over pixels of the frames.", lambda s: s.computed_share),
    ("qp", "Mean H.264 QP of the latest frames.", lambda s: s.qp_recent),
    ("jpeg_quality", "Mean quality of the latest JPEG frames.", lambda s: s.jpeg_quality_recent),
)
"""Name, help and value for each camera; None leaves the camera out."""

COUNTERS: tuple[tuple[str, str, Value], ...] = (
    ("frames_read", "Frames read.", lambda s: s.frames_read),
    ("corrupt_frames", "Frames with concealed damage.", lambda s: s.corrupt_frames),
    ("reconnects", "Times the source came back.", lambda s: s.reconnects),
    ("windows_run", "Tiles the network ran.", lambda s: s.windows_run),
)

GAUGES_BY: tuple[tuple[str, str, str, Values], ...] = (
    ("queue_depth", "Frames waiting.", "queue", lambda s: s.queue_depths),
)
"""Name, help, label and values for each camera."""

COUNTERS_BY: tuple[tuple[str, str, str, Values], ...] = (
    ("frames", "Frames by what became of them.", "outcome", lambda s: s.outcomes),
    ("frames_passed", "Frames passed as they came.", "reason", lambda s: s.passed_because),
)


class MetricsServer(Closing):
    """Serves until closed; made by `serve_metrics`."""

    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        self._server, self._thread = server, thread

    @property
    def url(self) -> str:
        """Where Prometheus finds it."""
        host, port = self._server.server_address[:2]
        host = host if isinstance(host, str) else host.decode()
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_metrics(port: int, cameras: Cameras, host: str = LOCALHOST) -> MetricsServer:
    """Serve the numbers of ``cameras`` in a thread, beside those of this process.

    Args:
        port: 0 takes any that is free; the server's ``url`` names it.
        cameras: Where to get the numbers.
        host: Address to listen on; ``0.0.0.0`` lets every machine of the network read.

    Raises:
        SettingsError: ``prometheus_client`` is not installed, or the address cannot be had.
    """
    try:
        from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
        from prometheus_client.registry import Collector
    except ImportError as error:
        raise SettingsError(
            "metrics need prometheus_client, which is not installed; "
            "run: pip install 'edgecar[metrics]'"
        ) from error

    class CameraCollector(Collector):
        def collect(self) -> Iterable["Metric"]:
            return metrics_from({name: take() for name, take in dict(cameras).items()})

    registry = CollectorRegistry()
    registry.register(CameraCollector())
    ProcessCollector(registry=registry)
    try:
        return MetricsServer(*start_http_server(port, host, registry))
    except (OSError, OverflowError) as error:  # OverflowError: a port above 65535
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"metrics cannot be served on {host}:{port} ({reason}); give a free port of this "
            "machine, or 0 for any"
        ) from error


def listening_address(text: str) -> tuple[str, int]:
    """Host and port of ``[HOST:]PORT``; `LOCALHOST` where no host is given.

    Raises:
        SettingsError: There is no port, or none that exists.

    Example:
        >>> listening_address("9101"), listening_address("[::]:9101")
        (('127.0.0.1', 9101), ('::', 9101))
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise SettingsError(
            f"metrics port {text!r} is not understood; give PORT or HOST:PORT, port 0 to 65535"
        )
    return host.strip("[]") or LOCALHOST, int(port)


def metrics_from(snapshots: Mapping[str, Snapshot]) -> "Iterator[Metric]":
    """Every metric of every camera; needs ``prometheus_client``."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for family, rows in ((GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)):
        for name, text, value in rows:
            metric = family(f"edgecar_{name}", text, labels=["camera_name"])
            for camera, snapshot in snapshots.items():
                number = value(snapshot)
                if number is not None:
                    metric.add_metric([camera], number)
            yield metric
    for family, split in ((GaugeMetricFamily, GAUGES_BY), (CounterMetricFamily, COUNTERS_BY)):
        for name, text, label, values in split:
            metric = family(f"edgecar_{name}", text, labels=["camera_name", label])
            for camera, snapshot in snapshots.items():
                for key, number in values(snapshot).items():
                    metric.add_metric([camera, key], number)
            yield metric
    yield _latencies(snapshots)


def _latencies(snapshots: Mapping[str, Snapshot]) -> "Metric":
    from prometheus_client.core import SummaryMetricFamily

    name = "edgecar_stage_latency_seconds"
    text = "Time of a stage for one frame; the quantiles are of the latest frames."
    metric = SummaryMetricFamily(name, text, labels=["camera_name", "stage"])
    for camera, snapshot in snapshots.items():
        for stage, latency in snapshot.latencies.items():
            metric.add_metric([camera, stage], latency.frames, latency.total_seconds)
            quantiles = {
                "0.5": latency.p50_seconds,
                "0.95": latency.p95_seconds,
                "0.99": latency.p99_seconds,
            }
            for quantile, seconds in quantiles.items():
                labels = {"camera_name": camera, "stage": stage, "quantile": quantile}
                metric.add_sample(name, labels, seconds)
    return metric
