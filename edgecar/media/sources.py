"""Places that video comes from, and opening them with errors that a person can act on."""

import errno
import io
import os
import random
import re
import select
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

import av
from av.container import InputContainer
from av.error import ExitError
from av.stream import Disposition
from av.video.stream import VideoStream

from edgecar.errors import MediaError, SettingsError
from edgecar.redaction import redacted, text_redacted

Kind = Literal["file", "camera", "network"]
Transport = Literal["tcp", "udp", "udp_multicast", "http"]

LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "tcp")
MJPEG_STREAM = "mpjpeg"  # FFmpeg's name of JPEG pictures with boundaries in one endless HTTP answer
RAW_JPEG = "mjpeg"  # JPEG pictures one behind the other, whatever lies between them
PLAYLIST_FORMATS = ("hls", "dash")  # their length is that of the playlist
TEXT_ART_FORMATS = ("tty", "bin", "xbin", "adf", "idf")  # FFmpeg renders text files as video

PROBE_BYTES = 32768
"""Bytes for FFmpeg to detect a format over HTTP: its default, a megabyte, is minutes of a slow
camera's pictures."""

RTSP_SOUND = "audio left out, if the camera sends any: over RTSP only video is asked of it"

# Advice for a pipe that nothing can be read from.
ONE_GO = (
    "an MP4 or MOV file must be given by its name, or be written with its index first (faststart)"
)

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DESCRIPTOR = re.compile(r"(?:pipe:|/dev/fd/|/proc/self/fd/)(\d+)")


@dataclass(frozen=True, slots=True)
class Source:
    """One place to read video from."""

    kind: Kind
    address: str = field(repr=False)  # that FFmpeg opens; may hold a password
    shown: str  # address for messages, without passwords
    path: Path | None = None  # the file, if it has a name

    @property
    def repeatable(self) -> bool:
        """True for files that can be opened again and read from the start, unlike pipes."""
        return self.path is not None and self.path.is_file()

    @property
    def live(self) -> bool:
        """True where frames come at their own pace; for HTTP see `is_endless`, once it is open."""
        return self.kind == "camera" or self.address.split(":")[0].lower() in LIVE_SCHEMES


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """How to reach a camera or network stream, how long to wait for it, when to connect again.

    Raises:
        SettingsError: A time is not above zero, the transport unknown, or the jitter no share.
    """

    open_seconds: float = 10
    """Time to connect, and again to analyse the stream: FFmpeg looks at up to 7 s of it."""
    read_seconds: float = 10  # time for the next frame
    keyframe_seconds: float = 10
    """Time for the first keyframe; after that, frames that need others are taken all the same.
    Streams that are refreshed a stripe at a time may have none."""
    rtsp_transport: Transport = "tcp"  # over UDP, a lost packet spoils pictures up to a keyframe
    first_backoff_seconds: float = 0.5  # twice as long before each further attempt
    longest_backoff_seconds: float = 30
    backoff_jitter: float = 0.2  # share by which a wait varies
    give_up_after_seconds: float | None = None  # without a frame, once there was one; None: never

    def __post_init__(self) -> None:
        known = get_args(Transport)
        if self.rtsp_transport not in known:
            raise SettingsError(
                f"rtsp_transport is {self.rtsp_transport!r}; give one of {', '.join(known)}"
            )
        if not 0 <= self.backoff_jitter < 1:
            raise SettingsError(
                f"backoff_jitter is {self.backoff_jitter}; give a share from 0 to below 1"
            )
        for name in (each.name for each in fields(self)):
            seconds = getattr(self, name)
            if name.endswith("_seconds") and seconds is not None and not seconds > 0:
                raise SettingsError(f"{name} is {seconds}; give a time above 0 s")


LIVE_DEFAULTS = LiveSettings()


class Backoff:
    """Waits that double after each failure, up to the longest, and vary.

    They vary by the share ``jitter``, so that many cameras behind one switch that failed do not
    come back at the same moment.
    """

    def __init__(
        self, first_seconds: float, longest_seconds: float, jitter: float, rng: random.Random
    ) -> None:
        self._first_seconds = min(first_seconds, longest_seconds)
        self._longest_seconds, self._jitter, self._rng = longest_seconds, jitter, rng
        self._last_seconds = 0.0

    def next_seconds(self) -> float:
        """Return the time to wait now."""
        doubled = max(2 * self._last_seconds, self._first_seconds)
        self._last_seconds = min(doubled, self._longest_seconds)
        return self._last_seconds * (1 + self._jitter * self._rng.uniform(-1, 1))

    def succeeded(self, for_seconds: float) -> None:
        """Start again with the first wait after a success that outlasted the wait for it.

        Else a camera that accepts and hangs up would be tried at the shortest wait for ever.
        """
        if for_seconds >= self._last_seconds:
            self._last_seconds = 0.0


def source_from(argument: str | int | Path) -> Source:
    """Tell camera numbers, URLs and paths apart; ``-`` is standard input, a `Path` never a number.

    Example:
        >>> source_from("rtsp://admin:secret@10.0.0.5/stream1").shown
        'rtsp://***@10.0.0.5/stream1'
        >>> source_from("0").address
        '/dev/video0'
    """
    text = str(argument)
    if isinstance(argument, str) and is_url(text):
        scheme, _, rest = text.strip().partition("://")
        if scheme.lower() != "file":
            return Source("network", f"{scheme.lower()}://{rest}", redacted(text.strip()))
        text = unquote(urlsplit(text.strip()).path)
    elif isinstance(argument, str) and text.startswith("file:"):
        argument = Path(text.removeprefix("file:"))
        text = str(argument)
    if not isinstance(argument, Path) and text.isdecimal():
        return Source("camera", f"/dev/video{int(text)}", f"camera {int(text)}")
    if text.startswith("/dev/video"):
        return Source("camera", text, f"camera {text}")
    match = _DESCRIPTOR.fullmatch("pipe:0" if text in ("-", "pipe:", "/dev/stdin") else text)
    path = Path(f"/dev/fd/{match[1]}" if match else text).expanduser()
    if match and not path.is_file():
        shown = "standard input" if int(match[1]) == 0 else str(path)
        return Source("file", f"pipe:{match[1]}", shown)
    # The prefix keeps FFmpeg from reading a colon in a name as the end of a protocol's.
    return Source("file", f"file:{path}", text_redacted(str(path)), path)


def is_url(text: str) -> bool:
    """Return True if a text is an address with a scheme, such as ``rtsp://…``, and no path."""
    return _URL.match(text.lstrip()) is not None


def is_endless(container: InputContainer) -> bool:
    """Return True if what was opened over a network is sent as it happens: it states no end."""
    name = container.format.name
    if name == MJPEG_STREAM or (name == RAW_JPEG and container.size < 0):
        return True
    return container.duration is None and (container.size < 0 or name in PLAYLIST_FORMATS)


def may_be_still(container: InputContainer) -> bool:
    """Return True if the format holds a single picture, or bare pictures one after another."""
    name = container.format.name
    return name == "image2" or name.endswith("_pipe")


def main_video(container: InputContainer) -> VideoStream | None:
    """Return the first video stream that is not a picture attached to sound (a song's cover)."""
    streams = container.streams.video
    return next((s for s in streams if not s.disposition & Disposition.attached_pic), None)


def reason_of(error: Exception) -> str:
    """Return FFmpeg's words for a failure, without the address that it adds."""
    if isinstance(error, ExitError):  # PyAV's timeouts interrupt FFmpeg, which calls it an exit
        return "no data in time"
    return getattr(error, "strerror", None) or type(error).__name__


def opened(source: Source, settings: LiveSettings = LIVE_DEFAULTS) -> InputContainer:
    """Open a source for reading; the settings are for cameras and network streams.

    Raises:
        MediaError: It is missing, unreadable, or not a video.
    """
    if source.kind == "file":
        _check_file(source)
    started = time.monotonic()
    try:
        container = _opened_by_ffmpeg(source, settings)
    except InterruptedError:  # while a pipe waited for whoever writes to it
        raise KeyboardInterrupt from None
    except (av.FFmpegError, ValueError) as error:
        # FFmpeg calls a silent camera "invalid data".
        limit = settings.open_seconds
        silent = source.kind == "network" and time.monotonic() - started >= limit
        reason = f"no answer within {limit:g} s" if silent else reason_of(error)
        failure = MediaError(_explained(source, error, reason))
        if source.kind != "network":
            raise failure from error
    else:
        if container.format.name not in TEXT_ART_FORMATS:
            return container
        container.close()
        failure = MediaError(f"{source.shown} is a text file; give a video file")
    # Out here, so that FFmpeg's error is no part of it: that shows the URL with its password.
    raise failure


def _opened_by_ffmpeg(source: Source, settings: LiveSettings) -> InputContainer:
    limits = settings.open_seconds, settings.read_seconds
    if source.kind == "camera":
        return av.open(source.address, "r", format="v4l2", timeout=limits)
    # Recorders write names in local encodings; a title that is not UTF-8 must not stop us.
    if source.kind == "file":
        file = source.address if source.repeatable else _Pipe(source)
        return av.open(file, "r", metadata_errors="replace")
    if source.address.startswith("http"):
        return _opened_over_http(source.address, limits)
    rtsp = {"rtsp_transport": settings.rtsp_transport, "allowed_media_types": "video"}
    options = rtsp if source.address.startswith("rtsp") else {}
    return av.open(source.address, "r", options=options, metadata_errors="replace", timeout=limits)


class _Pipe:
    """A pipe for FFmpeg, which would go on waiting for data when it is told to end."""

    def __init__(self, source: Source) -> None:
        number = source.address.removeprefix("pipe:")
        self._file = (
            source.path.open("rb", 0) if source.path else io.FileIO(int(number), closefd=False)
        )
        self.close = self._file.close

    def read(self, size: int) -> bytes:
        while (data := self._file.read(size)) is None:
            select.select([self._file], [], [])  # it is set not to wait by itself
        return data


def _opened_over_http(address: str, limits: tuple[float, float]) -> InputContainer:
    """Open a file or stream, or any JPEG pictures one behind the other.

    Cameras send these with boundaries, line ends and headers of their own, which browsers accept
    and FFmpeg does not.
    """
    failure = av.InvalidDataError(errno.EINVAL, "no picture in it")
    once = {"analyzeduration": "1", "fpsprobesize": "0"}
    for form, options in ((None, {"formatprobesize": str(PROBE_BYTES)}), (RAW_JPEG, once)):
        try:
            container = av.open(
                address, "r", form, options, metadata_errors="replace", timeout=limits
            )
        except av.InvalidDataError as error:
            failure = error
            continue
        pictures = form or container.format.name == MJPEG_STREAM or may_be_still(container)
        # FFmpeg finds their size in the first of them.
        if not pictures or any(s.codec_context.width for s in container.streams.video):
            return container
        container.close()
    raise failure


def _check_file(source: Source) -> None:
    path, shown = source.path, source.shown
    if path is None:
        if os.isatty(int(source.address.removeprefix("pipe:"))):
            raise MediaError(f"{shown} is a terminal; send a video into it: edgecar … < clip.mp4")
        return
    try:
        if path.is_dir():
            raise MediaError(f"{shown} is a folder; give one video file")
        if not path.exists():
            raise MediaError(f"{shown} does not exist; give the path of a video file")
        if path.is_file() and path.stat().st_size == 0:
            raise MediaError(f"{shown} is empty (0 bytes); copy or record it again")
    except OSError as error:
        raise MediaError(f"{shown} cannot be read ({error.strerror}); check its rights") from error


def _explained(source: Source, error: Exception, reason: str) -> str:
    shown = source.shown
    if source.kind == "network":
        return f"{shown} does not open ({reason}); check address, password and network"
    if source.kind == "camera":
        present = ", ".join(sorted(str(device) for device in Path("/dev").glob("video*")))
        number = shown.removeprefix("camera ")
        named = f"; the file of that name is ./{number}" if Path(number).is_file() else ""
        return (
            f"{shown} ({source.address}) does not open ({reason}); give one of the cameras "
            f"here: {present or 'none found, plug one in'}{named}"
        )
    if isinstance(error, PermissionError):
        return f"{shown} may not be read; give yourself the right to read it"
    if source.path is None or not source.repeatable:
        return f"{shown} holds no video that can be read in one go ({reason}); {ONE_GO}"
    with source.path.open("rb") as file:
        if file.read(12)[4:8] == b"ftyp":
            return (
                f"{shown} has no index (moov), so the recording was cut off before its end; "
                "rebuild it with a repair tool such as untrunc"
            )
    return f"{shown} is not a video that FFmpeg reads ({reason}); give a video file"
