"""Clips with short groups of pictures, and what a straight read of them gives."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from edgecar.media.reader import open_reader
from tests.media.conftest import audio_packets, make_clip  # noqa: F401  # fixtures

GOP = 6
FRAMES = 32
RATE = Fraction(25)
PART_SECONDS = GOP / 25
OPTIONS = {
    "closed": {"g": str(GOP), "bf": "2", "preset": "fast", "x264-params": "scenecut=0"},
    "open": {"g": str(GOP), "bf": "3", "preset": "fast", "x264-params": "open-gop=1:scenecut=0"},
    "no B-frames": {"g": str(GOP), "bf": "0"},
    "hevc open": {
        "preset": "ultrafast",
        "x265-params": f"keyint={GOP}:min-keyint={GOP}:bframes=3:open-gop=1:scenecut=0:log-level=0",
    },
    "hevc radl": {  # pictures shown before a keyframe that need none before it
        "preset": "ultrafast",
        "x265-params": f"keyint={GOP}:min-keyint={GOP}:bframes=3:open-gop=0:radl=2:scenecut=0:"
        "log-level=0",
    },
    "hevc closed": {
        "preset": "ultrafast",
        "x265-params": f"keyint={GOP}:min-keyint={GOP}:bframes=3:open-gop=0:scenecut=0:log-level=0",
    },
}

MADE: dict[str, bytes] = {}
"""Clips that were made, which takes as long as most tests."""


@pytest.fixture
def gop_clip(make_clip, tmp_path) -> Callable[..., Path]:  # noqa: F811
    """A function from a kind of `OPTIONS` to a clip of 32 frames and six groups of pictures."""

    def make(kind: str = "closed", name: str = "clip.mp4", **changes: object) -> Path:
        codec = "libx265" if kind.startswith("hevc") else "libx264"
        arguments = {"frames": FRAMES, "codec": codec, "options": OPTIONS[kind], **changes}
        same = f"{Path(name).suffix} {arguments}"
        if same not in MADE:
            MADE[same] = make_clip(name, **arguments).read_bytes()
        (tmp_path / name).write_bytes(MADE[same])
        return tmp_path / name

    return make


@dataclass(frozen=True)
class Seen:
    """A frame, comparable."""

    pts: int
    pixels: bytes


def seen(frames) -> list[Seen]:
    return [Seen(f.pts, b"".join((f.y.tobytes(), f.u.tobytes(), f.v.tobytes()))) for f in frames]


def straight(path: Path) -> list[Seen]:
    with open_reader(path) as reader:
        return seen(reader)


def outputs_of(folder: Path) -> dict[str, bytes]:
    """Bytes of all files in a folder that are not hidden, by their places in it."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*"))}
    return {
        str(below): path.read_bytes()
        for below, path in found.items()
        if path.is_file() and not below.parts[0].startswith(".")
    }
