"""Clips of an archive, the settings for all of them, and the folder that says what is done.

``DIR/.edgecar-batch`` holds ``done/<clip>.json`` for each finished clip and, for each other one,
finished parts in ``parts/<clip>``. Both carry a key: a hash of everything that decides the bytes,
except the content of the source, which its size and time stand for: an archive is terabytes.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from edgecar.batch.parts import SUFFIXES
from edgecar.errors import BatchError
from edgecar.files import check_outputs
from edgecar.media.writer import Codec
from edgecar.runtime.choice import Choice
from edgecar.spec import Precision, WeightsFor

FOLDER = ".edgecar-batch"
FORMAT = 4
"""Raised when parts made by older code must not be joined with newer ones."""

LIBRARIES = ("edgecar", "av", "numpy", "openvino", "onnxruntime")
"""Libraries whose versions may decide the bytes."""

VIDEO_SUFFIXES = frozenset(
    ".264 .265 .3gp .asf .avi .dav .flv .h264 .h265 .hevc .m2ts .m4v .mjpeg .mjpg .mkv .mov .mp4 "
    ".mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv .y4m".split()
)
"""Suffixes of clips in folders. A file that is named is taken whatever its suffix."""


@dataclass(frozen=True)
class BatchSettings:
    """Settings for all clips; each is an option of ``edgecar batch`` and described there.

    Raises:
        BatchError: A number is out of range.
    """

    network: str = "edgecar-s"
    weights_for: WeightsFor | None = None
    engine: str = "auto"
    precision: Precision | None = None
    codec: Codec = "h264"
    part_seconds: float = 30
    retries: int = 2
    skip_below_qp: float | None = None
    skip_above_quality: int | None = None
    quantiser: float | None = None

    def __post_init__(self) -> None:
        if not self.part_seconds > 0:
            raise BatchError(f"--part-seconds is {self.part_seconds}; give a time above 0")
        if self.retries < 0:
            raise BatchError(f"--retries is {self.retries}; give 0 or more")


@dataclass(frozen=True)
class Clip:
    """One clip: absolute paths, and the name of the output below the folder of all outputs."""

    source: Path
    output: Path
    name: str
    size_bytes: int
    changed_ns: int

    @property
    def unchanged(self) -> bool:
        """True if the source still has the size and time that it was found with."""
        status = self.source.stat()
        return (status.st_size, status.st_mtime_ns) == (self.size_bytes, self.changed_ns)


def find_clips(sources: Sequence[Path], out: Path, codec: Codec) -> list[Clip]:
    """Return the clips in files and folders, in order of their outputs. Nothing is written.

    Folders are searched with all that is below them, except hidden files and ``out``, which need
    not exist. Below ``out`` their tree is kept.

    Raises:
        BatchError: A source is missing, two give one output, or there is no clip at all.
        OutputError: An output would take the place of a source, or cannot be written.
    """
    out = out.resolve()
    if out.exists() and not out.is_dir():
        raise BatchError(f"{out} is a file; give a folder for the outputs")
    clips: dict[Path, Clip] = {}
    for path, below in (each for source in sources for each in _clips_of(source, out)):
        name = below.with_suffix(SUFFIXES[codec])
        output = out / name
        if output in clips and clips[output].source != path:
            raise BatchError(
                f"{clips[output].source} and {path} would both become {output}; rename one, or "
                "give them apart with another --out"
            )
        status = path.stat()
        clips[output] = Clip(path, output, str(name), status.st_size, status.st_mtime_ns)
    if not clips:
        raise BatchError(
            f"no video is in {', '.join(map(str, sources))} (looked for "
            f"{', '.join(sorted(VIDEO_SUFFIXES))}); give other folders, or name the files"
        )
    check_outputs(clips, {clip.source for clip in clips.values()})
    return [clips[output] for output in sorted(clips)]


def _clips_of(source: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield absolute paths of clips, with their places below ``out``."""
    folder = source.resolve()
    if source.is_file():
        yield folder, Path(source.name)
        return
    if not source.is_dir():
        raise BatchError(f"{source} does not exist; give files or folders")
    if folder == out:
        raise BatchError(f"{source} is where the outputs go, too; give another --out")
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in below.parts) or path.is_relative_to(out)
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not hidden:
            yield path.resolve(), below


def versions() -> dict[str, str]:
    """Return the versions of installed libraries that may decide the bytes."""
    found: dict[str, str] = {}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def clip_key(clip: Clip, settings: BatchSettings, choice: Choice) -> str:
    """Return a hash of everything that decides the bytes of a clip's output."""
    values = (
        FORMAT,
        [str(clip.source), clip.size_bytes, clip.changed_ns],
        hashlib.sha256(choice.artifact.onnx).hexdigest(),
        asdict(choice.limits.but(settings.skip_below_qp, settings.skip_above_quality)),
        [settings.engine, settings.precision, settings.codec, settings.part_seconds],
        settings.quantiser,
        versions(),
    )
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


@contextmanager
def locked_state(out: Path) -> Iterator[Path]:
    """Lock a folder of outputs against other batches; gives the folder of what is done.

    Half-written files are removed before and afterwards.
    """
    state = out.resolve() / FOLDER
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = (state / "lock").open("w")
    except OSError as error:
        raise BatchError(
            f"{out} cannot be written to ({error.strerror}); choose another --out"
        ) from error
    with lock:
        with suppress(ImportError, OSError):  # Windows, and file systems without locks
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BatchError(
                    f"another edgecar batch is at work in {out}; wait until it has ended"
                ) from None
        try:
            _remove_unfinished(state)
            yield state
        finally:
            _remove_unfinished(state)


def _remove_unfinished(state: Path) -> None:
    for path in state.glob("parts/**/.*"):
        path.unlink(missing_ok=True)
