"""One running camera: its source, its place in the pipeline, its outputs and its figures."""

from collections import Counter, deque
from dataclasses import replace

import cv2
import numpy as np

from edgecar.engines.base import Codes
from edgecar.errors import MediaError, SettingsError
from edgecar.media.color import upright_bgr
from edgecar.media.frame import Frame
from edgecar.redaction import text_redacted
from edgecar.runtime.camera import Camera, PipelineSettings, StreamFrame
from edgecar.runtime.pipeline import Pipeline
from edgecar.runtime.quantisers import quantiser_from_setting
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stats import PassReason, RunStats, Stats
from edgecar.serve.networks import Demand, Networks, weights_for_stream
from edgecar.serve.outputs import Coder, PacketOutput
from edgecar.serve.publishing import Publisher
from edgecar.serve.settings import PASS, CameraSettings
from edgecar.serve.source import SupervisedSource
from edgecar.serve.status import CameraStatus, HistoryTable, View
from edgecar.serve.writers import Pusher, Recorder
from edgecar.spec import CODERS, WeightsFor

NEW_COST_SHARE = 0.5
"""Weight of the latest seconds in the expected cost of a network."""

COMPILING_LOOKS = 5
"""First looks at a network that are ignored: its engine compiles the shapes it meets."""

STEP_SECONDS = 2.0
"""Time from one sample of the history to the next."""

SAMPLES = 150
"""Five minutes."""

HIGHEST_DB = 99.0
"""PSNR shown if nothing was changed."""

JPEG_QUALITY = 85
SMALLEST_WIDTH = 16
CACHED_JPEGS = 4
"""Coded pictures kept of the newest frame: several people look at one camera."""


class CameraRun:
    """Runs one camera. The service makes sure that one thread at a time changes it."""

    def __init__(
        self,
        settings: CameraSettings,
        pipeline: Pipeline,
        networks: Networks,
        publisher: Publisher | None,
    ) -> None:
        self.settings = settings
        self.level = 0
        """Place of the network at work in ``settings.networks``."""
        self.place: Camera | None = None
        """The camera's place in the pipeline, while it runs."""
        self._pipeline, self._networks, self._publisher = pipeline, networks, publisher
        self._source: SupervisedSource | None = None
        self.coder: Coder | None = None
        """Coder of its pictures, while it runs and an output needs them."""
        self._newest: tuple[StreamFrame | None, int, dict[tuple[View, int], bytes]] = None, 0, {}
        self._samples: deque[dict[str, float | None]] = deque(maxlen=SAMPLES)
        self._refused: str | None = None
        """Why the network at work is not told the quantiser of the settings: frames pass."""
        self._work = Stats()  # done up to the last sample
        self._costs: dict[str, float] = {}  # seconds per frame
        self._looks: Counter[str] = Counter()

    def start(self) -> None:
        """Read, restore and write, if the camera is enabled and does not run yet."""
        settings = self.settings
        if not settings.enabled or self.place is not None:
            return
        self._source = SupervisedSource(settings)
        targets: list[PacketOutput] = []
        if settings.record:
            targets.append(Recorder(settings.name, settings.record))
        if settings.push:
            targets.append(Pusher(settings.push))
        if targets:
            self.coder = Coder(settings.name, settings.video, targets)
            self.coder.start()
        how = PipelineSettings(
            policy="newest",
            max_latency_ms=settings.max_latency_ms,
            skip_below_qp=settings.skip_below_qp,
            skip_above_quality=settings.skip_above_quality,
            quantiser=settings.quantiser,
        )
        self._work = Stats()
        self.place = self._pipeline.add(settings.name, self._source, how)

    def stop_reading(self) -> None:
        """Close the source; frames that were read still come out."""
        place, self.place = self.place, None
        if place is not None and self._pipeline.cameras.get(place.name) is place:
            self._pipeline.remove(place.name)

    def finish_outputs(self) -> None:
        """Write what is queued, and close files and connections."""
        coder, self.coder = self.coder, None
        if coder:
            coder.close()

    def move_to(self, pipeline: Pipeline) -> None:
        """Continue in another pipeline, after a failure of the last one."""
        self._pipeline, self.place = pipeline, None
        self.finish_outputs()
        self.start()

    def change(self, settings: CameraSettings, *, restart: bool) -> None:
        """Take other settings; those of source and outputs need a restart."""
        if restart:
            self.stop_reading()
            self.finish_outputs()
        self.settings, self.level = settings, 0
        self.start()

    def take_level(self, level: int) -> None:
        """Run another of the camera's networks."""
        if level < self.level:
            # The machine may have been busy with something else when this cost was measured.
            self._costs.pop(self.settings.networks[level], None)
        self.level = level

    def choose(self, frame: StreamFrame) -> Restorer | PassReason:
        """Return what restores a frame, or why it passes; called by the restoring thread."""
        network = self.running
        if network == PASS:
            return "overload" if self.settings.network != PASS else "as_asked"
        codec = frame.before.coding.codec or self._codec
        weights = weights_for_stream(codec, network, self.settings)
        way = self._networks.restorer(network, weights) if weights else "other_coder"
        self._refused = None
        if self.settings.quantiser is not None and isinstance(way, Restorer):
            try:
                quantiser_from_setting(self.settings.quantiser, way.metadata)
            except SettingsError as error:
                self._refused = str(error)
                return "engine_failed"
        return way

    def deliver(self, frame: StreamFrame) -> None:
        """Give a frame to all outputs, without waiting for any."""
        self._newest = frame, self.sequence + 1, {}
        if self.coder:
            self.coder.offer(frame.frame)
        if self._publisher and self.settings.publish:
            self._publisher.offer(frame)

    @property
    def frame(self) -> StreamFrame | None:
        """The newest frame."""
        return self._newest[0]

    @property
    def sequence(self) -> int:
        """Number of the newest frame, counted from 1; 0 if there is none yet."""
        return self._newest[1]

    def jpeg(self, view: View, width: int) -> tuple[bytes, int]:
        """Return the newest picture, at most ``width`` pixels wide, and its number.

        Raises:
            MediaError: There is no picture yet.
        """
        frame, sequence, coded = self._newest
        if frame is None:
            raise MediaError("no picture yet; wait for the camera")
        width = max(SMALLEST_WIDTH, min(width, frame.frame.size[1]))
        if (view, width) not in coded:
            views = {"before": [frame.before], "after": [frame.frame]}
            shown = views.get(view, [frame.before, frame.frame])
            picture = np.hstack([_scaled(each, width) for each in shown])
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            if len(coded) >= CACHED_JPEGS:
                coded.clear()
            data = cv2.imencode(".jpg", picture, quality)[1].tobytes()
            coded[view, width] = data
            return data, sequence
        return coded[view, width], sequence

    def tick(self) -> float:
        """Add a sample to the history; returns the seconds of restoring since the last one."""
        place, before = self.place, self._work
        if place is None:
            self._samples.append({})
            return 0.0
        now, work = place.stats.snapshot(), replace(place.stats.work)
        frames, seconds = work.frames - before.frames, work.seconds - before.seconds
        pixels = work.pixels_of_frames - before.pixels_of_frames
        sample: dict[str, float | None] = {
            "camera_fps": round(now.camera_fps, 2),
            "process_fps": round(now.process_fps, 2),
            "qp": now.qp_recent and round(now.qp_recent, 1),
        }
        if pixels > 0:
            sample["computed_share"] = round((work.pixels_read - before.pixels_read) / pixels, 4)
        if now.camera_fps and "age" in now.latencies:
            sample["age_ms"] = round(1e3 * now.latencies["age"].p95_seconds, 1)
        if now.camera_fps and self.frame and self.frame.restored:
            change_db = cv2.PSNR(self.frame.before.y, self.frame.frame.y)
            sample["change_db"] = round(min(HIGHEST_DB, change_db), 2)
        self._samples.append(sample)
        self._work = work
        network = self.running
        self._looks[network] += bool(frames)
        if frames and self._looks[network] > COMPILING_LOOKS:
            known = self._costs.get(network, seconds / frames)
            self._costs[network] = known + NEW_COST_SHARE * (seconds / frames - known)
        return seconds

    @property
    def history(self) -> HistoryTable:
        """Figures of the last minutes."""
        samples = list(self._samples)
        names = HistoryTable.model_fields.keys() - {"step_seconds"}
        series = {name: [each.get(name) for each in samples] for name in names}
        return HistoryTable.model_validate({"step_seconds": STEP_SECONDS, **series})

    @property
    def running(self) -> str:
        """The network at work, or `PASS`."""
        chain = self.settings.networks
        return chain[min(self.level, len(chain) - 1)]

    @property
    def demand(self) -> Demand | None:
        """Load that the camera asks for; None while it does not run."""
        if self.place is None:
            return None
        fps = self.place.stats.snapshot().camera_fps
        costs = [0.0 if n == PASS else self._costs.get(n) for n in self.settings.networks]
        return Demand(self.settings.name, fps, self.settings.priority, costs)

    @property
    def status(self) -> CameraStatus:
        """Everything the API says about the camera."""
        settings, source, place, coder = self.settings, self._source, self.place, self.coder
        now = (place.stats if place else RunStats()).snapshot()
        age = now.latencies.get("age")
        height, width = source.facts.size if source and source.facts else (0, 0)
        return CameraStatus(
            name=settings.name,
            source=text_redacted(settings.source),
            state=source.state if source and place else "stopped",
            error=(source.error if source and place else None) or self._network_error(),
            enabled=settings.enabled,
            network=settings.network,
            running=self.running if self._weights or not self._codec else PASS,
            shed=self.level > 0,
            engine=self._engine(),
            codec=self._codec,
            width=width,
            height=height,
            sequence=self.sequence,
            camera_fps=round(now.camera_fps, 2),
            process_fps=round(now.process_fps, 2),
            skipped_fps=round(now.skipped_fps, 2),
            frames=now.table()["frames"],
            passed_because=dict(now.passed_because),
            age_ms=age
            and {"p50": round(1e3 * age.p50_seconds, 1), "p95": round(1e3 * age.p95_seconds, 1)},
            computed_share=round(now.computed_share, 4),
            qp=now.qp_recent and round(now.qp_recent, 1),
            quantiser=now.quantiser,
            quantiser_moves=now.quantiser_moves,
            quantiser_unknown_frames=now.quantiser_unknown_frames,
            reconnects=now.reconnects,
            restarts=source.restarts if source else 0,
            outputs=[coder.status, *(each.status for each in coder.targets)] if coder else [],
        )

    @property
    def _codec(self) -> str:
        """Codec of the camera's stream; empty until it is known."""
        return self._source.codec if self._source else ""

    @property
    def _weights(self) -> WeightsFor | None:
        """Weights that are used; None if none are made for the camera's stream."""
        return weights_for_stream(self._codec, self.running, self.settings)

    def _engine(self) -> str | None:
        weights = self._weights
        restorer = self._networks.peek(self.running, weights) if weights else None
        info = restorer.engine.info if restorer and self.running != PASS else None
        return f"{info.name}, {info.precision}, {info.device}" if info else None

    def _network_error(self) -> str | None:
        weights = self._weights
        if self.running == PASS or not self._codec:
            return None
        if weights is None:
            return (
                f"no weights are made for {self._codec}: pictures pass as they are; set coder to "
                f"{', '.join(CODERS)} to restore them with weights for that"
            )
        return self._networks.error(self.running, weights) or self._refused


def _scaled(frame: Frame, width: int) -> Codes:
    bgr = upright_bgr(frame, fast=True)
    height = max(1, round(bgr.shape[0] * width / bgr.shape[1]))
    if bgr.shape[1] == width:
        return bgr
    return np.asarray(cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
