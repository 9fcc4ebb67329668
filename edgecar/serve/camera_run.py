"""One camera of a service: its source, its way through the pipeline and its outputs."""

import logging
from collections import Counter
from collections.abc import Sequence

from edgecar.redaction import text_redacted
from edgecar.runtime.camera import Camera as PipelineCamera
from edgecar.runtime.camera import PipelineSettings, StreamFrame
from edgecar.runtime.pipeline import Pipeline
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stats import PassReason
from edgecar.serve.coding import Coder, PacketOutput
from edgecar.serve.history import History
from edgecar.serve.networks import Networks, coder_of
from edgecar.serve.outputs import OutputStatus
from edgecar.serve.publishing import Publisher
from edgecar.serve.push import Pusher
from edgecar.serve.recording import Recorder
from edgecar.serve.settings import PASS, Camera
from edgecar.serve.shedding import Demand
from edgecar.serve.sources import SupervisedSource
from edgecar.serve.status import AgeMs, CameraStatus, FrameCounts
from edgecar.serve.view import LatestFrame
from edgecar.spec import CODERS
from edgecar.spec import Coder as CoderName

NEW_COST_SHARE = 0.5
"""Of what a network cost in the last seconds, in what it is expected to cost."""

COMPILING_LOOKS = 5
"""The first so many looks at a network say nothing of what it costs later."""

_log = logging.getLogger(__name__)


class CameraRun:
    """Runs one camera; used by the service, which sees to it that one thread at a time does so.

    Args:
        settings: Of the camera.
        pipeline: That restores for all.
        networks: Engines of all.
        publisher: Of all, where frames are published.
    """

    def __init__(
        self,
        settings: Camera,
        pipeline: Pipeline,
        networks: Networks,
        publisher: Publisher | None,
    ) -> None:
        self.settings = settings
        self.latest, self.history = LatestFrame(), History()
        self.level = 0
        """Place among the networks of its settings."""
        self._pipeline, self._networks, self._publisher = pipeline, networks, publisher
        self._source: SupervisedSource | None = None
        self._camera: PipelineCamera | None = None
        self._coder: Coder | None = None
        self._costs: dict[str, float] = {}
        self._looks: Counter[str] = Counter()
        self._spent: dict[str, tuple[float, int]] = {}  # seconds and frames at the last look

    def start(self) -> None:
        """Read, restore and write, if it is enabled and does not do so."""
        settings = self.settings
        if not settings.enabled or self._camera is not None:
            return
        self._source = SupervisedSource(settings)
        targets: list[PacketOutput] = []
        if settings.record:
            targets.append(Recorder(settings.name, settings.record))
        if settings.push:
            targets.append(Pusher(settings.push))
        self._coder = Coder(settings.name, settings.video, targets) if targets else None
        if self._coder:
            self._coder.start()
        how = PipelineSettings(
            policy="newest",
            max_latency_ms=settings.max_latency_ms,
            skip_below_qp=settings.skip_below_qp,
            skip_above_quality=settings.skip_above_quality,
        )
        self._camera = self._pipeline.add(settings.name, self._source, how)

    def stop(self) -> None:
        """Stop reading and finish the outputs."""
        self.stop_reading()
        self.finish_outputs()

    def stop_reading(self) -> None:
        """Give the source back; frames on their way still come."""
        camera, self._camera = self._camera, None
        if camera is not None and self._pipeline.cameras.get(camera.name) is camera:
            self._pipeline.remove(camera.name)

    def finish_outputs(self) -> None:
        """Write what is queued, and close files and connections."""
        coder, self._coder = self._coder, None
        if coder:
            coder.close()

    def moved_to(self, pipeline: Pipeline) -> None:
        """Go on in another pipeline, the last one having failed."""
        self._pipeline, self._camera = pipeline, None
        self.finish_outputs()
        self.start()

    def change(self, settings: Camera) -> None:
        """Take other settings that need no new start."""
        self.settings, self.level = settings, 0

    def take_level(self, level: int) -> None:
        """Run another of its networks."""
        if level < self.level:
            # What it cost last time may be of a machine that was busy with something else.
            self._costs.pop(self.settings.networks[level], None)
        self.level = level

    def way_of(self, frame: StreamFrame) -> Restorer | PassReason:
        """What restores a frame; called by the thread that restores."""
        network = self.running
        if network == PASS:
            return "overload" if self.settings.network != PASS else "as_asked"
        codec = frame.before.coding.codec or self._codec
        coder = coder_of(codec, network, self.settings.coder)
        return self._networks.restorer(network, coder) if coder else "other_coder"

    def deliver(self, frame: StreamFrame) -> None:
        """Give a frame to all outputs; none of them makes anybody wait."""
        self.latest.put(frame)
        if self._coder:
            self._coder.offer(frame.frame)
        if self._publisher and self.settings.publish:
            self._publisher.offer(frame)

    @property
    def running(self) -> str:
        """The network at work now, or `PASS`."""
        chain = self.settings.networks
        return chain[min(self.level, len(chain) - 1)]

    @property
    def weights(self) -> CoderName | None:
        """The coder whose weights are taken; None if none are made for what the camera sends."""
        return coder_of(self._codec, self.running, self.settings.coder)

    def tick(self) -> float:
        """Note a moment in the history; returns the seconds of restoring since the last one."""
        now = self._camera.stats.snapshot() if self._camera else None
        work = self._camera.work if self._camera else None
        pixels = (work.pixels_read, work.pixels_of_frames) if work else (0, 0)
        self.history.add(now, self.latest.frame, pixels)
        return self._note_costs()

    @property
    def demand(self) -> Demand | None:
        """What it asks for; None while it does not run."""
        if self._camera is None:
            return None
        fps = self._camera.stats.snapshot().camera_fps
        costs = [0.0 if n == PASS else self._costs.get(n) for n in self.settings.networks]
        return Demand(self.settings.name, fps, self.settings.priority, costs)

    @property
    def camera(self) -> PipelineCamera | None:
        """Its place in the pipeline, while it runs."""
        return self._camera

    @property
    def coder(self) -> Coder | None:
        """What codes its pictures, while it runs and there is an output that needs them."""
        return self._coder

    @property
    def status(self) -> CameraStatus:
        """All about it."""
        settings, source, camera = self.settings, self._source, self._camera
        now = camera.stats.snapshot() if camera else None
        age = now.latencies.get("age") if now else None
        size = source.facts.size if source and source.facts else (0, 0)
        return CameraStatus(
            name=settings.name,
            source=text_redacted(settings.source),
            state=source.state if source and camera else "stopped",
            error=(source.error if source and camera else None) or self._network_error(),
            enabled=settings.enabled,
            network=settings.network,
            running=self.running if self.weights or not self._codec else PASS,
            shed=self.level > 0,
            engine=self._engine(),
            codec=self._codec,
            width=size[1],
            height=size[0],
            sequence=self.latest.sequence,
            camera_fps=round(now.camera_fps, 2) if now else 0,
            process_fps=round(now.process_fps, 2) if now else 0,
            skipped_fps=round(now.skipped_fps, 2) if now else 0,
            frames=FrameCounts(
                read=now.frames_read if now else 0,
                restored=now.frames_restored if now else 0,
                passed=now.frames_passed if now else 0,
                dropped=now.frames_dropped if now else 0,
                in_flight=now.frames_in_flight if now else 0,
                corrupt=now.corrupt_frames if now else 0,
            ),
            passed_because=dict(now.passed_because) if now else {},
            age_ms=AgeMs(p50=round(1e3 * age.p50_seconds, 1), p95=round(1e3 * age.p95_seconds, 1))
            if age
            else None,
            computed_share=round(now.computed_share, 4) if now else 0,
            qp=None if now is None or now.qp_recent is None else round(now.qp_recent, 1),
            reconnects=now.reconnects if now else 0,
            restarts=source.restarts if source else 0,
            outputs=self._outputs(),
        )

    def _outputs(self) -> list[OutputStatus]:
        coder = self._coder
        outputs: Sequence[PacketOutput | Coder] = [coder, *coder.targets] if coder else []
        return [each.status for each in outputs]

    @property
    def _codec(self) -> str:
        """Coding of what the camera sends; empty until it is known."""
        return self._source.codec if self._source else ""

    def _engine(self) -> str | None:
        coder = self.weights
        if self.running == PASS or coder is None:
            return None
        restorer = self._networks.peek(self.running, coder)
        info = restorer.engine.info if restorer else None
        return f"{info.name}, {info.precision}, {info.device}" if info else None

    def _network_error(self) -> str | None:
        coder = self.weights
        if self.running == PASS or not self._codec:
            return None
        if coder is None:
            return (
                f"no weights are made for {self._codec}: pictures pass as they are; set coder to "
                f"{', '.join(CODERS)} to restore them with weights for that"
            )
        return self._networks.error(self.running, coder)

    def _note_costs(self) -> float:
        """Learn what each network costs here."""
        spent = 0.0
        for network in self.settings.networks:
            coder = coder_of(self._codec, network, self.settings.coder)
            restorer = self._networks.peek(network, coder) if coder and network != PASS else None
            if restorer is None:
                continue
            stats = restorer.stats_of(self.settings.name)
            before = self._spent.get(network)
            self._spent[network] = stats.seconds, stats.frames
            self._looks[network] += bool(stats.frames)
            if not before or self._looks[network] <= COMPILING_LOOKS or stats.frames < before[1]:
                continue  # engines compile the shapes they meet; or it was started anew
            seconds, frames = stats.seconds - before[0], stats.frames - before[1]
            if frames:
                cost, known = seconds / frames, self._costs.get(network)
                share = NEW_COST_SHARE if known is not None else 1.0
                self._costs[network] = (known or 0.0) + share * (cost - (known or 0.0))
                spent += seconds
        return spent
