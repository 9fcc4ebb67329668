"""Frames in, restored frames out."""

import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from edgecar.artifact import Artifact, Metadata, find_artifact, is_artifact_path, read_artifact
from edgecar.closing import Closing
from edgecar.engines.base import Codes, Engine, FrameRunner
from edgecar.engines.select import PLANS, open_engine, usable_cores
from edgecar.errors import EngineError, MediaError
from edgecar.media.color import (
    bgr_from_array,
    bgr_from_frame,
    bgr_with_luma,
    frame_with_bgr,
    luma_from_bgr,
)
from edgecar.media.frame import Frame
from edgecar.runtime.change_map import Grid
from edgecar.runtime.choice import Limits, limits_of
from edgecar.runtime.regions import AtlasPacker, TilePlan
from edgecar.runtime.stats import PassReason, Stats
from edgecar.runtime.stream_cache import Reuse, StreamCache, TileRun
from edgecar.runtime.tiles import Tile, aligned_size, plan_grid, plan_windows
from edgecar.runtime.tuning import Tuning, Tunings, tuning_key
from edgecar.spec import Coder, Precision, Size

# Activations of one tile stay below this, whatever the frame's size. An engine may hold those of
# several shapes at a time (OpenVINO: five).
TILE_MEMORY = 512 << 20


class Restorer(Closing):
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
        codec: Coder of the input, which chooses among shipped weights; None means JPEG.
        threads: CPU threads at most; all usable cores if not given.
        tuning: How to go about it; None takes what `edgecar tune` chose on this machine for frames
            of their size, else the defaults. Where it chose other threads, the engine is opened
            again for the first frame. The output is the same bytes.
        limits: Frames that are given back as they are. None: finer ones than the weights were
            trained for and, where only a network's name was given, those of another coding.

    Raises:
        ArtifactError: Neither a usable file nor a shipped name.
        EngineError: The engine is absent or refuses the artifact.

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
        codec: Coder | None = None,
        threads: int | None = None,
        tuning: Tuning | None = None,
        limits: Limits | None = None,
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
        """Of all streams."""
        self._stats_of: dict[Hashable, Stats] = {}
        self.tunings = Tunings(
            lambda size: tuning_key(artifact, self.engine.info, allowed, size), tuning
        )
        """What is in force, by the size of frames."""
        self._tile = tile
        self._plans: dict[Size, list[Tile]] = {}
        self._reuse = (Reuse() if reuse is True else reuse) or None
        self._caches: dict[Hashable, StreamCache] = {}
        self._there: FrameRunner | None = None  # keeps memory of streams too, once it ran
        self._packers: dict[Size, AtlasPacker] = {}
        self._turn = threading.RLock()  # held while frames are restored, and to free memory

    def luma(self, y: Codes, stream: Hashable = None) -> Codes:
        """Restore a luma plane, ``(H, W)`` uint8; the result is a new array.

        Args:
            y: The plane.
            stream: Which camera it is from: outputs are used again within a stream.

        Raises:
            EngineError: The artifact is for RGB, or the engine fails.
            WindowError: The frame is smaller than a fixed tile.
        """
        if self.metadata.channels != 1:
            raise EngineError(
                f"{self.metadata.model} restores RGB; call the restorer with a BGR picture"
            )
        restored: Codes = self._planes([y[None]], [stream])[0][0]
        return restored

    def __call__(self, bgr: Codes, stream: Hashable = None) -> Codes:
        """Restore a picture, ``(H, W, 3)`` uint8 in BGR order; same shape and order out.

        Luma networks restore the luma of JPEG (BT.601, full range) and leave chroma untouched.

        Raises:
            MediaError: The array is no BGR picture.
        """
        bgr = bgr_from_array(bgr)
        if self.metadata.channels == 3:
            (restored,) = self._planes([bgr.transpose(2, 0, 1)[::-1]], [stream])
            return np.ascontiguousarray(restored[::-1].transpose(1, 2, 0))
        y = luma_from_bgr(bgr)
        return bgr_with_luma(bgr, y, self.luma(y, stream))

    def restore(self, frame: Frame, stream: Hashable = None) -> Frame:
        """Restore a video frame; timestamps and colour metadata pass through.

        One that the weights were not trained for (`limits`) is given back as it is.
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
            frames: Of any sizes.
            streams: Which camera each is from; every one another.

        Raises:
            EngineError: The engine fails.
        """
        if self.metadata.channels == 1:
            planes = self._planes([frame.y[None] for frame in frames], streams)
            return [f.with_luma(plane[0]) for f, plane in zip(frames, planes, strict=True)]
        pictures = [bgr_from_frame(frame).transpose(2, 0, 1)[::-1] for frame in frames]
        planes = self._planes(pictures, streams)
        bgrs = [np.ascontiguousarray(plane[::-1].transpose(1, 2, 0)) for plane in planes]
        return [frame_with_bgr(f, bgr) for f, bgr in zip(frames, bgrs, strict=True)]

    def whole(self, y: Codes) -> Codes:
        """Restore a luma plane in one tile, without tiling: the reference for tests.

        StreamCache grows with the frame. Does not count in `stats` and reuses nothing.
        """
        if self.engine.info.shape is not None:
            raise EngineError("an engine of one shape cannot run a whole frame; use another engine")
        size: Size = (y.shape[0], y.shape[1])
        full = Tile((0, 0, *aligned_size(size, self.metadata.align_px)), (0, 0, *size))
        restored = np.empty_like(y[None])
        padded = StreamCache(self._grid(size), 1, [full], free=False, tolerance=0).take(y[None])
        with self._turn:
            self._run([TileRun(TilePlan([full]), padded, restored)])
        return np.asarray(restored[0])

    def plan(self, size: Size) -> list[Tile]:
        """The tiles that cover a frame of ``(height, width)``."""
        if size not in self._plans:
            metadata, fixed = self.metadata, self.engine.info.shape
            tile = fixed[1:] if fixed else self._tile
            halo_px, align_px = metadata.halo_px, metadata.align_px
            if tile:
                plan = plan_grid(size, tile, halo_px=halo_px, align_px=align_px)
            else:
                most_px = TILE_MEMORY // metadata.bytes_per_px
                most_px = min(self.tunings.of(size).max_read_px, most_px)
                plan = plan_windows(size, halo_px=halo_px, align_px=align_px, max_read_px=most_px)
            self._plans[size] = plan
        return self._plans[size]

    def count_passed(self, reason: PassReason) -> None:
        """Note in `stats` that a frame was given back as it is."""
        with self._turn:
            self.stats.passed_because[reason] += 1

    def stats_of(self, stream: Hashable) -> Stats:
        """What was done for one stream."""
        return self._stats_of.get(stream) or Stats()

    def forget(self, stream: Hashable) -> None:
        """Free all memory kept for a stream that has ended; its stats stay in those of all."""
        with self._turn:
            self._free(stream)
            self._stats_of.pop(stream, None)

    def close(self) -> None:
        """Free the memory of all streams, and close the engine if it was opened here."""
        with self._turn:
            for stream in tuple(self._stats_of):
                self._free(stream)
            self._caches.clear()
            self._packers.clear()
            if self._open is not None:
                self.engine.close()

    def _free(self, stream: Hashable) -> None:
        self._caches.pop(stream, None)
        if self._there is not None:
            self._there.forget((id(self), stream))

    def _planes(self, frames: Sequence[Codes], streams: Sequence[Hashable]) -> list[Codes]:
        """Restore ``(C, H, W)`` codes, each of another stream."""
        if len(set(streams)) != len(frames):
            raise EngineError(
                f"got {len(frames)} frame(s) of {len(set(streams))} stream(s) to restore together; "
                "give each frame a stream of its own, or restore them one after the other"
            )
        with self._turn:
            runner = self.engine.frames(self.metadata.halo_px)
            # A tolerance is weighed where frames are remembered in CPU cache.
            if runner and not (self._reuse and self._reuse.tolerance):
                return self._planes_there(runner, frames, streams)
            return self._planes_here(frames, streams)

    def _planes_here(self, frames: Sequence[Codes], streams: Sequence[Hashable]) -> list[Codes]:
        """Restore them from CPU cache."""
        began = time.perf_counter()
        caches: list[StreamCache] = []
        runs: list[TileRun] = []
        for frame, stream in zip(frames, streams, strict=True):
            if frame.dtype != np.uint8:
                raise MediaError(f"got {frame.dtype} pixels, need uint8 codes in 0..255")
            cache = self._cache_of(stream, frame.shape)
            padded = cache.take(frame)
            work = cache.stale() if self._reuses(cache.size) else TilePlan(self.plan(cache.size))
            caches.append(cache)
            runs.append(TileRun(work, padded, cache.restored, cache.scratch))
        self._run(runs)
        seconds = time.perf_counter() - began
        pixels = sum(run.work.pixels for run in runs)
        for cache, run, stream in zip(caches, runs, streams, strict=True):
            spent = seconds * run.work.pixels / max(1, pixels)
            cache.accept(run.work, spent)
            self._count(stream, cache.size, len(run.work.tiles), run.work.pixels, spent)
            if self._reuse and self._reuse.compares(self.stats.frames):
                full = np.empty_like(run.restored)
                self._run([TileRun(TilePlan(self.plan(cache.size)), run.padded, full)])
                self._reuse.compare(full, run.restored, self.stats)
        return [cache.output() for cache in caches]

    def _planes_there(
        self, runner: FrameRunner, frames: Sequence[Codes], streams: Sequence[Hashable]
    ) -> list[Codes]:
        """The same where the engine's memory is."""
        sizes: list[Size] = [(frame.shape[1], frame.shape[2]) for frame in frames]
        shape = self.engine.info.shape
        read = shape[1] * shape[2] if shape else 0
        restored = []
        self._there = runner
        # Restorers that share an engine keep their streams apart.
        keys = [(id(self), stream) for stream in streams]
        began = time.perf_counter()
        outputs = runner.restore_all(frames, keys, reuse=all(map(self._reuses, sizes)))
        seconds = time.perf_counter() - began
        for frame, size, stream, key, (plane, tiles) in zip(
            frames, sizes, streams, keys, outputs, strict=True
        ):
            self._count(stream, size, tiles, tiles * read, seconds / len(frames))
            if self._reuse and self._reuse.compares(self.stats.frames):
                ((full, _),) = runner.restore_all([frame], [key], reuse=False)
                self._reuse.compare(full, plane, self.stats)
            restored.append(plane)
        return restored

    def _count(self, stream: Hashable, size: Size, tiles: int, pixels: int, seconds: float) -> None:
        self.stats.count(size, tiles, pixels, seconds)
        self._stats_of.setdefault(stream, Stats()).count(size, tiles, pixels, seconds)

    def _cache_of(self, stream: Hashable, shape: tuple[int, ...]) -> StreamCache:
        """The memory of a stream; a new one where its frames change their size."""
        cache = self._caches.get(stream)
        if cache is None or cache.restored.shape != shape:
            size: Size = (shape[1], shape[2])
            tuning = self.tunings.of(size)
            if not self._caches:
                self._run_on(tuning.threads)
            free = not (self.engine.info.shape or self._tile) and self.metadata.context == "local"
            tolerance = self._reuse.tolerance if self._reuse else 0
            cache = StreamCache(
                self._grid(size), shape[0], self.plan(size), free, tolerance, self._packer(size)
            )
            self._caches[stream] = cache
        return cache

    def _grid(self, size: Size) -> Grid:
        align = self.metadata.align_px
        kept_px = self.tunings.of(size).kept_px
        return Grid(aligned_size(size, align), self.metadata.halo_px, align, kept_px)

    def _packer(self, size: Size) -> AtlasPacker:
        if size not in self._packers:
            align = self.metadata.align_px
            step_px = math.lcm(self.tunings.of(size).step_px, align)
            self._packers[size] = AtlasPacker(aligned_size(size, align), step_px)
        return self._packers[size]

    def _reuses(self, size: Size) -> bool:
        """A tuning may do without reuse, unless more was asked of it than speed."""
        if self._reuse is None:
            return False
        return self._reuse != Reuse() or self.tunings.of(size).reuse

    def _run_on(self, threads: int | None) -> None:
        """Open the engine again if it was opened here and runs on other threads."""
        wanted = min(self._allowed, threads or self._allowed)
        if self._open is not None and wanted != self._threads:
            self.engine.close()
            self.engine, self._threads = self._open(wanted), wanted

    def _run(self, runs: Sequence[TileRun]) -> None:
        """Run the tiles of all frames in one go, so that those of several fill a batch."""
        inputs = [(run, number, codes) for run in runs for number, codes in enumerate(run.inputs())]

        def take(position: int, output: Codes) -> None:
            run, number, _ = inputs[position]
            run.take(number, output)

        self.engine.run_codes([codes for _, _, codes in inputs], take)


def _opener(artifact: Artifact, name: str, precision: Precision | None) -> Callable[[int], Engine]:
    """What opens an engine on so many threads."""
    for library in PLANS:
        if name == library:
            from edgecar.runtime.cuda.plans import open_plan

            return partial(open_plan, artifact, library, precision)
    return partial(open_engine, artifact, name, precision)
