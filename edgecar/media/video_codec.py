"""Encoding and decoding of whole clips in memory."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import Literal, cast

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from edgecar.errors import MediaError
from edgecar.media.coding import StreamCoding
from edgecar.media.color import colour_of, picture_from_frame, planes_of, state_colour
from edgecar.media.frame import Frame
from edgecar.media.quantiser import HIGHEST_QUANTISER, slow_quantisers
from edgecar.media.sources import reason_of
from edgecar.spec import Size

VideoCodec = Literal["h264", "hevc"]

RATE_FPS = Fraction(25)  # frame rate of every coded clip; limits and bit rates refer to it


@dataclass(frozen=True)
class VideoCoding:
    """Codec and settings of a camera.

    Attributes:
        codec: ``h264`` (libx264, constant rate factor) or ``hevc`` (libx265, constant QP).
        quantiser: CRF or QP, 0 to 51; higher is coarser.
        preset: Speed preset of the library.
        gop: Largest distance between keyframes, in frames.
        b_frames: Largest number of consecutive B-frames; None: the preset's.
        max_kbps: Highest rate, with a buffer of one second (VBV); None: no limit. H.264 only: x265
            ignores limits at constant QP.
        in_loop_filters: False switches deblocking, and in HEVC SAO, off.

    Raises:
        MediaError: A setting that the coder would refuse, clip or ignore.
    """

    codec: VideoCodec
    quantiser: int
    preset: str = "medium"
    gop: int = 60
    b_frames: int | None = None
    max_kbps: int | None = None
    in_loop_filters: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.quantiser <= HIGHEST_QUANTISER:
            raise MediaError(
                f"quantiser {self.quantiser} is not in 0 to {HIGHEST_QUANTISER}; choose one that is"
            )
        if self.max_kbps is not None and (self.codec == "hevc" or self.max_kbps < 1):
            raise MediaError(
                f"{self.codec} got a limit of {self.max_kbps} kbit/s; a limit needs h264 and at "
                "least 1 kbit/s"
            )

    def options(self) -> dict[str, str]:
        """Return the options for FFmpeg's encoder."""
        options = {"preset": self.preset, "g": str(self.gop)}
        if self.b_frames is not None:
            options["bf"] = str(self.b_frames)
        if self.max_kbps is not None:
            rate = str(self.max_kbps * 1000)
            options |= {"maxrate": rate, "bufsize": rate}
        if self.codec == "h264":
            filters = {} if self.in_loop_filters else {"x264-params": "no-deblock=1"}
            return {**options, "crf": str(self.quantiser), **filters}
        # One pool of one thread: more would change the bits from machine to machine.
        settings = [f"qp={self.quantiser}", "log-level=none", "pools=1", "frame-threads=1"]
        if not self.in_loop_filters:
            settings += ["no-deblock=1", "no-sao=1"]
        return {**options, "x265-params": ":".join(settings)}


@dataclass(frozen=True)
class CodedClip:
    """A clip after a codec: decoded frames in display order, and the bitstream in Matroska."""

    frames: list[Frame]
    bitstream: bytes
    coded_bytes: int
    """Bytes of the pictures alone, without the container's."""

    @property
    def quantisers(self) -> list[float]:
        """Quantiser of each frame as networks are told it; the middle where it is not known."""
        slow = slow_quantisers(frame.coding.qp for frame in self.frames)
        stated = (frame.coding.quantiser for frame in self.frames)
        return [q if own is None else own for own, q in zip(stated, slow, strict=True)]

    @property
    def kbps(self) -> float:
        """Mean rate in kbit/s at 25 frames a second."""
        return self.coded_bytes * 8 / 1000 / float(len(self.frames) / RATE_FPS)


def video_coded(frames: Iterable[Frame], coding: VideoCoding) -> CodedClip:
    """Encode a clip and decode it again; the same frames give the same bits every time.

    The exception is ``max_kbps``: one time in about forty, x264 distributes its bits differently.

    Samples are coded as they are: the range and colour space that the first frame states are
    written into the stream, and nothing is converted.

    Raises:
        MediaError: There is no frame, sizes differ, a side is odd, or the coder refuses.
    """
    stream_bytes = BytesIO()
    try:
        # Bit-exact: without, Matroska gives every file a random number.
        exact = {"fflags": "+bitexact"}
        with av.open(stream_bytes, "w", format="matroska", container_options=exact) as container:
            count = _encode(frames, coding, container)
        clip = decoded_clip(stream_bytes.getvalue())
        failure = f"gave {len(clip.frames)} frames back for {count}"
    except av.FFmpegError as error:
        failure, clip = f"cannot code the clip ({reason_of(error)})", None
    if clip is None or len(clip.frames) != count:
        raise MediaError(f"{coding.codec} {failure}; change its settings: {coding.options()}")
    return clip


def decoded_clip(bitstream: bytes) -> CodedClip:
    """Return a coded clip from the bytes of its `CodedClip.bitstream`; frames have their QPs."""
    frames: list[Frame] = []
    coded_bytes = 0
    try:
        with av.open(BytesIO(bitstream), "r") as container:
            stream = container.streams.video[0]
            codings = StreamCoding(stream)
            for packet in container.demux(stream):
                coded_bytes += packet.size
                codings.read(packet)
                for shown in packet.decode():
                    planes, coding = planes_of(shown), codings.of(shown, packet)
                    times = shown.pts, shown.time_base
                    frames.append(Frame(*planes, *times, colour_of(shown), coding))
    except av.FFmpegError as error:
        raise MediaError(
            f"a coded clip cannot be read ({reason_of(error)}); code it again"
        ) from error
    return CodedClip(frames, bitstream, coded_bytes)


def _encode(frames: Iterable[Frame], coding: VideoCoding, container: OutputContainer) -> int:
    stream: VideoStream | None = None
    size: Size = (0, 0)
    count = 0
    for count, frame in enumerate(frames, 1):
        if stream is None:
            size, stream = frame.size, _stream(container, coding, frame)
        if frame.size != size:
            raise MediaError(
                f"frame {count - 1} is {_pixels(frame.size)}, the first is {_pixels(size)}; "
                "give frames of one size"
            )
        picture = picture_from_frame(frame)
        picture.pts, picture.time_base = count - 1, 1 / RATE_FPS
        container.mux(stream.encode(picture))
    if stream is None:
        raise MediaError("the clip to code has no frame; give at least one")
    container.mux(stream.encode(None))
    return count


def _stream(container: OutputContainer, coding: VideoCoding, first: Frame) -> VideoStream:
    height, width = first.size
    if height % 2 or width % 2:
        raise MediaError(f"clip is {_pixels(first.size)}; 4:2:0 needs even sides: crop or scale it")
    library = {"h264": "libx264", "hevc": "libx265"}[coding.codec]
    stream = cast(VideoStream, container.add_stream(library, RATE_FPS, coding.options()))
    stream.height, stream.width = height, width
    context = stream.codec_context
    context.pix_fmt = "yuv420p"
    context.thread_count = 1  # threads change where bits go
    state_colour(context, first.colour)
    return stream


def _pixels(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
