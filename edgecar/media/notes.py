"""Notes in a video file: title, place, time of recording, chapters, timecode."""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from av.container import InputContainer, OutputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

OF_THE_FILE = {
    "encoder",
    "software",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "duration",
}
"""Notes about how a file was written, which are not true of another one."""

OF_A_STREAM = ("language", "title", "timecode")

_MP4 = """title artist album_artist composer album date comment genre copyright grouping lyrics
description synopsis show episode_id network keywords location location-eng creation_time hd_video
media_type track disc"""
STORED = {
    "mp4": set(_MP4.split()),
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
class Chapter:
    """A named part of a video.

    Attributes:
        start: Time in seconds.
        end: Time in seconds.
        title: Empty if it has none.
    """

    start: Fraction
    end: Fraction
    title: str


@dataclass(frozen=True, slots=True)
class Notes:
    """All notes of a video file.

    Attributes:
        of_file: Names, in lower case, and values of the file's own notes.
        of_video: Language, title and timecode of the video stream.
        chapters: Chapters in the order of the file.
        lost: Streams that cannot be copied, in words.
    """

    of_file: tuple[tuple[str, str], ...] = ()
    of_video: tuple[tuple[str, str], ...] = ()
    chapters: tuple[Chapter, ...] = ()
    lost: tuple[str, ...] = ()


NO_NOTES = Notes()


def copied_streams(container: InputContainer, pictures: Stream | None) -> list[Stream]:
    """Streams that go into the output as they are: audio, subtitles and further videos."""
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
    chapters = tuple(
        Chapter(
            Fraction(each["start"] * (each["time_base"] or 1)),
            Fraction(each["end"] * (each["time_base"] or 1)),
            each["metadata"].get("title", ""),
        )
        for each in container.chapters()
    )
    copied = copied_streams(container, pictures)
    lost = [
        _in_words(stream)
        for stream in container.streams
        if stream is not pictures
        and stream not in copied
        and "timecode" not in stream.metadata  # a track of its own in MP4
        and not _shows_chapters(container, stream)
    ]
    return Notes(
        tuple((name, value) for name, value in of_file.items() if name not in OF_THE_FILE),
        tuple((name, of_video[name]) for name in OF_A_STREAM if name in of_video),
        chapters,
        tuple(lost),
    )


def write_notes(
    notes: Notes,
    output: OutputContainer,
    stream: VideoStream,
    kind: str,
    rate: Fraction,
    first_seconds: Fraction,
    warnings: Counter[str],
) -> None:
    """Write notes into an output whose header is not written yet; name what it does not take.

    Args:
        notes: Notes of the source.
        output: The file.
        stream: Video stream of the output.
        kind: FFmpeg's name of the output's format.
        rate: Frames a second.
        first_seconds: Time of the first picture in the source, which is zero in the output.
        warnings: Receives a count for everything that is lost.
    """
    takes = STORED.get(kind)
    unknown = [name for name, _ in notes.of_file if takes is not None and name not in takes]
    output.metadata.update({name: value for name, value in notes.of_file if name not in unknown})
    if unknown:
        warnings[f"notes that {kind} does not store: {', '.join(sorted(unknown))}"] += 1
    of_video = dict(notes.of_video)
    if "timecode" in of_video and (kind == "avi" or round(rate) not in TIMECODE_RATES):
        del of_video["timecode"]
        warnings[f"timecode lost: not stored in {kind} at {float(rate):g} frames a second"] += 1
    stream.metadata.update(of_video)
    for words in notes.lost:
        warnings[words] += 1
    if notes.chapters and kind == "avi":
        warnings["chapters are not stored in avi"] += 1
    elif notes.chapters:
        _write_chapters(notes.chapters, output, first_seconds)


def _write_chapters(
    chapters: tuple[Chapter, ...], output: OutputContainer, first_seconds: Fraction
) -> None:
    millisecond = Fraction(1, 1000)
    output.set_chapters(
        [
            {
                "id": number,
                "start": max(0, round((each.start - first_seconds) / millisecond)),
                "end": max(0, round((each.end - first_seconds) / millisecond)),
                "time_base": millisecond,
                "metadata": {"title": each.title} if each.title else {},
            }
            for number, each in enumerate(chapters)
        ]
    )


def _shows_chapters(container: InputContainer, stream: Stream) -> bool:
    """Return True if a stream of an MP4 file only holds the titles of chapters."""
    chapters = len(container.chapters())
    return (
        bool(chapters)
        and stream.type in ("subtitle", "data")
        and stream.frames == chapters
        and not stream.disposition & Disposition.default
        and "timecode" not in stream.metadata
    )


def _in_words(stream: Stream) -> str:
    if stream.type == "video":
        return "cover picture left out"
    name = stream.metadata.get("handler_name") or stream.metadata.get("filename") or ""
    return f"{stream.type} stream left out{f': {name.strip()}' if name.strip() else ''}"
