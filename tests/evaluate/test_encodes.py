"""Coded clips: kept, used again, made anew where they must be, and made ahead."""

import os
import threading

import numpy as np
import pytest

from edgecar.errors import MediaError
from edgecar.evaluate import encodes
from edgecar.evaluate.encodes import Encodes
from edgecar.media.frame import Frame
from edgecar.media.video_codec import VideoCoding, video_coded
from tests.evaluate.test_video import SOURCE

CODING = VideoCoding("h264", 38)
OTHERS = [VideoCoding("h264", 30), VideoCoding("hevc", 38), VideoCoding("h264", 38, max_kbps=9)]


@pytest.fixture
def made(monkeypatch):
    """Codings that were really made."""
    calls = []

    def counting(frames, coding):
        calls.append(coding)
        return video_coded(frames, coding)

    monkeypatch.setattr(encodes, "video_coded", counting)
    return calls


def same(one, other) -> bool:
    """Whether two clips are, in every bit."""
    planes = [
        (a.pts, b.pts, np.array_equal(a.y, b.y), np.array_equal(a.u, b.u), np.array_equal(a.v, b.v))
        for a, b in zip(one.frames, other.frames, strict=True)
    ]
    metadata = one.bitstream == other.bitstream and one.coded_bytes == other.coded_bytes
    return metadata and all(p[0] == p[1] and all(p[2:]) for p in planes)


@pytest.mark.parametrize("coding", [CODING, *OTHERS], ids=str)
def test_what_was_kept_is_what_was_coded(coding, made, tmp_path) -> None:
    first = Encodes("pan", SOURCE, tmp_path).coded(coding)
    again = Encodes("another name", SOURCE, tmp_path).coded(coding)
    assert made == [coding]
    assert same(first, again)


def test_other_frames_and_settings_are_coded(made, tmp_path) -> None:
    for coding in (CODING, *OTHERS):
        Encodes("pan", SOURCE, tmp_path).coded(coding)
    changed = [*SOURCE[:-1], Frame(SOURCE[-1].y ^ 1, SOURCE[-1].u, SOURCE[-1].v)]
    Encodes("pan", changed, tmp_path).coded(CODING)
    Encodes("pan", SOURCE[:-1], tmp_path).coded(CODING)
    assert made == [CODING, *OTHERS, CODING, CODING]


@pytest.mark.parametrize("damage", [b"", b"no clip", None], ids=["empty", "junk", "half"])
def test_damaged_file_is_made_anew(damage, made, tmp_path) -> None:
    first = Encodes("pan", SOURCE, tmp_path).coded(CODING)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert same(Encodes("pan", SOURCE, tmp_path).coded(CODING), first)
    assert len(made) == 2
    assert path.read_bytes() == whole


def test_those_unused_for_longest_make_room(monkeypatch, made, tmp_path) -> None:
    clip = Encodes("pan", SOURCE, tmp_path)
    sizes = [len(clip.coded(coding).bitstream) for coding in OTHERS[:2]]
    monkeypatch.setattr(encodes, "MOST_BYTES", sum(sizes) + 1)
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))  # clocks of file systems are coarse
    clip.coded(OTHERS[0])  # used again: the other one is the oldest now
    clip.coded(CODING)
    made.clear()
    clip.coded(OTHERS[0])
    assert made == []
    clip.coded(OTHERS[1])
    assert made == [OTHERS[1]]


def test_next_one_is_coded_while_one_is_used(monkeypatch, tmp_path) -> None:
    begun = threading.Event()

    def telling(frames, coding):
        if coding == OTHERS[0]:
            begun.set()
        return video_coded(frames, coding)

    monkeypatch.setattr(encodes, "video_coded", telling)
    ahead = Encodes("pan", SOURCE, tmp_path).ahead([CODING, *OTHERS])
    next(ahead)
    assert begun.wait(30)  # nobody has asked for it
    assert len(list(ahead)) == len(OTHERS)


def test_coder_that_refuses_is_named_with_the_clip(tmp_path) -> None:
    odd = Frame(np.zeros((47, 64), np.uint8), *[np.zeros((24, 32), np.uint8)] * 2)
    with pytest.raises(MediaError, match="pan: clip is 64x47; 4:2:0 needs even sides"):
        list(Encodes("pan", [odd], tmp_path).ahead([CODING]))
    assert list(tmp_path.iterdir()) == []
