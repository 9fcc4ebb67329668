"""Frames from a file, a camera or a network stream."""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import av
from av.video.stream import VideoStream

from edgecar.errors import MediaError
from edgecar.media.audio import Sound
from edgecar.media.coding import StreamCoding, states_crop
from edgecar.media.color import FrameMaker, colour_of, orientation_of
from edgecar.media.facts import MILLISECOND, Still, StreamFacts, copied_streams, read_notes
from edgecar.media.frame import Coding, Frame
from edgecar.media.packets import Start, VideoPackets
from edgecar.media.sources import (
    LIVE_DEFAULTS,
    MJPEG_STREAM,
    ONE_GO,
    RAW_JPEG,
    RTSP_SOUND,
    LiveSettings,
    Source,
    is_endless,
    main_video,
    may_be_still,
    opened,
    source_from,
)
from edgecar.media.timing import DecodingTimes, Timestamps
from edgecar.spec import Size

CROP_NOT_APPLIED = "crop that the container states is not applied: hidden edges show"

TIMELESS_FORMATS = (MJPEG_STREAM, RAW_JPEG, "jpeg_pipe")
"""Over a network, their pictures are shown when they come: FFmpeg just counts 25 a second."""

STILL_SUFFIXES = {"mjpeg": ".jpg", "tiff": ".tif"} | {
    name: f".{name}" for name in ("bmp", "pgm", "png", "ppm", "webp")
}
"""Suffixes of pictures by FFmpeg's names of their codings."""

ASSUMED_RATE_FPS = Fraction(25)
HIGHEST_RATE_FPS = 1000
"""A higher rate is the tick of some clock (90 000 in RTSP), not a frame rate."""

LIVE_DECODER_THREADS = 2
"""Each thread beyond the first holds back one more frame, which a live picture cannot afford."""


class Reader(AbstractContextManager["Reader"]):
    """Decoded frames of one video stream, in display order.

    Iterate over it once; use it as a context manager or call `close`. One thread at a time.
    The first frame is decoded on construction, so a source that yields nothing fails there.
    ``size``, ``rate``, ``time_base`` and ``colour`` are those of ``facts``.

    Args:
        source: Source to read.
        keep_size: Scale frames of another size to that of the first one.
        settings: Timeouts of a camera or network stream.
        read_coding: Note in every frame how coarsely it was coded.
        size: ``(height, width)`` to keep in place of the first frame's.
        warnings: Counter to continue, where several readers follow each other.
        start: Keyframe to begin at; frames shown before it are left out. Only for files whose
            packets state when they are shown.
        threads: Threads of the decoder; None lets FFmpeg choose. With one thread, the result of
            damage is the same every time.

    Raises:
        MediaError: The source cannot be opened or holds no frame that can be decoded.
    """

    def __init__(
        self,
        source: Source,
        *,
        keep_size: bool,
        settings: LiveSettings = LIVE_DEFAULTS,
        read_coding: bool = False,
        size: Size | None = None,
        warnings: Counter[str] | None = None,
        start: Start | None = None,
        threads: int | None = None,
    ) -> None:
        self.source = source
        # Counts of what was changed, skipped or missing so far.
        self.warnings: Counter[str] = Counter() if warnings is None else warnings
        self.ended = False  # True once every frame was returned
        self._container = opened(source, settings)
        try:
            network = source.kind == "network"
            self.container_name = self._container.format.name
            """FFmpeg's name of the format: ``mov,mp4,m4a,3gp,3g2,mj2``, ``matroska,webm``."""
            self._endless = network and is_endless(self._container)
            self._timeless = network and self.container_name in TIMELESS_FORMATS
            self._stream = self._video_stream(threads, read_coding)
            copied = copied_streams(self._container, self._stream)
            # A writer takes the sound of the first connection to a live source, which has no size.
            wanted = copied and start is None and not (self.live and size)
            sound = Sound(copied, self.warnings) if wanted else None
            self._packets = VideoPackets(
                self._container,
                self._stream,
                source,
                self.live,
                settings,
                self.warnings,
                start,
                sound,
                self._coding.read if self._coding else None,
            )
            self._pictures = self._packets.pictures()
            first = next(self._pictures, None)
            if first is None:
                again = source.kind != "file" or source.repeatable
                remedy = "record again" if again else ONE_GO
                raise MediaError(f"{source.shown} holds no frame that can be decoded; {remedy}")
            self._ahead = [first]
            self.facts = self._facts_from(first, sound)
            """Facts that a writer needs to make a video like this one."""
            self.size, self.rate = self.facts.size, self.facts.rate
            self.time_base, self.colour = self.facts.time_base, self.facts.colour
            if source.path is not None and source.repeatable and states_crop(source.path):
                self.warnings[CROP_NOT_APPLIED] += 1
            self.frame_count = self._packets.expected_frames(self.rate)
            """Number of frames to expect, for progress; None if unknown."""
        except BaseException:
            self._container.close()
            raise
        self._frames = self._all_frames(keep_size, size)

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        """Return the next frame; a live stream ends when the other side hangs up.

        Raises:
            MediaError: A camera or network stream failed or fell silent.
        """
        return next(self._frames)

    def close(self) -> None:
        """Stop reading and release the file or camera; harmless when repeated."""
        self._frames.close()
        self._pictures.close()
        self._container.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def live(self) -> bool:
        """True where frames come at their own pace and cannot be asked for again."""
        return self.source.live or self._endless

    @property
    def states_times(self) -> bool:
        """True if the container states when each frame is shown, as far as was read."""
        return not self._packets.lacks_display_times

    def _video_stream(self, threads: int | None, read_coding: bool) -> VideoStream:
        stream, shown = main_video(self._container), self.source.shown
        if stream is None:
            kinds = ", ".join(sorted({stream.type for stream in self._container.streams}))
            found = kinds or "an empty container"
            raise MediaError(f"{shown} has no video stream, only {found}; give a file with video")
        # PyAV types it as always there; it is None where FFmpeg has no decoder.
        context: object = stream.codec_context
        if context is None:
            raise MediaError(f"{shown} is coded in a way FFmpeg cannot decode; convert it")
        self.codec = stream.codec_context.codec.canonical_name
        """FFmpeg's short name of the codec, whatever decodes it: ``h264``, ``av1``."""
        stream.thread_type = "AUTO"
        if self.live:
            stream.thread_count = LIVE_DECODER_THREADS
        self._coding = StreamCoding(stream) if read_coding else None
        if threads:
            stream.thread_count = threads
        return stream

    def _facts_from(self, first: av.VideoFrame, sound: Sound | None) -> StreamFacts:
        stream = self._stream
        candidates = [stream.average_rate, stream.guessed_rate, stream.base_rate]
        if first.pts is None and first.duration and stream.time_base:
            # Raw streams have only the rate in the coded headers; FFmpeg's averages assume 25.
            candidates.insert(0, 1 / (first.duration * stream.time_base))
        plausible = (rate for rate in candidates if rate and 0 < rate <= HIGHEST_RATE_FPS)
        rate, orientation = next(plausible, ASSUMED_RATE_FPS), orientation_of(first)
        notes = read_notes(self._container, stream)
        if self.source.address.startswith("rtsp"):
            notes = replace(notes, lost=(*notes.lost, RTSP_SOUND))
        return StreamFacts(
            size=(first.height, first.width),
            rate=rate,
            time_base=MILLISECOND if self._timeless else stream.time_base or 1 / rate,
            colour=colour_of(first),
            sample_aspect=stream.sample_aspect_ratio or None,
            rotation_degrees=orientation.rotation_degrees,
            mirrored=orientation.mirrored,
            audio_from=self.source.path if sound else None,
            sound=sound,
            notes=notes,
            live=self.live,
            still=self._still(),
        )

    def _still(self) -> Still | None:
        """Return the picture that was read; None if it is no still or a second one follows."""
        suffix, packet = STILL_SUFFIXES.get(self.codec), self._packets.last_decoded
        if suffix is None or packet is None or not may_be_still(self._container):
            return None
        coded = bytes(packet)
        with suppress(MediaError):  # some cameras break off behind it, or say no more
            self._ahead.extend(islice(self._pictures, 1))
        return Still(suffix, coded) if len(self._ahead) == 1 else None

    def _all_frames(self, keep_size: bool, size: Size | None) -> Generator[Frame, None, None]:
        maker = FrameMaker(self.time_base, keep_size, self.warnings, size)
        pts_of = self._clock()
        last: Frame | None = None  # of a file, whose last frame may be shown for long
        ahead, self._ahead = iter(self._ahead), []  # pictures are large
        for picture in chain(ahead, self._pictures):
            packet = self._packets.last_decoded
            coding = self._coding.of(picture, packet) if self._coding else Coding(codec=self.codec)
            frame = maker.frame_from_picture(picture, pts_of(picture), coding)
            if self.source.kind != "file":
                yield frame
                continue
            if last is not None:
                yield last
            last = frame
        if last is not None:
            yield replace(last, duration=self._packets.shown_until_end(last.pts, self.rate))
        self.ended = True

    def _clock(self) -> Callable[[av.VideoFrame], int]:
        """Return the function that tells when a picture is shown."""
        packets = self._packets
        if self._timeless:
            began = time.monotonic()  # when the first picture came
            return lambda _: round((time.monotonic() - began) / self.time_base)
        if not packets.lacks_display_times:
            gaps = not self.live and not packets.clock_may_jump
            return Timestamps(self.time_base, self.rate, gaps=gaps, warnings=self.warnings).pts_of
        if self.container_name != "avi":  # which never has others
            self.warnings["timestamps in decoding order, put in the order of showing"] += 1
        depth_frames = self._stream.codec_context.reorder_depth
        return DecodingTimes(packets.decoding_times, depth_frames).pts_of


def open_reader(
    source: str | int | Path,
    *,
    keep_size: bool = True,
    timeout_seconds: float = 10,
    read_coding: bool = False,
) -> Reader:
    """Open a video for reading and decode its first frame.

    Args:
        source: A file that FFmpeg reads (raw ``.264`` and ``.265`` included), a camera's number
            (``0``) or a URL. RTSP goes over TCP.
        keep_size: Scale frames to the first one's size where a stream changes it on the way.
        timeout_seconds: Time that a network stream may take to answer or pause.
        read_coding: Note in every frame how coarsely it was coded. Costs a few percent of the
            decoding, and more where H.264 is decoded on one thread for it (`StreamCoding`).

    Raises:
        MediaError: It is missing, damaged beyond reading, or not a video.
    """
    settings = LiveSettings(open_seconds=timeout_seconds, read_seconds=timeout_seconds)
    return Reader(
        source_from(source), keep_size=keep_size, settings=settings, read_coding=read_coding
    )
