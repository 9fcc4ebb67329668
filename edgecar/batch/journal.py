"""What is done already: kept beside the outputs, so that the same command goes on where it ended.

Below ``DIR/.edgecar-batch``:

- ``done/<clip>.json``: a finished clip, with the key it was made for,
- ``parts/<clip>/<key>/``: finished parts of a clip that is not finished yet.

A key stands for all that decides the bytes: the source (path, size and time of its last change),
the weights, the settings and the versions of what decodes, computes and encodes. The source's
content is not hashed: that would read terabytes over again before work goes on, and what changes
a recording changes its size or its time. (Who restores both by hand can give another folder.)
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from edgecar.batch.archive import Clip
from edgecar.closing import Closing
from edgecar.errors import BatchError
from edgecar.files import atomic_write
from edgecar.media.writer import Codec
from edgecar.runtime.choice import Choice
from edgecar.spec import Coder, Precision

FOLDER = ".edgecar-batch"
FORMAT = 2
"""Raised when parts made by older code must not be joined with newer ones."""

LIBRARIES = ("edgecar", "av", "numpy", "openvino", "onnxruntime")
"""Whose versions may decide the bytes."""

WHOLE = "whole.json"


@dataclass(frozen=True)
class BatchSettings:
    """What all clips of an archive have in common.

    Attributes:
        network: A network that ships with weights, or an exported file.
        weights_for: Take weights for this, whatever a clip is; None: by its coding.
        engine: See `edgecar.engines.select.NAMES`.
        precision: Arithmetic; None leaves the choice to the engine.
        codec: Of the outputs.
        part_seconds: How long parts are at least.
        retries: How often a part that fails is tried again.
        skip_below_qp: Pass H.264 frames finer than this mean QP; 0: none. None: by the weights.
        skip_above_quality: Pass JPEG frames of a higher quality; 100: none. None: by the weights.

    Raises:
        BatchError: A number is out of range.
    """

    network: str = "edgecar-s"
    weights_for: Coder | None = None
    engine: str = "auto"
    precision: Precision | None = None
    codec: Codec = "h264"
    part_seconds: float = 30
    retries: int = 2
    skip_below_qp: float | None = None
    skip_above_quality: int | None = None

    def __post_init__(self) -> None:
        if not self.part_seconds > 0:
            raise BatchError(f"--part-seconds is {self.part_seconds}; give a time above 0")
        if self.retries < 0:
            raise BatchError(f"--retries is {self.retries}; give 0 or more")


@dataclass(frozen=True)
class Finished:
    """A clip that is done.

    Attributes:
        key: What it was made for.
        source: Where it was read.
        source_bytes: Its size then.
        source_ns: When it was changed last, then.
        codec: How it is coded.
        frames: How many it has.
        output_bytes: Size of the output.
        warnings: What was changed, skipped or missing, and how often.
    """

    key: str
    source: str
    source_bytes: int
    source_ns: int
    codec: str
    frames: int
    output_bytes: int
    warnings: Mapping[str, int] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """Of the libraries that may decide the bytes, as far as they are installed."""
    found: dict[str, str] = {}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def clip_key(clip: Clip, settings: BatchSettings, choice: Choice) -> str:
    """What stands for all that decides the bytes of a clip's output."""
    limits = choice.limits.but(settings.skip_below_qp, settings.skip_above_quality)
    facts = {
        "format": FORMAT,
        "source": [str(clip.source), clip.size_bytes, clip.changed_ns],
        "artifact": hashlib.sha256(choice.artifact.onnx).hexdigest(),
        "limits": asdict(limits),
        "settings": [settings.engine, settings.precision, settings.codec, settings.part_seconds],
        "versions": versions(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


class Journal(Closing):
    """The state of a folder of outputs; only one process may have it open.

    Args:
        out: The folder; made if it is missing.

    Raises:
        BatchError: It cannot be written to, or another process is at work in it.
    """

    def __init__(self, out: Path) -> None:
        self._folder = out.resolve() / FOLDER
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] | None = (self._folder / "lock").open("w")
        except OSError as error:
            raise BatchError(
                f"{out} cannot be written to ({error.strerror}); choose another --out"
            ) from error
        if not locked(self._lock):
            self._lock.close()
            raise BatchError(f"another edgecar batch is at work in {out}; wait until it has ended")

    def finished(self, clip: Clip) -> Finished | None:
        """What was noted of a clip whose output is there, if its source is still the same."""
        try:
            done = Finished(**json.loads(self._note_of(clip).read_text(encoding="utf-8")))
            written = clip.output.stat().st_size
        except (OSError, ValueError, TypeError):
            return None
        source = (str(clip.source), clip.size_bytes, clip.changed_ns)
        same = source == (done.source, done.source_bytes, done.source_ns)
        return done if same and written == done.output_bytes else None

    def parts_folder(self, clip: Clip, key: str) -> Path:
        """Where parts of a clip go; parts for other keys and half-written files are removed."""
        home = self._home_of(clip)
        folder = home / key
        folder.mkdir(parents=True, exist_ok=True)
        for other in home.iterdir():
            if other.name != key:
                shutil.rmtree(other, ignore_errors=True)
        self.tidy(folder)
        return folder

    def tidy(self, folder: Path) -> None:
        """Remove what a process that was killed left half-written."""
        for path in folder.glob(".*"):
            path.unlink(missing_ok=True)

    def tidy_all(self) -> None:
        """The same for all clips."""
        for folder in (self._folder / "parts").glob("*/*"):
            self.tidy(folder)

    def must_be_whole(self, folder: Path) -> str:
        """Why a clip must not be cut, as noted earlier; empty if it may be."""
        try:
            return str(json.loads((folder / WHOLE).read_text(encoding="utf-8"))["why"])
        except (OSError, ValueError, KeyError):
            return ""

    def keep_whole(self, folder: Path, why: str) -> None:
        """Note that a clip must not be cut, and remove its parts."""
        for path in folder.glob("part-*"):
            path.unlink(missing_ok=True)
        _write(folder / WHOLE, {"why": why})

    def finish(self, clip: Clip, joined: Path, done: Finished) -> None:
        """Give a joined clip its name, note it, and remove its parts."""
        clip.output.parent.mkdir(parents=True, exist_ok=True)
        joined.replace(clip.output)
        _write(self._note_of(clip), asdict(done))
        shutil.rmtree(self._home_of(clip), ignore_errors=True)

    def close(self) -> None:
        """Let other processes in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _home_of(self, clip: Clip) -> Path:
        return self._folder / "parts" / hashlib.sha256(clip.name.encode()).hexdigest()[:16]

    def _note_of(self, clip: Clip) -> Path:
        return self._folder / "done" / f"{clip.name}.json"


def _write(path: Path, table: Mapping[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(table), encoding="utf-8")


def locked(file: IO[str]) -> bool:
    """Lock a file until it is closed or the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # network file systems without locks
        return True
    return True
