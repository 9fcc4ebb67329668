from fractions import Fraction
from itertools import chain, pairwise

import av
import pytest

from edgecar.batch.cut import plan_clip
from edgecar.batch.part import SpanFrames
from tests.batch.conftest import FRAMES, OPTIONS, PART_SECONDS, seen, straight


def check_parts(path, least):
    """Cut a clip; its parts must be the frames of the whole, and their seams must fit."""
    plan = plan_clip(path, "h264", PART_SECONDS)
    assert len(plan.spans) >= least
    sources = [SpanFrames(path, plan, span) for span in plan.spans]
    read = [seen(source) for source in sources]
    for source in sources:
        source.close()
    assert list(chain(*read)) == straight(path)
    if len(plan.spans) > 1:
        assert [len(part) for part in read] == [span.frames for span in plan.spans]
    for before, after in pairwise(sources):
        assert before.goes_on[: len(after.begins)] == after.begins[: len(before.goes_on)] != []
    return plan


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [*((kind, ".mp4") for kind in OPTIONS), ("open", ".mkv"), ("hevc open", ".mkv")],
)
def test_parts_decode_to_the_frames_of_the_whole(gop_clip, kind, suffix):
    path = gop_clip(kind, f"clip{suffix}")
    check_parts(path, least=5)
    assert len(straight(path)) == FRAMES
    if "open" in kind or "radl" in kind:  # pictures behind a keyframe are shown before it
        with av.open(str(path)) as container:
            packets = [p for p in container.demux(video=0) if p.size]
        keys = [n for n, p in enumerate(packets) if p.is_keyframe][1:]
        assert any(packets[n + 1].pts < packets[n].pts for n in keys)


def test_variable_frame_rate_and_large_times(gop_clip):
    pts = [1_000_003 + 40 * n + 7 * (n % 3) for n in range(FRAMES)]
    check_parts(gop_clip("open", pts=pts, time_base=Fraction(1, 1000)), least=4)


@pytest.mark.parametrize("name", ["clip.264", "clip.avi", "clip.ts"])
def test_without_an_index_a_clip_is_one_part(gop_clip, name):
    path = gop_clip("no B-frames", name, container="h264" if name == "clip.264" else None)
    assert "no index" in check_parts(path, least=1).why_whole


def test_times_that_the_output_cannot_tell_apart_leave_a_clip_whole(gop_clip):
    pts = [3 * n for n in range(FRAMES)]
    path = gop_clip("no B-frames", pts=pts, time_base=Fraction(1, 10_000))
    assert "one time" in plan_clip(path, "ffv1", 0.001).why_whole
    assert not plan_clip(path, "h264", 0.001).why_whole


def test_a_damaged_file_is_read_in_one_go(gop_clip):
    path = gop_clip("closed", muxing={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-2000])
    assert "damage" in check_parts(path, least=1).why_whole


def test_short_clips_are_not_cut(gop_clip):
    plan = plan_clip(gop_clip(), "h264", 30)
    assert [span.start for span in plan.spans] == [None]
    assert not plan.why_whole
