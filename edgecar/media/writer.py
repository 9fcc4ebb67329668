"""Frames into a video file that appears whole or not at all."""

import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
from av.codec.context import Flags as CodecFlags
from av.packet import Packet
from av.video.stream import VideoStream

from edgecar.errors import MediaError
from edgecar.files import atomic_write
from edgecar.media.audio import AudioCopy
from edgecar.media.color import frame_in, picture_from_frame, state_colour
from edgecar.media.container import (
    FORMATS,
    REORDERED_FRAMES,
    container_for,
    explained,
    longest_ticks,
    stored_time_base,
)
from edgecar.media.facts import StreamFacts, write_notes
from edgecar.media.frame import COLOUR_NOT_STATED, Colour, Frame
from edgecar.media.reader import Reader
from edgecar.media.timing import Timeline

Codec = Literal["h264", "ffv1"]

SUFFIXES: dict[Codec, tuple[str, ...]] = {
    "h264": (".mp4", ".mkv", ".mov"),
    "ffv1": (".mkv", ".avi"),
}
"""Containers in which players expect each codec."""

PRESETS = tuple("ultrafast superfast veryfast faster fast medium slow slower veryslow".split())

MAX_CRF = 51

_log = logging.getLogger(__name__)


class Writer:
    """Encodes frames into one file. `open_writer` makes it, and keeps or removes the file."""

    def __init__(
        self,
        path: Path,
        temporary: Path,
        facts: StreamFacts,
        codec: Codec,
        options: dict[str, str],
        same_bytes: bool = False,
    ) -> None:
        self.warnings: Counter[str] = Counter()  # what had to change or be left out so far
        self.frames = 0  # written so far
        self._path, self._facts, self._codec = path, facts, codec
        suffix = path.suffix.lower()
        self._kind, tick = FORMATS[suffix], stored_time_base(suffix, facts)
        self._timeline = Timeline(tick, facts.rate, from_zero=True, warnings=self.warnings)
        self._longest_ticks = longest_ticks(suffix, tick)
        self._recent: deque[int] = deque(maxlen=REORDERED_FRAMES)  # when frames are shown
        self._colour: Colour | None = None  # of the first frame
        self._picture: av.VideoFrame | None = None
        self._hold_ticks = 0  # how long the last frame is shown, if that is stated
        self._held: Packet[VideoStream] | None = None
        self._first_dts = 0
        self._container = container_for(
            temporary, self._kind, facts.sound, same_bytes=same_bytes, live=facts.live
        )
        self._stream = self._add_video(options)
        if same_bytes:
            self._stream.thread_count = 1
        self._audio = (
            AudioCopy(facts.sound, self._container, self._kind, self.warnings)
            if facts.sound
            else None
        )

    def write(self, frame: Frame) -> None:
        """Encode the next frame, which has the size of the video."""
        if frame.size != self._facts.size:
            raise MediaError(
                f"frame {self.frames} is {_pixels(frame.size)}, {self._path} is "
                f"{_pixels(self._facts.size)}; read with keep_size to have it scaled"
            )
        frame = self._in_one_colour(frame)
        ticks = self._timeline.place(frame)
        with explained(self._path, self._facts.live):
            if not self.frames:
                self._begin((frame.pts or 0) * (frame.time_base or Fraction(0)))
            self._fill_gap(ticks)
            self._picture = picture_from_frame(frame, even=self._codec == "h264")
            if frame.duration and frame.time_base:
                hold_seconds = frame.duration * frame.time_base
                self._hold_ticks = round(hold_seconds / self._timeline.time_base)
            self._encode(self._picture, ticks)
        self.frames += 1

    def copy(
        self,
        packets: "Iterable[Packet[VideoStream]]",
        first_seconds: Fraction,
        last_ticks: int,
        hold_ticks: int,
    ) -> None:
        """Write packets that another writer encoded with the same settings.

        Their times are in ticks of the file, from zero. ``first_seconds`` is the first frame's in
        the source; ``last_ticks`` is the last one's in the file, ``hold_ticks`` its duration or 0.
        """
        self._timeline.last_ticks, self._hold_ticks = last_ticks, hold_ticks
        with explained(self._path):
            context = self._stream.codec_context
            context.open()
            self._begin(first_seconds)
            for packet in packets:
                if self._held is None:  # as the container of the packets has it, not as encoded
                    context.extradata = packet.stream.codec_context.extradata
                if self._audio:
                    self._audio.copy_until((packet.dts or 0) * self._timeline.time_base)
                packet.stream = self._stream
                self._mux([packet])

    def finish(self, *, whole: bool) -> None:
        """Write what the encoder holds back, the rest of the audio and the file's index.

        A video that has all frames of its source gets all audio; else it ends with the last frame.
        """
        last = self._timeline.last_ticks
        if last is None:
            raise MediaError(f"no frame for {self._path}, so it was not made; check the input")
        with explained(self._path, self._facts.live):
            self._mux(self._stream.encode(None))
            end_ticks = last + (self._hold_ticks or self._timeline.interval_ticks)
            packet, self._held = self._held, None
            if packet is not None:
                # By the duration of the packet that is decoded last MP4 tells the end.
                in_mp4 = self._kind in ("mp4", "mov")
                if self._hold_ticks and packet.dts is not None and in_mp4:
                    packet.duration = end_ticks - (packet.dts - self._first_dts)
                self._container.mux(packet)
            if self._hold_ticks and self._kind == "avi":
                self.warnings["how long the last frame is shown is not stored in .avi"] += 1
            if self._audio:
                self._audio.copy_until(None if whole else end_ticks * self._timeline.time_base)
                if self._audio.lacks_the_rest:
                    self.warnings["audio left out after the connection broke off"] += 1
            self._container.close()

    def close(self) -> None:
        """Close the files, finished or not."""
        if self._audio:
            self._audio.close()
        # What failed to be written fails again here, and the first failure has the reason.
        with suppress(av.FFmpegError):
            self._container.close()

    def _in_one_colour(self, frame: Frame) -> Frame:
        """Convert a frame to the range and matrix of the first one, which the file states."""
        stated = self._colour = self._colour or frame.colour
        if frame.colour == stated:
            return frame
        changed = frame_in(frame, stated)
        if changed.y is not frame.y:
            self.warnings["frames of another colour range or matrix converted to the first's"] += 1
        elif frame.colour.transfer != stated.transfer or frame.colour.primaries != stated.primaries:
            self.warnings["frames of other primaries or transfer than the file states"] += 1
        return changed

    def _begin(self, seconds: Fraction) -> None:
        """Take the time of the first frame for zero."""
        write_notes(self._facts, self._container, self._stream, seconds, self._kind, self.warnings)
        if self._audio:
            self._audio.start_at(seconds)

    def _fill_gap(self, ticks: int) -> None:
        """Show the last frame again until the next one, at ``ticks``, is near enough."""
        step = self._longest_ticks // REORDERED_FRAMES
        while self._recent and ticks - self._recent[0] > self._longest_ticks:
            between = self._recent[-1] + step
            if self._picture is None or between >= ticks:
                return
            self._encode(self._picture, between)
            self.warnings["frames shown again in gaps longer than the format stores"] += 1

    def _encode(self, picture: av.VideoFrame, ticks: int) -> None:
        self._recent.append(ticks)
        picture.pts, picture.time_base = ticks, self._timeline.time_base
        if self._audio:
            self._audio.copy_until(ticks * self._timeline.time_base)
        self._mux(self._stream.encode(picture))

    def _mux(self, packets: "list[Packet[VideoStream]]") -> None:
        """Write all packets but the last, whose duration states how long its frame is shown."""
        for packet in packets:
            if self._held is None:
                self._first_dts = packet.dts or 0
            else:
                self._container.mux(self._held)
            if self._hold_ticks and packet.pts == self._timeline.last_ticks:
                packet.duration = self._hold_ticks
            self._held = packet

    def _add_video(self, options: dict[str, str]) -> VideoStream:
        """Add the video stream, and warn of what it cannot store."""
        facts, h264 = self._facts, self._codec == "h264"
        height, width = facts.size
        if h264:
            height, width = height + height % 2, width + width % 2
        stream = self._container.add_stream(
            "libx264" if h264 else "ffv1",
            rate=facts.rate,
            width=width,
            height=height,
            options=options,
        )
        if h264:
            stream.thread_type = "FRAME"  # PyAV's default cuts pictures into slices: larger files
        context = stream.codec_context
        context.pix_fmt = "yuv420p"
        context.flags |= CodecFlags.global_header  # PyAV asks the format, and "tee" has none
        context.time_base = self._timeline.time_base
        state_colour(context, facts.colour)
        if facts.sample_aspect:
            context.sample_aspect_ratio = facts.sample_aspect
        turned = facts.rotation_degrees or facts.mirrored
        if turned:
            stream.set_display_rotation(facts.rotation_degrees, hflip=facts.mirrored)
        avi, padded = self._kind == "avi", f"{_pixels(facts.size)} padded to {width}x{height}"
        losses = {
            f"odd size {padded}, as H.264 needs even ones": (height, width) != facts.size,
            f"pixel shape {facts.sample_aspect} is not stored with FFV1": (
                not h264 and facts.sample_aspect not in (None, 1)
            ),
            "range and colour space are not stored in .avi": (
                avi and facts.colour != COLOUR_NOT_STATED
            ),
            "rotation is not stored in .avi": avi and turned,
        }
        self.warnings.update(words for words, lost in losses.items() if lost)
        return stream


@contextmanager
def open_writer(
    path: str | Path,
    *,
    like: Reader | StreamFacts,
    codec: Codec = "h264",
    crf: int = 18,
    preset: str = "veryfast",
    same_bytes: bool = False,
) -> Iterator[Writer]:
    """Write a video file with the shape, timing, colour and audio of another.

    The file takes its name when the block ends without an error. After any failure or interrupt
    nothing is left of it, and an older file of that name is untouched. A recording of a camera is
    kept all the same: nobody can record it again.

    The first frame is shown at zero, and the audio moves with it. From there on, timestamps are
    kept as they are in ``.mp4`` and ``.mov``. ``.mkv`` counts milliseconds and
    ``.avi`` frames: times between are rounded and counted in the writer's ``warnings``. H.264 that
    would state limited range and no more states nothing, which means the same.

    Args:
        path: File to write; missing folders are made. ``.mp4``, ``.mkv`` or ``.mov`` for H.264;
            ``.mkv`` or ``.avi`` for FFV1.
        like: Video that is read. Its audio is copied packet by packet.
        codec: ``h264``, or ``ffv1``, which is lossless.
        crf: H.264 quality, 0 to 51, lower is better and larger; 18 looks like the source.
        preset: H.264 effort, from ``ultrafast`` to ``veryslow``.
        same_bytes: Write the same bytes on every machine: encode on one thread, since their number
            shows in the output, and leave out what differs from run to run.

    Raises:
        MediaError: The settings do not fit, the file cannot be written, or no frame came.
    """
    path = Path(path)
    facts = like.facts if isinstance(like, Reader) else like
    _check(path, like, codec, crf, preset)
    options = {"crf": str(crf), "preset": preset} if codec == "h264" else {"level": "3", "g": "1"}
    if same_bytes:
        # Else x264 takes shortcuts on some processors, and FFV1 slices by the threads.
        options |= {"x264-params": "cpu-independent=1"} if codec == "h264" else {"slices": "4"}
    with ExitStack() as resources:
        with explained(path):
            temporary = resources.enter_context(atomic_write(path))
            writer = Writer(path, temporary, facts, codec, options, same_bytes)
            resources.callback(writer.close)
        try:
            yield writer
            writer.finish(whole=not isinstance(like, Reader) or like.ended)
        except BaseException:
            if facts.live and _saved(writer, temporary):
                resources.close()
                _log.warning("%s holds the %d frames before the failure", path, writer.frames)
            raise
        with explained(path):
            resources.close()


def _saved(writer: Writer, temporary: Path) -> bool:
    """End a recording after a failure; True if what was written can be played."""
    with suppress(Exception):
        writer.finish(whole=False)
    with suppress(Exception):
        writer.close()
    with suppress(Exception), av.open(f"file:{temporary}") as container:
        return next(container.decode(video=0), None) is not None
    return False


def _check(path: Path, like: Reader | StreamFacts, codec: Codec, crf: int, preset: str) -> None:
    if codec not in SUFFIXES:
        raise MediaError(f"codec {codec!r} is not known; use one of {', '.join(SUFFIXES)}")
    if path.suffix.lower() not in SUFFIXES[codec]:
        raise MediaError(f"{codec} does not go into {path}; use {' or '.join(SUFFIXES[codec])}")
    if not 0 <= crf <= MAX_CRF:
        raise MediaError(f"CRF {crf} is out of range; give 0 to {MAX_CRF}")
    if preset not in PRESETS:
        raise MediaError(f"preset {preset!r} is not known; use one of {', '.join(PRESETS)}")
    if path.is_dir():
        raise MediaError(f"{path} is a folder; give the name of a file")
    source = like.source.path if isinstance(like, Reader) else None
    if source is not None and path.exists() and path.samefile(source):
        raise MediaError(f"{path} is the input, which would be lost; give another output")


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
