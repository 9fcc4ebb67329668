"""Coded clips: kept, used again, and made anew where they must be."""

import os

import numpy as np
import pytest

from edgecar.errors import MediaError
from edgecar.evaluate import encodes
from edgecar.evaluate.encodes import Source
from edgecar.media.frame import Frame
from edgecar.media.video_codec import VideoCoding, video_coded
from tests.evaluate.conftest import CODING, SOURCE

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
    """Return True if two clips are the same in every bit."""
    planes = [
        (a.pts == b.pts, *(np.array_equal(getattr(a, p), getattr(b, p)) for p in "yuv"))
        for a, b in zip(one.frames, other.frames, strict=True)
    ]
    return one.bitstream == other.bitstream and one.kbps == other.kbps and np.all(planes)


def test_what_was_kept_is_what_was_coded_and_other_settings_are_coded(made):
    first = [Source("pan", SOURCE).coded(coding) for coding in (CODING, *OTHERS)]
    again = [Source("other", SOURCE).coded(coding) for coding in (CODING, *OTHERS)]
    assert made == [CODING, *OTHERS]
    assert all(map(same, first, again))
    changed = [*SOURCE[:-1], Frame(SOURCE[-1].y ^ 1, SOURCE[-1].u, SOURCE[-1].v)]
    Source("pan", changed).coded(CODING)
    Source("pan", SOURCE[:-1]).coded(CODING)
    assert made[-2:] == [CODING, CODING]


@pytest.mark.parametrize("damage", [b"", b"no clip", None], ids=["empty", "junk", "half"])
def test_a_damaged_file_is_made_anew(damage, made, own_cache):
    first = Source("pan", SOURCE).coded(CODING)
    (path,) = (own_cache / "encodes").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert same(Source("pan", SOURCE).coded(CODING), first)
    assert len(made) == 2
    assert path.read_bytes() == whole


def test_those_unused_for_longest_make_room(monkeypatch, made, own_cache):
    source = Source("pan", SOURCE)
    sizes = [len(source.coded(coding).bitstream) for coding in OTHERS[:2]]
    monkeypatch.setattr(encodes, "MOST_BYTES", sum(sizes) + 1)
    for path in (own_cache / "encodes").iterdir():
        os.utime(path, (0, 0))  # clocks of file systems are coarse
    source.coded(OTHERS[0])  # used again: the other one is the oldest now
    source.coded(CODING)
    made.clear()
    source.coded(OTHERS[0])
    source.coded(OTHERS[1])
    assert made == [OTHERS[1]]


def test_a_coder_that_refuses_is_named_with_the_clip(own_cache):
    odd = Frame(np.zeros((47, 64), np.uint8), *[np.zeros((24, 32), np.uint8)] * 2)
    with pytest.raises(MediaError, match="pan: clip is 64x47; 4:2:0 needs even sides"):
        Source("pan", [odd]).coded(CODING)
    assert not (own_cache / "encodes").exists()
