"""Which clips an archive has, and where each one's output goes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecar.batch.cut import SUFFIXES
from edgecar.errors import BatchError
from edgecar.files import check_outputs
from edgecar.media.writer import Codec

VIDEO_SUFFIXES = frozenset(
    ".264 .265 .3gp .asf .avi .dav .flv .h264 .h265 .hevc .m2ts .m4v .mjpeg .mjpg .mkv .mov .mp4 "
    ".mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv .y4m".split()
)
"""What is taken for a clip where folders are searched; a file that is named is always taken."""


@dataclass(frozen=True)
class Clip:
    """One clip to restore.

    Attributes:
        source: Where it is, absolute.
        output: Where its output goes, absolute.
        name: The output below the folder of all outputs.
        size_bytes: Of the source.
        changed_ns: When the source was changed last, in nanoseconds.
    """

    source: Path
    output: Path
    name: str
    size_bytes: int
    changed_ns: int


def find_clips(sources: Sequence[Path], out: Path, codec: Codec) -> list[Clip]:
    """Clips in files and folders, in order of their outputs; nothing is written.

    Folders are searched with all that is below them, but for hidden files and ``out``; below
    ``out`` their tree is kept.

    Args:
        sources: Files and folders.
        out: Folder for the outputs; need not exist.
        codec: Of the outputs, which their suffix says.

    Raises:
        BatchError: A source is missing, two give one output, or there is no clip at all.
        OutputError: An output would take the place of a source, or cannot be written.
    """
    out = out.resolve()
    if out.exists() and not out.is_dir():
        raise BatchError(f"{out} is a file; give a folder for the outputs")
    clips: dict[Path, Clip] = {}
    for source in sources:
        for path, below in _clips_of(source, out):
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
    """Absolute paths of clips, with their places below ``out``."""
    if source.is_dir():
        folder = source.resolve()
        if folder == out:
            raise BatchError(f"{source} is where the outputs go, too; give another --out")
        for path in sorted(folder.rglob("*")):
            below = path.relative_to(folder)
            hidden = any(part.startswith(".") for part in below.parts)
            if path.suffix.lower() not in VIDEO_SUFFIXES or hidden or path.is_relative_to(out):
                continue
            if path.is_file():
                yield path.resolve(), below
    elif source.is_file():
        yield source.resolve(), Path(source.name)
    else:
        raise BatchError(f"{source} does not exist; give files or folders")
