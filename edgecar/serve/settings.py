"""What a person writes about a service: the tables of its TOML file and the bodies of its API."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from edgecar.media.sources import DEFAULT_SETTINGS, Transport, source_from
from edgecar.media.writer import MAX_CRF
from edgecar.spec import Coder, Precision

PASS = "pass"
"""A network's name that means: show the picture as it is."""

CAMERA_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "udp", "rtp")
"""What a camera may be reached by; FFmpeg knows others, which read files or join them."""

PUSH_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps")

LONGEST_ADDRESS = 2048
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
ZEROMQ_ADDRESS = r"^(ipc|tcp)://.+"
IN_WORDS = {
    NAME: "use letters, digits, dot, dash and underscore, 64 at most, a letter or digit first",
    ZEROMQ_ADDRESS: "use an address of ZeroMQ: ipc:///PATH or tcp://HOST:PORT",
}
"""What patterns ask for, for people."""

Name = Annotated[str, Field(pattern=NAME, description="Letters, digits, dot, dash, underscore.")]
Network = Annotated[
    str, Field(min_length=1, max_length=LONGEST_ADDRESS, description="A shipped network or a file.")
]
Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"]


class Table(BaseModel):
    """Settings that do not change, with unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Record(Table):
    """Where a camera is recorded, in files of some length that each play by themselves."""

    folder: Path
    """The camera's own folder is made in it."""
    format: Literal["mp4", "mkv"] = "mp4"
    segment_seconds: float = Field(60, ge=1, le=3600)
    keep_hours: float | None = Field(None, gt=0, le=1_000_000)
    """Older files are removed; None keeps all."""
    keep_gib: float | None = Field(None, gt=0, le=1_000_000)
    """The oldest files of the camera are removed beyond that."""


class Push(Table):
    """Where the restored stream is sent to."""

    url: str = Field(max_length=LONGEST_ADDRESS)

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        return _with_scheme(url, PUSH_SCHEMES, "push to")


class Video(Table):
    """How restored streams are coded (H.264)."""

    crf: int = Field(23, ge=0, le=MAX_CRF)
    preset: Preset = "veryfast"
    keyframe_seconds: float = Field(2, ge=0.2, le=10)
    """From one keyframe to the next: what a kill costs of a recording at most."""


class Camera(Table):
    """One camera and what is done with its pictures."""

    name: Name
    source: str = Field(min_length=1, max_length=LONGEST_ADDRESS)
    """URL, number of a camera, or a file under one of the server's folders."""
    enabled: bool = True
    network: Network = "edgecar-s"
    coder: Coder | None = None
    """Weights to take; None: by what the camera sends."""
    shed: tuple[Network, ...] | None = Field(None, max_length=8)
    """Networks to fall back on under load, in that order, ``pass`` among them; None: smaller ones
    that ship, then ``pass``; empty: none, so that frames are dropped."""
    priority: int = Field(0, ge=-1000, le=1000)
    """Cameras of a higher one keep their network longer."""
    loop: bool = True
    """A file begins again at its end."""
    rtsp_transport: Transport = DEFAULT_SETTINGS.rtsp_transport
    max_latency_ms: float | None = Field(None, gt=0, le=3_600_000)
    skip_below_qp: float | None = Field(None, ge=-100, le=100)
    """H.264 frames finer than this pass as they are; 0: none; None: by the weights."""
    skip_above_quality: int | None = Field(None, ge=0, le=100)
    """JPEG frames finer than this pass as they are; 100: none; None: by the weights."""
    publish: bool = True
    """Frames go to the server's ZeroMQ socket, where it has one."""
    video: Video = Video()
    record: Record | None = None
    push: Push | None = None

    @field_validator("source", mode="before")
    @classmethod
    def _numbered(cls, source: object) -> object:
        is_number = isinstance(source, int) and not isinstance(source, bool)
        return str(source) if is_number else source

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        if "://" in source and not source.lower().startswith("file://"):
            return _with_scheme(source, CAMERA_SCHEMES, "read")
        try:
            found = source_from(source)
        except (RuntimeError, ValueError) as error:  # "~nobody/…"
            raise ValueError(f"no path is meant by it ({error}); give a whole path") from error
        if found.kind == "file" and found.path is None:
            raise ValueError("a service reads no standard input; give a file, camera or address")
        if "\0" in source:
            raise ValueError("a path holds a zero byte; give a path without")
        if source.startswith("/dev/video") and not source.removeprefix("/dev/video").isdecimal():
            raise ValueError("no camera is meant by it; give its number, or /dev/videoNUMBER")
        return source

    @property
    def is_file(self) -> bool:
        """Whether frames come from a file."""
        return source_from(self.source).kind == "file"

    @property
    def networks(self) -> tuple[str, ...]:
        """The network asked for, then those to fall back on; `PASS` ends it."""
        if self.network == PASS:
            return (PASS,)
        chain = self.shed if self.shed is not None else smaller_than(self.network)
        wanted = dict.fromkeys([self.network, *chain])
        names = list(wanted)
        return tuple(names[: names.index(PASS) + 1] if PASS in names else names)


class Server(Table):
    """The HTTP server, and what its callers may do."""

    host: str = Field("127.0.0.1", min_length=1, max_length=255)
    port: int = Field(8321, ge=0, le=65535)
    token: SecretStr | None = Field(None, min_length=16, max_length=512)
    """Callers must know it; needed wherever ``host`` is not this machine alone."""
    token_file: Path | None = None
    """A file that holds it, instead."""
    folders: tuple[Path, ...] = ()
    """File sources, recordings and networks' files named by callers must lie in one of these."""
    hosts: tuple[str, ...] = ()
    """Names besides its address by which callers may reach the server."""
    proxies: tuple[str, ...] = ()
    """Addresses of reverse proxies: who calls is what they say in X-Forwarded-For."""
    max_cameras: int = Field(64, ge=1, le=1024)
    requests_per_second: float = Field(200, gt=0, le=1_000_000)
    """Of one caller, in the long run."""

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in ("localhost", "::1") or bool(re.fullmatch(r"127(\.\d+){3}", self.host))

    @model_validator(mode="after")
    def _guarded(self) -> "Server":
        if self.token and self.token_file:
            raise ValueError("token and token_file are both given; give one")
        if not self.local and not (self.token or self.token_file):
            raise ValueError(
                f"host {self.host} is open to others and there is no token; "
                "give a token of at least 16 characters, or host 127.0.0.1"
            )
        return self


class EngineChoice(Table):
    """What computes."""

    name: str = Field("auto", min_length=1, max_length=64)
    precision: Precision | None = None
    threads: int | None = Field(None, ge=1, le=1024)


class Publish(Table):
    """A ZeroMQ socket that restored frames are published at."""

    address: str = Field(pattern=ZEROMQ_ADDRESS, max_length=LONGEST_ADDRESS)
    pixels: Literal["bgr", "i420"] = "bgr"


class Settings(Table):
    """A service's whole file."""

    server: Server = Server()
    engine: EngineChoice = EngineChoice()
    publish: Publish | None = None
    state: Path = Path("edgecar-state.json")
    """Where changes made while it runs are kept."""
    camera: tuple[Camera, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> "Settings":
        names = [camera.name for camera in self.camera]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"two cameras are called {', '.join(sorted(twice))}; rename one")
        if len(names) > self.server.max_cameras:
            raise ValueError(f"{len(names)} cameras, max_cameras is {self.server.max_cameras}")
        return self


OWN_BY_SIZE = ("edgecar-xs", "edgecar-s", "edgecar-m")


def smaller_than(network: str) -> tuple[str, ...]:
    """Shipped networks to fall back on, the next smaller one first, then `PASS`.

    Args:
        network: A shipped name, or a file, which `edgecar export` names after its network.

    Example:
        >>> smaller_than("edgecar-m")
        ('edgecar-s', 'edgecar-xs', 'pass')
        >>> smaller_than("exported/edgecar-xs.h264.int8.onnx")
        ('pass',)
    """
    name = Path(network).name.partition(".")[0]
    # Of others nobody knows how they compare; the smallest is a relief to every one.
    place = OWN_BY_SIZE.index(name) if name in OWN_BY_SIZE else 1
    return (*reversed(OWN_BY_SIZE[:place]), PASS)


def _with_scheme(url: str, schemes: tuple[str, ...], use: str) -> str:
    """The same, if it is an address of one of these kinds.

    Raises:
        ValueError: It is not.
    """
    scheme, separator, _ = url.partition("://")
    if " " in url or not url.isprintable():
        raise ValueError("an address holds a space or control character; give it without")
    if not separator or scheme.lower() not in schemes:
        shown = f"{scheme}://…" if separator and scheme.isalnum() else "no address"
        raise ValueError(f"got {shown}, need one to {use}: {', '.join(schemes)}")
    return url
