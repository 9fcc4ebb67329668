"""What to restore, where to put it, and what became of it."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecar.errors import MediaError
from edgecar.media.compare import Layout
from edgecar.media.sources import is_url
from edgecar.media.writer import Codec
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.source import PipelineSettings
from edgecar.runtime.stats import Snapshot

NULL = "null"  # an output that writes nothing


@dataclass
class Report:
    """What a job did; `table` has the keys of ``edgecar run --json``."""

    restorer: Restorer
    input_codec: str
    frames: int = 0
    """Written: restored ones, and those that passed as they were."""
    passed_because: Counter[str] = field(default_factory=Counter)
    """Frames that passed as they were, by `edgecar.runtime.stats.PassReason`."""
    seconds: float = 0.0
    warnings: Counter[str] = field(default_factory=Counter)
    outputs: list[Path] = field(default_factory=list)
    stats: dict[str, Snapshot] = field(default_factory=dict)

    @property
    def fps(self) -> float:
        """Frames per second from the first frame read to the last one written."""
        return self.frames / self.seconds if self.seconds else 0.0

    def table(self) -> dict[str, Any]:
        """The report as plain values."""
        info, stats = self.restorer.engine.info, self.restorer.stats
        metadata, exact = self.restorer.metadata, stats.psnr_to_exact
        return {
            "frames": self.frames,
            "restored": self.frames - self.passed_because.total(),
            "passed": self.passed_because.total(),
            "passed_because": dict(self.passed_because),
            "fps": round(self.fps, 3),
            "seconds": round(self.seconds, 3),
            "windows_run": stats.windows_run,
            "computed_share": round(stats.computed_share, 4),
            "frames_compared": stats.frames_compared,
            "psnr_to_exact_db": None if exact is None or math.isinf(exact) else round(exact, 2),
            "engine": info.name,
            "provider": info.provider,
            "precision": info.precision,
            "engine_note": info.note,
            "input_codec": self.input_codec,
            "weights_for": None
            if self.passed_because["other_coder"] == self.frames
            else metadata.coder,
            "trained_on": metadata.trained_on,
            "warnings": dict(self.warnings),
            **({"stats": self.stats_table()} if self.stats else {}),
        }

    def stats_table(self) -> dict[str, Any]:
        """Counters and latencies: of the one camera, or of each by name."""
        tables = {name: snapshot.table() for name, snapshot in self.stats.items()}
        return next(iter(tables.values())) if len(tables) == 1 else tables


Progress = Callable[[int, int | None], None]
"""Called with frames done and frames in all (None if unknown)."""


@dataclass(frozen=True)
class Job:
    """What to restore and where to put it.

    Attributes:
        source: A picture, a folder of pictures, a video file, a stream's URL or a camera's index.
        output: A file of the same kind, a folder for a folder, or ``null`` for nothing.
        codec: Of the output, for videos: ``h264`` or ``ffv1``.
        compare: Also write ``<output>.compare`` with before and after in one picture.
        frames: Stop after so many, of all videos together; None restores all.
        settings: Which frames of a video are restored, left out, or pass as they are.
        metrics: ``[HOST:]PORT`` to serve counters at while videos run.

    Raises:
        MediaError: The output is an address, or a comparison is asked for and there is no output
            to stand beside.
    """

    source: str
    output: str
    codec: Codec = "h264"
    compare: Layout | None = None
    frames: int | None = None
    settings: PipelineSettings = field(default_factory=PipelineSettings)
    metrics: str | None = None

    def __post_init__(self) -> None:
        if is_url(self.output):
            raise MediaError(
                f"output {self.output} is an address, and this writes files; give -o FILE, or send "
                "the video on with edgecar serve"
            )
        if self.compare and self.output == NULL:
            raise MediaError(
                "--compare needs an output file to stand beside; give -o FILE, not null"
            )

    def compare_path(self, output: Path) -> Path:
        """Where the comparison for one output goes."""
        return output.with_name(f"{output.stem}.compare{output.suffix}")
