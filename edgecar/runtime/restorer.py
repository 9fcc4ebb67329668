"""Frames in, restored frames out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecar.artifact import Artifact, Facts, find_artifact, read_artifact
from edgecar.closing import Closing
from edgecar.engines.base import Batch, Engine
from edgecar.engines.select import open_engine
from edgecar.errors import EngineError, MediaError
from edgecar.media.color import bgr_from_frame, bgr_with_luma, frame_with_bgr, luma_from_bgr
from edgecar.media.frame import Frame
from edgecar.runtime.reuse import UnchangedWindows
from edgecar.runtime.windows import Window, aligned_size, plan_grid, plan_windows
from edgecar.spec import Coder, Precision, Size

Codes = NDArray[np.uint8]

# Activations of one window stay below this, whatever the frame's size; larger windows read less
# halo but are not faster. An engine may hold those of several shapes at a time (OpenVINO: five).
WINDOW_MEMORY = 512 << 20
MAX_READ_PX = 1 << 20


@dataclass
class Stats:
    """What a restorer has done since it was made."""

    frames: int = 0
    windows_run: int = 0
    windows_reused: int = 0
    pixels_read: int = 0
    pixels_of_frames: int = 0

    @property
    def computed_share(self) -> float:
        """Pixels read by windows over pixels of all frames; above 1 where halos are read twice."""
        return self.pixels_read / self.pixels_of_frames if self.pixels_of_frames else 0.0


class Restorer(Closing):
    """Cleans frames of any size with one artifact.

    Args:
        name_or_path: An exported ONNX file, or the name of a network that ships with weights.
        engine: A name (see ``edgecar.engines.select.NAMES``) or an open engine, which stays the
            caller's to close.
        precision: Arithmetic; None takes the engine's choice, stated by ``engine.info``.
        reuse: Skip windows whose input is byte for byte that of the frame before; the output is
            the same bytes as without.
        tile: ``(height, width)`` of equal windows, halos included; None lets free rectangles cover
            the frame.
        codec: What the input is coded with, to choose among shipped weights.
        threads: CPU threads; all usable cores if not given.

    Raises:
        ArtifactError: Neither a usable file nor a shipped name.
        EngineError: The engine is absent or refuses the artifact.

    Example:
        >>> import numpy as np
        >>> from edgecar.engines.fake import FakeEngine
        >>> facts = Facts("none", 1, 2, 1, "local", 8, "fp32", "", "", 0.0, 0.0)
        >>> with Restorer(Artifact(facts, b""), FakeEngine(lambda batch: batch)) as restorer:
        ...     restorer(np.full((4, 6, 3), 7, np.uint8)).shape
        (4, 6, 3)
    """

    def __init__(
        self,
        name_or_path: str | Path | Artifact,
        engine: str | Engine = "auto",
        precision: Precision | None = None,
        reuse: bool = True,
        tile: Size | None = None,
        codec: Coder = "jpeg",
        threads: int | None = None,
    ) -> None:
        artifact = (
            name_or_path
            if isinstance(name_or_path, Artifact)
            else read_artifact(find_artifact(name_or_path, codec))
        )
        self.facts: Facts = artifact.facts
        self._owns_engine = isinstance(engine, str)
        self.engine = (
            open_engine(artifact, engine, precision, threads) if isinstance(engine, str) else engine
        )
        if self.engine.channels != self.facts.channels:
            raise EngineError(
                f"the engine takes {self.engine.channels} channel(s), the artifact "
                f"{self.facts.channels}; open the engine with this artifact"
            )
        self.stats = Stats()
        self._tile = tile
        self._plans: dict[Size, list[Window]] = {}
        self._unchanged = UnchangedWindows() if reuse else None
        self._scratch: dict[tuple[int, ...], Batch] = {}

    def luma(self, y: Codes) -> Codes:
        """Restore a luma plane, ``(H, W)`` uint8; the result is a new array.

        Raises:
            EngineError: The artifact is for RGB, or the engine fails.
            WindowError: The frame is smaller than a fixed tile.
        """
        if self.facts.channels != 1:
            raise EngineError(
                f"{self.facts.model} restores RGB; call the restorer with a BGR picture"
            )
        restored: Codes = self._planes(y[None])[0]
        return restored

    def __call__(self, bgr: Codes) -> Codes:
        """Restore a picture, ``(H, W, 3)`` uint8 in BGR order; same shape and order out.

        Luma networks restore the luma of JPEG (BT.601, full range) and leave chroma untouched.

        Raises:
            MediaError: The array is no BGR picture.
        """
        if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8:
            raise MediaError(
                f"got an array {bgr.dtype} {bgr.shape}, need uint8 (H, W, 3) in BGR order"
            )
        if self.facts.channels == 3:
            restored = self._planes(bgr.transpose(2, 0, 1)[::-1])
            return np.ascontiguousarray(restored[::-1].transpose(1, 2, 0))
        y = luma_from_bgr(bgr)
        return bgr_with_luma(bgr, y, self.luma(y))

    def restore(self, frame: Frame) -> Frame:
        """Restore a video frame; timestamps and colour facts pass through."""
        if self.facts.channels == 3:
            return frame_with_bgr(frame, self(bgr_from_frame(frame)))
        return frame.with_luma(self.luma(frame.y))

    def whole(self, y: Codes) -> Codes:
        """Restore a luma plane in one window, without tiling: the reference for tests.

        Memory grows with the frame. Does not count in `stats` and reuses nothing.
        """
        if self.engine.info.shape is not None:
            raise EngineError("an engine of one shape cannot run a whole frame; use another engine")
        frame = y[None]
        size: Size = (y.shape[0], y.shape[1])
        full = Window((0, 0, *aligned_size(size, self.facts.align_px)), (0, 0, *size))
        restored = np.empty_like(frame)
        self._run([full], self._padded(frame), restored)
        plane: Codes = restored[0]
        return plane

    def plan(self, size: Size) -> list[Window]:
        """The windows that cover a frame of ``(height, width)``."""
        if size not in self._plans:
            facts, fixed = self.facts, self.engine.info.shape
            tile = fixed[1:] if fixed else self._tile
            if tile:
                plan = plan_grid(size, tile, halo_px=facts.halo_px, align_px=facts.align_px)
            else:
                plan = plan_windows(
                    size,
                    halo_px=facts.halo_px,
                    align_px=facts.align_px,
                    max_read_px=min(MAX_READ_PX, WINDOW_MEMORY // facts.bytes_per_px),
                )
            self._plans[size] = plan
        return self._plans[size]

    def close(self) -> None:
        """Close the engine if it was opened here."""
        if self._owns_engine:
            self.engine.close()

    def _planes(self, frame: Codes) -> Codes:
        """Restore ``(C, H, W)`` codes."""
        if frame.dtype != np.uint8:
            raise MediaError(f"got {frame.dtype} pixels, need uint8 codes in 0..255")
        plan = self.plan((frame.shape[1], frame.shape[2]))
        padded = self._padded(frame)
        restored = np.empty_like(frame, order="C")
        changed = plan
        if self._unchanged is not None:
            changed = self._unchanged.fill(plan, padded, restored)
        self._run(changed, padded, restored)
        if self._unchanged is not None:
            self._unchanged.remember(padded, restored)
        stats = self.stats
        stats.frames += 1
        stats.windows_run += len(changed)
        stats.windows_reused += len(plan) - len(changed)
        stats.pixels_read += sum(window.size[0] * window.size[1] for window in changed)
        stats.pixels_of_frames += frame.shape[1] * frame.shape[2]
        return restored

    def _padded(self, frame: Codes) -> Codes:
        """The frame with its last row and column repeated up to the artifact's alignment."""
        size: Size = (frame.shape[1], frame.shape[2])
        height, width = aligned_size(size, self.facts.align_px)
        if (height, width) == size:
            return frame
        below, right = height - size[0], width - size[1]
        return np.pad(frame, ((0, 0), (0, below), (0, right)), mode="edge")

    def _run(self, windows: list[Window], padded: Codes, restored: Codes) -> None:
        """Run ``windows`` of ``padded`` and write what they keep into ``restored``."""
        fixed = self.engine.info.shape
        batch_size = fixed[0] if fixed else 1
        for start in range(0, len(windows), batch_size):
            group = windows[start : start + batch_size]
            batch = self._batch((batch_size, padded.shape[0], *group[0].size))
            for slot, window in enumerate(group):
                top, left, bottom, right = window.read
                np.divide(padded[:, top:bottom, left:right], np.float32(255), out=batch[slot])
            output = self.engine.run(batch)
            for slot, window in enumerate(group):
                top, left, bottom, right = window.keep
                rows, columns = window.kept_in_window
                codes_from_unit(output[slot, :, rows, columns], restored[:, top:bottom, left:right])

    def _batch(self, shape: tuple[int, ...]) -> Batch:
        """A float buffer of this shape, kept for the next window like it."""
        if shape not in self._scratch:
            self._scratch[shape] = np.zeros(shape, np.float32)
        return self._scratch[shape]


def codes_from_unit(unit: NDArray[np.float32], codes: Codes) -> None:
    """Write float values in [0, 1] as 8-bit codes: times 255, rounded to even, clipped.

    Elementwise in numpy on purpose: the bits must not depend on where in a row a pixel lies, which
    mixed vector and scalar code of other libraries does not promise.

    Args:
        unit: Any shape.
        codes: Written; same shape.
    """
    scaled = np.multiply(unit, np.float32(255))
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, 255, out=scaled)
    np.copyto(codes, scaled, casting="unsafe")
