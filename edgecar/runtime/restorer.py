"""Frames in, restored frames out."""

import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edgecar.artifact import Artifact, find_artifact, is_artifact_path, read_artifact
from edgecar.engines.base import Codes, Engine
from edgecar.engines.select import PLANS, open_engine, usable_cores
from edgecar.engines.tiles import TileEngine
from edgecar.errors import EngineError
from edgecar.media.color import (
    bgr_from_array,
    bgr_from_frame,
    bgr_from_planes,
    bgr_with_luma,
    frame_with_bgr,
    luma_from_bgr,
    planes_from_bgr,
)
from edgecar.media.frame import CODING_NOT_STATED, Coding, Frame
from edgecar.metadata import Metadata
from edgecar.runtime.choice import Limits, limits_of
from edgecar.runtime.cuda.runner import CudaRunner
from edgecar.runtime.quantisers import Quantisers, Told
from edgecar.runtime.runner import CpuRunner, FrameRunner, Ticket
from edgecar.runtime.stats import PassReason, Stats
from edgecar.runtime.stream_cache import Reuse
from edgecar.runtime.tiles import Tile, aligned_size
from edgecar.runtime.tuning import Tuning, Tunings, tuning_key
from edgecar.spec import Precision, Size, WeightsFor


@dataclass(frozen=True)
class Round:
    """Frames of several cameras on their way, with what the network gets, and tickets."""

    frames: Sequence[Frame]
    planes: Sequence[Codes]
    told: Sequence[Told]
    tickets: Sequence[Ticket]


class Restorer(AbstractContextManager["Restorer"]):
    """Cleans frames of any size with one artifact.

    Any number of threads may use a restorer, and several restorers may share an engine: each frame
    waits until the one before it is done. Frames of one stream give the same bytes in any order.

    A `Frame` says how it was coded, so far as its reader knows: those that the weights were not
    trained for, of another coding or finer, are given back as they are and counted in `stats`. An
    array says nothing of the kind and is always restored: leave out what is fine already.

    Args:
        name_or_path: An exported ONNX file, or the name of a network that ships with weights.
        engine: A name (see ``edgecar.engines.select.NAMES``) or an open engine, which stays the
            caller's to close.
        precision: Arithmetic; None takes the engine's choice, stated by ``engine.info``.
        reuse: Compute only what a change of the input can reach; the output is the same bytes as
            without. A `Reuse` says more; False computes every frame in full.
        tile: ``(height, width)`` of equal tiles, halos included; None lets free rectangles cover
            the frame.
        codec: Coder of the input, which chooses among shipped weights, and the purpose if it is not
            to view, as in ``h264:detect``; None means JPEG.
        threads: CPU threads at most; all usable cores if not given.
        tuning: How to go about it; None takes what `edgecar tune` chose on this machine for frames
            of their size, else the defaults. Where it chose other threads, the engine is opened
            again for the first frame. The output is the same bytes.
        limits: Frames that are given back as they are. None: finer ones than the weights were
            trained for and, where only a network's name was given, those of another coding.
        quantiser: Told to the network for every frame: quality, 1 to 100, for weights for JPEG;
            else QP, 0 to 51. None: that of JPEG's tables, or the slow mean of H.264's QPs
            (`edgecar.media.quantiser`); the middle of the range where the coding does not say.

    Raises:
        ArtifactError: Neither a usable file nor a shipped name.
        EngineError: The engine is absent or refuses the artifact.
        SettingsError: The network takes no such quantiser.

    Example:
        >>> import numpy as np
        >>> from edgecar.engines.fake import FakeEngine
        >>> metadata = Metadata("none", 1, 2, 1, "local", 8, "fp32", "", "", 0.0, 0.0)
        >>> with Restorer(Artifact(metadata, b""), FakeEngine(lambda batch: batch)) as restorer:
        ...     restorer(np.full((4, 6, 3), 7, np.uint8)).shape
        (4, 6, 3)
    """

    def __init__(
        self,
        name_or_path: str | Path | Artifact,
        engine: str | Engine = "auto",
        precision: Precision | None = None,
        reuse: bool | Reuse = True,
        tile: Size | None = None,
        codec: WeightsFor | None = None,
        threads: int | None = None,
        tuning: Tuning | None = None,
        limits: Limits | None = None,
        quantiser: float | None = None,
    ) -> None:
        artifact = (
            name_or_path
            if isinstance(name_or_path, Artifact)
            else read_artifact(find_artifact(name_or_path, codec or "jpeg"))
        )
        self.metadata: Metadata = artifact.metadata
        given = codec is not None or not isinstance(name_or_path, str)
        any_coder = given or is_artifact_path(str(name_or_path))
        self.limits = limits or limits_of(self.metadata, any_coder=any_coder)
        self._asked, self._quantisers = quantiser, Quantisers(self.metadata, quantiser)
        self._allowed = allowed = threads or usable_cores()
        self._threads = min(allowed, (tuning.threads if tuning else None) or allowed)
        self._open: Callable[[int], Engine] | None = None
        if isinstance(engine, str):
            self._open = _opener(artifact, engine, precision)
            self.engine = self._open(self._threads)
        else:
            self.engine = engine
        if self.engine.channels != self.metadata.channels:
            raise EngineError(
                f"the engine takes {self.engine.channels} channel(s), the artifact "
                f"{self.metadata.channels}; open the engine with this artifact"
            )
        self.stats = Stats()
        """Counters of all streams."""
        self._stats_of: dict[Hashable, Stats] = {}
        self.tunings = Tunings(
            lambda size: tuning_key(artifact, self.engine.info, allowed, size), tuning
        )
        """Tuning currently used for each frame size."""
        self._tile = tile
        self._reuse = (Reuse() if reuse is True else reuse) or None
        self._runner: FrameRunner | None = None
        self._turn = threading.RLock()  # held while frames are restored, and to free memory

    def luma(self, y: Codes, stream: Hashable = None, coding: Coding = CODING_NOT_STATED) -> Codes:
        """Restore a luma plane, ``(H, W)`` uint8; the result is a new array.

        Args:
            y: The plane.
            stream: Which camera it is from: outputs are used again within a stream.
            coding: How coarsely it was coded, for a network that is told so.

        Raises:
            EngineError: The artifact is for RGB, or the engine fails.
            WindowError: The frame is smaller than a fixed tile.
        """
        if self.metadata.channels != 1:
            raise EngineError(
                f"{self.metadata.model} restores RGB; call the restorer with a BGR picture"
            )
        return np.array(self._planes(np.array(y[None]), stream, coding)[0])

    def __call__(
        self, bgr: Codes, stream: Hashable = None, coding: Coding = CODING_NOT_STATED
    ) -> Codes:
        """Restore a picture, ``(H, W, 3)`` uint8 in BGR order; same shape and order out.

        Luma networks restore the luma of JPEG (BT.601, full range) and leave chroma untouched.

        Raises:
            MediaError: The array is no BGR picture.
        """
        bgr = bgr_from_array(bgr)
        if self.metadata.channels == 3:
            return bgr_from_planes(self._planes(planes_from_bgr(bgr), stream, coding))
        y = luma_from_bgr(bgr)
        return bgr_with_luma(bgr, y, self._planes(y[None], stream, coding)[0])

    def restore(self, frame: Frame, stream: Hashable = None) -> Frame:
        """Restore a video frame; timestamps and colour metadata pass through.

        One that the weights were not trained for (`limits`) is given back as it is. The luma of the
        result is read-only, since the next frame starts from it.
        """
        reason = self.limits.reason_to_pass(frame.coding)
        if reason:
            self.count_passed(reason)
            return frame
        return self.restore_all([frame], [stream])[0]

    def restore_all(self, frames: Sequence[Frame], streams: Sequence[Hashable]) -> list[Frame]:
        """Restore frames of several cameras together, those beyond `limits` as well.

        Engines that take batches of one shape fill them with tiles of all cameras.

        Args:
            frames: Frames of any sizes.
            streams: Camera of each frame, no two the same.

        Raises:
            EngineError: The engine fails.
        """
        kept = [frame.with_luma(frame.y.copy()) for frame in frames]  # callers may change theirs
        with self._turn:
            return self.finish(self.begin(kept, streams))

    def begin(
        self,
        frames: Sequence[Frame],
        streams: Sequence[Hashable],
        quantisers: Sequence[float | None] = (),
    ) -> Round:
        """Start to restore frames of several cameras; `finish` waits for them.

        Two rounds of the same cameras may be on their way; finish them in order.

        Args:
            frames: Frames of any sizes, which must not be changed any more.
            streams: Camera of each frame, no two the same.
            quantisers: Quality or QP that goes before all else, for each frame, as for `Restorer`.

        Raises:
            EngineError: The engine fails.
            SettingsError: A quantiser is out of range.
        """
        if self.metadata.channels == 1:
            planes = [frame.y[None] for frame in frames]
        else:
            planes = [planes_from_bgr(bgr_from_frame(frame)) for frame in frames]
        codings, asked = [frame.coding for frame in frames], quantisers or [None] * len(frames)
        return self._submit(frames, planes, streams, codings, asked)

    def finish(self, begun: Round) -> list[Frame]:
        """Wait for frames that were begun, and return them restored; their luma is read-only.

        Raises:
            EngineError: The engine failed; these cameras begin anew with their next frames.
        """
        restored = zip(begun.frames, self._results(begun), strict=True)
        if self.metadata.channels == 1:
            return [frame.with_luma(planes[0]) for frame, planes in restored]
        return [frame_with_bgr(frame, bgr_from_planes(planes)) for frame, planes in restored]

    @property
    def depth(self) -> int:
        """Rounds worth having on their way at a time (`FrameRunner.depth`)."""
        return 1 if self._runner is None else self._runner.depth

    def whole(self, y: Codes, coding: Coding = CODING_NOT_STATED) -> Codes:
        """Restore a luma plane in one tile, without tiling: the reference for tests.

        Memory grows with the frame. Does not count in `stats` and reuses nothing.
        """
        if self.engine.info.shape is not None:
            raise EngineError("an engine of one shape cannot run a whole frame; use another engine")
        aligned = aligned_size((y.shape[0], y.shape[1]), self.metadata.align_px)
        edges = [(0, side - length) for side, length in zip(aligned, y.shape, strict=True)]
        restored: list[Codes] = []
        told = Quantisers(self.metadata, self._asked).tell(coding, None)
        with self._turn:
            self.engine.run_codes(
                [np.pad(y, edges, "edge")[None]],
                lambda _number, output: restored.append(output[0].copy()),
                [told.quantiser],
            )
        return restored[0][: y.shape[0], : y.shape[1]]

    def plan(self, size: Size) -> list[Tile]:
        """Return the tiles that cover a frame of ``(height, width)`` in CPU memory."""
        return CpuRunner(self.engine, self.metadata, self.tunings, tile=self._tile).plan(size)

    def count_passed(self, reason: PassReason) -> None:
        """Note in `stats` that a frame was given back as it is."""
        with self._turn:
            self.stats.passed_because[reason] += 1

    def stats_of(self, stream: Hashable) -> Stats:
        """Return the counters of one stream."""
        return self._stats_of.get(stream) or Stats()

    def forget(self, stream: Hashable) -> None:
        """Free all memory kept for a stream that has ended; its stats stay in those of all."""
        with self._turn:
            if self._runner is not None:
                self._runner.forget(stream)
            self._quantisers.forget(stream)
            self._stats_of.pop(stream, None)

    def close(self) -> None:
        """Free the memory of all streams, and close the engine if it was opened here."""
        with self._turn:
            if self._runner is not None:
                self._runner.close()
            if self._open is not None:
                self.engine.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _planes(self, planes: Codes, stream: Hashable, coding: Coding) -> Codes:
        """Restore ``(C, H, W)`` codes, which must not be changed any more."""
        with self._turn:
            return self._results(self._submit([], [planes], [stream], [coding], [None]))[0]

    def _submit(
        self,
        frames: Sequence[Frame],
        planes: Sequence[Codes],
        streams: Sequence[Hashable],
        codings: Sequence[Coding],
        asked: Sequence[float | None],
    ) -> Round:
        """Start on ``(C, H, W)`` codes, each of another stream."""
        if len(set(streams)) != len(planes):
            raise EngineError(
                f"got {len(planes)} frame(s) of {len(set(streams))} stream(s) to restore together; "
                "give each frame a stream of its own, or restore them one after the other"
            )
        with self._turn:
            if self._runner is None:
                self._runner = self._open_runner((planes[0].shape[1], planes[0].shape[2]))
            told = list(map(self._quantisers.tell, codings, streams, asked))
            try:
                tickets = [
                    self._runner.submit(codes, stream, each.quantiser)
                    for codes, stream, each in zip(planes, streams, told, strict=True)
                ]
                self._runner.start()
            except BaseException:
                self._begin_anew(streams)
                raise
        return Round(frames, planes, told, tickets)

    def _results(self, begun: Round) -> list[Codes]:
        """Wait for frames, and count them."""
        with self._turn:
            runner = self._runner
            assert runner is not None
            try:
                restored = [runner.result(ticket) for ticket in begun.tickets]
            except BaseException:
                self._begin_anew([ticket.stream for ticket in begun.tickets])
                raise
            facts = begun.planes, begun.tickets, begun.told, restored
            for frame, ticket, told, planes in zip(*facts, strict=True):
                size: Size = (frame.shape[1], frame.shape[2])
                for stats in (self.stats, self._stats_of.setdefault(ticket.stream, Stats())):
                    stats.count(size, ticket.tiles, ticket.pixels, ticket.seconds, told)
                if self._reuse and self._reuse.compares(self.stats.frames):
                    # The first frame of a stream is computed in full.
                    anew = object()
                    again = runner.submit(frame, anew, told.quantiser)
                    self._reuse.compare(runner.result(again), planes, self.stats)
                    runner.forget(anew)
        return restored

    def _begin_anew(self, streams: Sequence[Hashable]) -> None:
        """Forget streams after a failure: no result may come a frame late."""
        for stream in streams:
            with suppress(EngineError):
                if self._runner is not None:
                    self._runner.forget(stream)

    def _open_runner(self, size: Size) -> FrameRunner:
        """Open what restores frames, on as many threads as are best for the first one's size."""
        threads = min(self._allowed, self.tunings.of(size).threads or self._allowed)
        if self._open is not None and threads != self._threads:
            self.engine.close()
            self.engine, self._threads = self._open(threads), threads
        # A tolerance is weighed where frames are remembered in CPU memory.
        if isinstance(self.engine, TileEngine) and not (self._reuse and self._reuse.tolerance):
            return CudaRunner(
                self.engine.device,
                self.engine,
                self.metadata.halo_px,
                reuse=lambda size: self._reuse_for(size) is not None,
                computing=self.engine.stream,
            )
        return CpuRunner(self.engine, self.metadata, self.tunings, self._reuse_for, self._tile)

    def _reuse_for(self, size: Size) -> Reuse | None:
        """A tuning may do without reuse, unless more was asked of it than speed."""
        if self._reuse == Reuse() and not self.tunings.of(size).reuse:
            return None
        return self._reuse


def _opener(artifact: Artifact, name: str, precision: Precision | None) -> Callable[[int], Engine]:
    """Return the function that opens an engine on a number of threads."""

    def open_best(threads: int) -> Engine:
        from edgecar.runtime.cuda.open import open_any_gpu

        found = open_any_gpu(artifact, precision)
        return found or open_engine(artifact, name, precision, threads)

    if name == "auto":
        return open_best
    if name in (*PLANS, "onnxruntime:cuda"):
        from edgecar.runtime.cuda.open import open_on_gpu

        return partial(open_on_gpu, artifact, name, precision)
    return partial(open_engine, artifact, name, precision)
