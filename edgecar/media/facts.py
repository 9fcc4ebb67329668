"""Properties of a stream that a reader finds and a writer needs: shape, timing, colour, notes."""

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from av.container import InputContainer, OutputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from edgecar.media.frame import COLOUR_NOT_STATED, Colour
from edgecar.spec import Size

if TYPE_CHECKING:
    from av.container.core import Chapter

    from edgecar.media.audio import Sound

MILLISECOND = Fraction(1, 1000)

NOT_COPIED = set(
    "encoder software major_brand minor_version compatible_brands duration".split()
)  # how a file was written, which is not true of another one

VIDEO_NOTES = ("language", "title", "timecode")

STORED_NOTES = {
    "mp4": set(
        "title artist album_artist composer album date comment genre copyright grouping lyrics "
        "description synopsis show episode_id network keywords location location-eng creation_time "
        "hd_video media_type track disc".split()
    ),
    "mov": set(
        "title artist album date comment genre copyright location location-eng creation_time make "
        "model".split()
    ),
    "avi": set("title artist date comment genre copyright language track".split()),
}
"""Notes that FFmpeg writes into a format; Matroska takes all."""

TIMECODE_RATES = (24, 25, 30, 48, 50, 60, 100, 120, 150)
"""Frames a second, rounded, for which FFmpeg counts a timecode."""


@dataclass(frozen=True, slots=True)
class Notes:
    """Notes in a video file: title, place, time of recording, chapters, timecode."""

    of_file: dict[str, str] = field(default_factory=dict)
    """The file's own notes, by names in lower case."""
    of_video: dict[str, str] = field(default_factory=dict)
    """Language, title and timecode of the video stream."""
    chapters: tuple["Chapter", ...] = ()
    """As PyAV gives and takes them."""
    lost: tuple[str, ...] = ()
    """Descriptions of the streams that cannot be copied."""


NO_NOTES = Notes()


class Still(NamedTuple):
    """A coded picture, and the suffix of a file that would hold it, such as ``.jpg``."""

    suffix: str
    code: bytes


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """Shape, timing and colour of a video stream."""

    size: Size  # (height, width) in pixels
    rate: Fraction  # frames a second; the average where it varies
    time_base: Fraction  # seconds in one tick of a frame's ``pts``
    colour: Colour = COLOUR_NOT_STATED
    sample_aspect: Fraction | None = None  # width of a pixel over its height; None: not stated
    rotation_degrees: int = 0  # counter-clockwise turn that a player applies
    mirrored: bool = False  # True: a player swaps left and right after that turn
    audio_from: Path | None = None
    """File that holds the audio of this video, if it can be opened again."""
    sound: "Sound | None" = field(default=None, repr=False, compare=False)
    """Coded audio of this video, which one writer takes; None: no audio."""
    notes: Notes = NO_NOTES
    live: bool = False  # True for cameras and network streams, whose clock starts anywhere
    still: Still | None = field(default=None, repr=False, compare=False)
    """The coded picture, where the source holds nothing else."""


def copied_streams(container: InputContainer, pictures: Stream | None) -> list[Stream]:
    """Return the streams that go into the output as they are: audio, subtitles, further videos."""
    return [
        stream
        for stream in container.streams
        if stream.type in ("audio", "subtitle", "video")
        and stream is not pictures
        and not stream.disposition & Disposition.attached_pic
        and not _shows_chapters(container, stream)
    ]


def read_notes(container: InputContainer, pictures: VideoStream) -> Notes:
    """Read the notes of a file, and which of its streams are lost."""
    of_file = {name.lower(): value for name, value in container.metadata.items()}
    of_video = {name.lower(): value for name, value in pictures.metadata.items()}
    kept = [pictures, *copied_streams(container, pictures)]
    lost = []
    for stream in container.streams:
        # A timecode has a track of its own in MP4.
        notes = stream.metadata
        if stream in kept or "timecode" in notes or _shows_chapters(container, stream):
            continue
        name = (notes.get("handler_name") or notes.get("filename") or "").strip()
        named = f"{stream.type} stream left out{f': {name}' if name else ''}"
        lost.append("cover picture left out" if stream.type == "video" else named)
    return Notes(
        {name: value for name, value in of_file.items() if name not in NOT_COPIED},
        {name: of_video[name] for name in VIDEO_NOTES if name in of_video},
        tuple(container.chapters()),
        tuple(lost),
    )


def write_notes(
    facts: StreamFacts,
    output: OutputContainer,
    stream: VideoStream,
    first_seconds: Fraction,
    kind: str,
    warnings: Counter[str],
) -> None:
    """Write the notes of a source into an output whose header is not written yet.

    The first picture, at ``first_seconds`` of the source, is at zero in the output. What is lost is
    counted in ``warnings``.
    """
    notes, takes = facts.notes, STORED_NOTES.get(kind)
    unknown = sorted(notes.of_file.keys() - (notes.of_file.keys() if takes is None else takes))
    output.metadata.update({k: v for k, v in notes.of_file.items() if k not in unknown})
    if unknown:
        warnings[f"notes that {kind} does not store: {', '.join(unknown)}"] += 1
    of_video = dict(notes.of_video)
    if "timecode" in of_video and (kind == "avi" or round(facts.rate) not in TIMECODE_RATES):
        del of_video["timecode"]
        rate = float(facts.rate)
        warnings[f"timecode lost: not stored in {kind} at {rate:g} frames a second"] += 1
    stream.metadata.update(of_video)
    warnings.update(notes.lost)
    if notes.chapters and kind == "avi":
        warnings["chapters are not stored in avi"] += 1
    elif notes.chapters:
        chapters = [each.copy() for each in notes.chapters]
        for each in chapters:
            shift = round(first_seconds / (each["time_base"] or 1))
            each["start"], each["end"] = (
                max(0, ticks - shift) for ticks in (each["start"], each["end"])
            )
        output.set_chapters(chapters)


def _shows_chapters(container: InputContainer, stream: Stream) -> bool:
    """Return True if a stream of an MP4 file only holds the titles of chapters."""
    return (
        stream.type in ("subtitle", "data")
        and 0 < stream.frames == len(container.chapters())
        and not stream.disposition & Disposition.default
        and "timecode" not in stream.metadata
    )
