"""One running camera: its source, its place in the pipeline and its outputs."""

from collections import Counter
from collections.abc import Sequence

from edgecar.redaction import text_redacted
from edgecar.runtime.camera import Camera as PipelineCamera
from edgecar.runtime.camera import PipelineSettings, StreamFrame
from edgecar.runtime.pipeline import Pipeline
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stats import PassReason, RunStats
from edgecar.serve.networks import Demand, Networks, coder_of
from edgecar.serve.outputs import Coder, PacketOutput
from edgecar.serve.publishing import Publisher
from edgecar.serve.settings import PASS, Camera
from edgecar.serve.source import SupervisedSource
from edgecar.serve.status import AgeMs, CameraStatus, FrameCounts, History, LatestFrame, rounded
from edgecar.serve.writers import Pusher, Recorder
from edgecar.spec import CODERS
from edgecar.spec import Coder as CoderName

NEW_COST_SHARE = 0.5
"""Weight of the latest seconds in the expected cost of a network."""

COMPILING_LOOKS = 5
"""First looks at a network that are ignored: its engine compiles the shapes it meets."""


class CameraRun:
    """Runs one camera. The service makes sure that one thread at a time changes it."""

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
        """Place of the network at work in ``settings.networks``."""
        self.place: PipelineCamera | None = None
        """The camera's place in the pipeline, while it runs."""
        self.coder: Coder | None = None
        """Coder of its pictures, while it runs and an output needs them."""
        self._pipeline, self._networks, self._publisher = pipeline, networks, publisher
        self._source: SupervisedSource | None = None
        self._costs: dict[str, float] = {}  # seconds per frame
        self._looks: Counter[str] = Counter()
        self._spent: dict[str, tuple[float, int]] = {}  # seconds and frames at the last look

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
        self.coder = Coder(settings.name, settings.video, targets) if targets else None
        if self.coder:
            self.coder.start()
        how = PipelineSettings(
            policy="newest",
            max_latency_ms=settings.max_latency_ms,
            skip_below_qp=settings.skip_below_qp,
            skip_above_quality=settings.skip_above_quality,
        )
        self.place = self._pipeline.add(settings.name, self._source, how)

    def stop(self) -> None:
        """Stop reading and finish the outputs."""
        self.stop_reading()
        self.finish_outputs()

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

    def change(self, settings: Camera) -> None:
        """Take other settings; those of source and outputs apply from the next start."""
        self.settings, self.level = settings, 0

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
        coder = coder_of(codec, network, self.settings.coder)
        return self._networks.restorer(network, coder) if coder else "other_coder"

    def deliver(self, frame: StreamFrame) -> None:
        """Give a frame to all outputs, without waiting for any."""
        self.latest.put(frame)
        if self.coder:
            self.coder.offer(frame.frame)
        if self._publisher and self.settings.publish:
            self._publisher.offer(frame)

    def tick(self) -> float:
        """Add a sample to the history; returns the seconds of restoring since the last one."""
        place, now, pixels = self.place, None, (0, 0)
        if place:
            now, work = place.stats.snapshot(), place.work
            pixels = work.pixels_read, work.pixels_of_frames
        self.history.add(now, self.latest.frame, pixels)
        return self._measure_costs()

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
        settings, source, place = self.settings, self._source, self.place
        now = (place.stats if place else RunStats()).snapshot()
        age = now.latencies.get("age")
        height, width = source.facts.size if source and source.facts else (0, 0)
        coder = self.coder
        outputs: Sequence[PacketOutput | Coder] = [coder, *coder.targets] if coder else []
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
            sequence=self.latest.sequence,
            camera_fps=round(now.camera_fps, 2),
            process_fps=round(now.process_fps, 2),
            skipped_fps=round(now.skipped_fps, 2),
            frames=FrameCounts.model_validate(now.table()["frames"]),
            passed_because=dict(now.passed_because),
            age_ms=AgeMs(p50=round(1e3 * age.p50_seconds, 1), p95=round(1e3 * age.p95_seconds, 1))
            if age
            else None,
            computed_share=round(now.computed_share, 4),
            qp=rounded(now.qp_recent, 1),
            reconnects=now.reconnects,
            restarts=source.restarts if source else 0,
            outputs=[output.status for output in outputs],
        )

    @property
    def _codec(self) -> str:
        """Codec of the camera's stream; empty until it is known."""
        return self._source.codec if self._source else ""

    @property
    def _weights(self) -> CoderName | None:
        """Coder whose weights are used; None if none are made for the camera's stream."""
        return coder_of(self._codec, self.running, self.settings.coder)

    def _engine(self) -> str | None:
        coder = self._weights
        restorer = self._networks.peek(self.running, coder) if coder else None
        info = restorer.engine.info if restorer and self.running != PASS else None
        return f"{info.name}, {info.precision}, {info.device}" if info else None

    def _network_error(self) -> str | None:
        coder = self._weights
        if self.running == PASS or not self._codec:
            return None
        if coder is None:
            return (
                f"no weights are made for {self._codec}: pictures pass as they are; set coder to "
                f"{', '.join(CODERS)} to restore them with weights for that"
            )
        return self._networks.error(self.running, coder)

    def _measure_costs(self) -> float:
        """Measure each network's cost since the last look; returns the seconds it took in all."""
        total = 0.0
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
                continue  # engines compile at first; or this one was opened again
            seconds, frames = stats.seconds - before[0], stats.frames - before[1]
            if frames:
                cost = seconds / frames
                known = self._costs.get(network, cost)
                self._costs[network] = known + NEW_COST_SHARE * (cost - known)
                total += seconds
        return total
