"""What a service counts, as Prometheus text."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from edgecar.runtime.metrics import metrics_from
from edgecar.serve.service import Service

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def metrics_text(service: Service) -> bytes:
    """Cameras' counters as `edgecar run --metrics-port` names them, with those of a service."""
    registry = CollectorRegistry()
    registry.register(_Collector(service))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable["Metric"]:
        yield from metrics_from(self._service.snapshots())
        load = GaugeMetricFamily("edgecar_load_ratio", "Share of the restoring thread's time.")
        load.add_metric([], self._service.load)
        yield load
        statuses = self._service.statuses()
        of_camera, of_output = ["camera_name"], ["camera_name", "kind"]
        up = GaugeMetricFamily("edgecar_camera_up", "1 while it runs.", labels=of_camera)
        shed = GaugeMetricFamily("edgecar_camera_shed", "1 under overload.", labels=of_camera)
        restarts = CounterMetricFamily("edgecar_restarts", "Times opened anew.", labels=of_camera)
        written = CounterMetricFamily("edgecar_output_frames", "Frames written.", labels=of_output)
        lost = CounterMetricFamily("edgecar_output_dropped", "Frames left out.", labels=of_output)
        for status in statuses:
            up.add_metric([status.name], status.state == "running")
            shed.add_metric([status.name], status.shed)
            restarts.add_metric([status.name], status.restarts)
            for output in status.outputs:
                written.add_metric([status.name, output.kind], output.frames)
                lost.add_metric([status.name, output.kind], output.dropped)
        yield from (up, shed, restarts, written, lost)
