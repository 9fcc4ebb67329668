"""The tables of a service's TOML file; the bodies of its API hold the same keys."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from edgecar.media.sources import LIVE_DEFAULTS, Transport, source_from
from edgecar.media.writer import MAX_CRF
from edgecar.spec import Coder, Precision, Purpose

PASS = "pass"
"""Network name that means: show the picture unchanged."""

CAMERA_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "udp", "rtp")
"""Addresses a camera may have. FFmpeg knows others, which read or join files."""

PUSH_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps")
SHORTEST_TOKEN = 16
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
ZEROMQ_ADDRESS = r"^(ipc|tcp)://.+"
PATTERNS_IN_WORDS = {
    NAME: "use letters, digits, dot, dash and underscore, 64 at most, a letter or digit first",
    ZEROMQ_ADDRESS: "use an address of ZeroMQ: ipc:///PATH or tcp://HOST:PORT",
}
OWN_BY_SIZE = ("edgecar-xs", "edgecar-s", "edgecar-m")


def _in_folder_of_file(path: Path, info: ValidationInfo) -> Path:
    """Return a path of a settings file as absolute: relative ones begin at the file's folder."""
    return Path((info.context or {}).get("folder", "")) / path


PathInFile = Annotated[Path, AfterValidator(_in_folder_of_file)]
Address = Annotated[str, Field(min_length=1, max_length=2048)]
Name = Annotated[str, Field(pattern=NAME, description="Letters, digits, dot, dash, underscore.")]
Network = Annotated[Address, Field(description="A shipped network or a file.")]


class Table(BaseModel):
    """Base of all tables: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Record(Table):
    """Recording of a camera, in files of limited length that each play on their own."""

    folder: PathInFile
    """Folder in which the camera's own folder is made."""
    format: Literal["mp4", "mkv"] = "mp4"
    segment_seconds: float = Field(60, ge=1, le=3600)
    keep_hours: float | None = Field(None, gt=0, le=1_000_000)
    """Older files are removed. None keeps all."""
    keep_gib: float | None = Field(None, gt=0, le=1_000_000)
    """Size above which the oldest files of the camera are removed."""


class Push(Table):
    """Server that the restored stream is sent to."""

    url: Address

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        return _checked_address(url, PUSH_SCHEMES, "push to")


class Video(Table):
    """Encoder settings of restored streams (H.264)."""

    crf: int = Field(23, ge=0, le=MAX_CRF)
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"] = "veryfast"
    keyframe_seconds: float = Field(2, ge=0.2, le=10)
    """Time between keyframes: the most that a kill costs of a recording."""


class CameraSettings(Table):
    """One camera: its source, its network and its outputs."""

    name: Name
    source: Address = Field(coerce_numbers_to_str=True)
    """URL, number of a camera, or a file in one of the server's folders."""
    enabled: bool = True
    network: Network = "edgecar-s"
    coder: Coder | None = None
    """Coder whose weights are used. None: the coder of the camera's stream."""
    purpose: Purpose = "view"
    """Use of the restored pictures, where shipped weights for it are made."""
    shed: tuple[Network, ...] | None = Field(None, max_length=8)
    """Networks to fall back on under load, in this order; ``pass`` may be one. None: smaller
    shipped networks, then ``pass``. Empty: none, so frames are dropped instead."""
    priority: int = Field(0, ge=-1000, le=1000)
    """Cameras of higher priority keep their network longer."""
    loop: bool = True
    """A file starts again at its end."""
    rtsp_transport: Transport = LIVE_DEFAULTS.rtsp_transport
    max_latency_ms: float | None = Field(None, gt=0, le=3_600_000)
    skip_below_qp: float | None = Field(None, ge=-100, le=100)
    """H.264 frames finer than this pass unchanged. 0: none. None: decided by the weights."""
    skip_above_quality: int | None = Field(None, ge=0, le=100)
    """JPEG frames finer than this pass unchanged. 100: none. None: decided by the weights."""
    quantiser: float | None = Field(None, ge=0, le=100)
    """Told to networks that take one: QP 0 to 51, or quality 1 to 100 of weights for JPEG. None:
    what the stream states, or the middle of the range."""
    publish: bool = True
    """Frames go to the server's ZeroMQ socket, if there is one."""
    video: Video = Video()
    record: Record | None = None
    push: Push | None = None

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str, info: ValidationInfo) -> str:
        if "://" in source and not source.lower().startswith("file://"):
            return _checked_address(source, CAMERA_SCHEMES, "read")
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
        if found.path is not None and info.context:
            return str(_in_folder_of_file(found.path, info))
        return source

    @property
    def networks(self) -> tuple[str, ...]:
        """The network asked for, then those to fall back on. Nothing follows `PASS`."""
        chain = smaller_than(self.network) if self.shed is None else self.shed
        names = list(dict.fromkeys([self.network, *chain]))
        return tuple(names[: names.index(PASS) + 1] if PASS in names else names)


class Server(Table):
    """The HTTP server, and what its callers may do."""

    host: str = Field("127.0.0.1", min_length=1, max_length=255)
    port: int = Field(8321, ge=0, le=65535)
    token: SecretStr | None = Field(None, min_length=SHORTEST_TOKEN, max_length=512)
    """Secret that callers must send; required unless ``host`` is this machine alone."""
    token_file: PathInFile | None = None
    """File that holds the token, instead."""
    folders: tuple[PathInFile, ...] = ()
    """Folders in which files named by callers must lie: sources, recordings and networks."""
    hosts: tuple[str, ...] = ()
    """Further names by which callers may reach the server."""
    proxies: tuple[IPvAnyNetwork, ...] = ()
    """Addresses of reverse proxies, whose X-Forwarded-For is believed."""
    max_cameras: int = Field(64, ge=1, le=1024)
    requests_per_second: float = Field(200, gt=0, le=1_000_000)
    """Average that each caller may send."""

    @property
    def local(self) -> bool:
        """True if only this machine can reach the server."""
        return self.host in ("localhost", "::1") or bool(re.fullmatch(r"127(\.\d+){3}", self.host))

    @model_validator(mode="after")
    def _guarded(self) -> "Server":
        if self.token and self.token_file:
            raise ValueError("token and token_file are both given; give one")
        if not self.local and not (self.token or self.token_file):
            raise ValueError(
                f"host {self.host} is open to others and there is no token; "
                f"give a token of at least {SHORTEST_TOKEN} characters, or host 127.0.0.1"
            )
        return self


class EngineChoice(Table):
    """Engine that all cameras share."""

    name: str = Field("auto", min_length=1, max_length=64)
    precision: Precision | None = None
    threads: int | None = Field(None, ge=1, le=1024)


class Publish(Table):
    """ZeroMQ socket at which restored frames are published."""

    address: Address = Field(pattern=ZEROMQ_ADDRESS)
    pixels: Literal["bgr", "i420"] = "bgr"


class Settings(Table):
    """Everything in a service's file."""

    server: Server = Server()
    engine: EngineChoice = EngineChoice()
    publish: Publish | None = None
    state: PathInFile = Field(Path("edgecar-state.json"), validate_default=True)
    """File in which changes made while the service runs are kept."""
    camera: tuple[CameraSettings, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> "Settings":
        names = [camera.name for camera in self.camera]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"two cameras are called {', '.join(sorted(twice))}; rename one")
        if len(names) > self.server.max_cameras:
            raise ValueError(f"{len(names)} cameras, max_cameras is {self.server.max_cameras}")
        return self


def smaller_than(network: str) -> tuple[str, ...]:
    """Return shipped networks to fall back on, the next smaller one first, then `PASS`.

    Example:
        >>> smaller_than("edgecar-m"), smaller_than("exported/edgecar-xs.h264.int8.onnx")
        (('edgecar-s', 'edgecar-xs', 'pass'), ('pass',))
    """
    name = Path(network).name.partition(".")[0]
    # The cost of other networks is unknown; the smallest one is cheaper than any of them.
    place = OWN_BY_SIZE.index(name) if name in OWN_BY_SIZE else 1
    return (*reversed(OWN_BY_SIZE[:place]), PASS)


def _checked_address(url: str, schemes: tuple[str, ...], use: str) -> str:
    scheme, separator, _ = url.partition("://")
    if " " in url or not url.isprintable():
        raise ValueError("an address holds a space or control character; give it without")
    if not separator or scheme.lower() not in schemes:
        shown = f"{scheme}://…" if separator and scheme.isalnum() else "no address"
        raise ValueError(f"got {shown}, need one to {use}: {', '.join(schemes)}")
    return url
