"""Counters as Prometheus text over HTTP; names and labels follow Frigate's ``/api/metrics``."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgecar.errors import SettingsError
from edgecar.runtime.stats import Snapshot

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

LOCALHOST = "127.0.0.1"
"""Cameras' names and rates are nobody else's business unless the user says so."""

GAUGES: tuple[tuple[str, str, Callable[[Snapshot], float | None]], ...] = (
    ("camera_fps", "Frames read a second.", lambda s: s.camera_fps),
    ("process_fps", "Frames restored a second.", lambda s: s.process_fps),
    ("skipped_fps", "Frames passed or dropped a second.", lambda s: s.skipped_fps),
    ("frames_in_flight", "Frames on their way.", lambda s: s.frames_in_flight),
    ("computed_ratio", "Pixels computed over pixels of the frames.", lambda s: s.computed_share),
    ("qp", "Mean H.264 QP of the latest frames.", lambda s: s.qp_recent),
    ("jpeg_quality", "Mean quality of the latest JPEG frames.", lambda s: s.jpeg_quality_recent),
    ("quantiser", "QP or JPEG quality that the network is told.", lambda s: s.quantiser),
)
"""Name, help and value for each camera; None leaves the camera out."""

COUNTERS: tuple[tuple[str, str, Callable[[Snapshot], float]], ...] = (
    ("frames_read", "Frames read.", lambda s: s.frames_read),
    ("corrupt_frames", "Frames with concealed damage.", lambda s: s.corrupt_frames),
    ("reconnects", "Times the source came back.", lambda s: s.reconnects),
    ("quantiser_moves", "Frames told another quantiser.", lambda s: s.quantiser_moves),
    (
        "quantiser_unknown_frames",
        "Frames told the middle of the range, for want of a quantiser.",
        lambda s: s.quantiser_unknown_frames,
    ),
    ("windows_run", "Tiles the network ran.", lambda s: s.windows_run),
)


@contextmanager
def serve_metrics(
    port: int, cameras: Mapping[str, Callable[[], Snapshot]], host: str = LOCALHOST
) -> Iterator[str]:
    """Serve the numbers of cameras, beside those of this process, while the block runs.

    Args:
        port: 0 takes any that is free.
        cameras: By name, asked at every scrape; cameras may come and go meanwhile.
        host: Address to listen on; ``0.0.0.0`` lets every machine of the network read.

    Yields:
        The address for Prometheus.

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
        server, thread = start_http_server(port, host, registry)
    except (OSError, OverflowError) as error:  # OverflowError: a port above 65535
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"metrics cannot be served on {host}:{port} ({reason}); give a free port of this "
            "machine, or 0 for any"
        ) from error
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


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
    from prometheus_client.core import CounterMetricFamily as Counter
    from prometheus_client.core import GaugeMetricFamily as Gauge
    from prometheus_client.core import SummaryMetricFamily as Summary

    camera = "camera_name"
    for family, rows in ((Gauge, GAUGES), (Counter, COUNTERS)):
        for name, text, value in rows:
            metric = family(f"edgecar_{name}", text, labels=[camera])
            for key, now in snapshots.items():
                number = value(now)
                if number is not None:
                    metric.add_metric([key], number)
            yield metric
    depths = Gauge("edgecar_queue_depth", "Frames waiting.", labels=[camera, "queue"])
    ended = Counter("edgecar_frames", "Frames by what became of them.", labels=[camera, "outcome"])
    passed = Counter("edgecar_frames_passed", "Frames passed.", labels=[camera, "reason"])
    seconds = Summary(
        "edgecar_stage_latency_seconds",
        "Time of a stage for one frame; the quantiles are of the latest frames.",
        labels=[camera, "stage"],
    )
    for key, now in snapshots.items():
        for metric, counts in (
            (depths, now.queue_depths), (ended, now.outcomes), (passed, now.passed_because)
        ):  # fmt: skip
            for label, count in counts.items():
                metric.add_metric([key, label], count)
        for stage, latency in now.latencies.items():
            seconds.add_metric([key, stage], latency.frames, latency.total_seconds)
            quantiles = {
                "0.5": latency.p50_seconds,
                "0.95": latency.p95_seconds,
                "0.99": latency.p99_seconds,
            }
            for quantile, at in quantiles.items():
                labels = {camera: key, "stage": stage, "quantile": quantile}
                seconds.add_sample(seconds.name, labels, at)
    yield from (depths, ended, passed, seconds)
