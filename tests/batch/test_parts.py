"""Cutting, restoring part by part, and joining again."""

from fractions import Fraction
from itertools import chain, pairwise

import av
import pytest

from edgecar.artifact import Artifact
from edgecar.batch.parts import (
    SUFFIXES,
    SpanFrames,
    check_seams,
    finished_part,
    join_parts,
    make_part,
    part_path,
    plan_clip,
)
from edgecar.engines.fake import FakeEngine
from edgecar.errors import BatchError
from edgecar.media.frame import Colour
from edgecar.media.reader import open_reader
from edgecar.media.writer import open_writer
from edgecar.metadata import Metadata
from edgecar.runtime.restorer import Restorer
from tests.batch.conftest import FRAMES, GOP, OPTIONS, PART_SECONDS, seen

NOTHING = Artifact(Metadata("none", 1, 2, 1, "local", 8, "fp32", "", "", 0.0, 0.0), b"")


def check_parts(path, least):
    """Cut a clip; its parts must be the frames of the whole, and their seams must fit."""
    plan = plan_clip(path, "h264", PART_SECONDS)
    assert len(plan.spans) >= least
    sources = [SpanFrames(path, plan, span) for span in plan.spans]
    read = [seen(source) for source in sources]
    for source in sources:
        source.close()
    with open_reader(path) as reader:
        assert list(chain(*read)) == seen(reader)
    if len(plan.spans) > 1:
        assert [len(part) for part in read] == [span.frames for span in plan.spans]
    for before, after in pairwise(sources):
        assert before.goes_on[: len(after.begins)] == after.begins[: len(before.goes_on)] != []
    return plan, sum(map(len, read))


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [*((kind, ".mp4") for kind in OPTIONS), ("open", ".mkv"), ("hevc open", ".mkv")],
)
def test_parts_decode_to_the_frames_of_the_whole(gop_clip, kind, suffix):
    path = gop_clip(kind, f"clip{suffix}")
    assert check_parts(path, least=5)[1] == FRAMES
    if "open" in kind or "radl" in kind:  # pictures behind a keyframe are shown before it
        with av.open(str(path)) as container:
            packets = [p for p in container.demux(video=0) if p.size]
        keys = [n for n, p in enumerate(packets) if p.is_keyframe][1:]
        assert any(packets[n + 1].pts < packets[n].pts for n in keys)


def test_variable_frame_rate_and_large_times(gop_clip):
    pts = [1_000_003 + 40 * n + 7 * (n % 3) for n in range(FRAMES)]
    check_parts(gop_clip("open", pts=pts, time_base=Fraction(1, 1000)), least=4)


@pytest.mark.parametrize("name", ["clip.264", "clip.avi", "clip.ts", "cut short.mp4"])
def test_clips_that_stay_whole(gop_clip, name):
    """Formats without an index, and a damaged file."""
    path = gop_clip(
        "no B-frames",
        name,
        container="h264" if name == "clip.264" else None,
        muxing={"movflags": "faststart"} if name.endswith(".mp4") else {},
    )
    if name.endswith(".mp4"):
        path.write_bytes(path.read_bytes()[:-2000])
    plan, _ = check_parts(path, least=1)
    assert ("damage" if name.endswith(".mp4") else "no index") in plan.why_whole


def test_times_that_the_output_cannot_tell_apart_leave_a_clip_whole(gop_clip):
    pts = [3 * n for n in range(FRAMES)]
    path = gop_clip("no B-frames", pts=pts, time_base=Fraction(1, 10_000))
    assert "one time" in plan_clip(path, "ffv1", 0.001).why_whole
    assert not plan_clip(path, "h264", 0.001).why_whole
    (span,) = plan_clip(path, "h264", 30).spans  # shorter than a part
    assert span.start is None


@pytest.fixture
def batched(tmp_path):
    """A function that does a clip part by part; returns the joined file and the parts."""

    def do(path, codec="h264", part_seconds=PART_SECONDS):
        plan = plan_clip(path, codec, part_seconds)
        folder = tmp_path / f"parts of {path.name} {codec} {part_seconds}"
        paths = [part_path(folder, number, codec) for number in range(len(plan.spans))]
        with Restorer(NOTHING, FakeEngine(lambda batch: batch)) as restorer:
            parts = [
                make_part(path, plan, span, restorer, out, codec, "key")
                for span, out in zip(plan.spans, paths, strict=True)
            ]
        assert parts == [finished_part(out, "key") for out in paths]
        check_seams(path, parts)
        join_parts(plan, parts, folder, codec)
        return folder / f"whole{SUFFIXES[codec]}", parts

    return do


def straight_run(path, target, codec):
    """As `edgecar run` writes it, with nothing restored."""
    with open_reader(path) as reader, open_writer(target, like=reader, codec=codec) as writer:
        for frame in reader:
            writer.write(frame)
    return target


def stated(path):
    """All that a player is told of a video but its pixels."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        context = video.codec_context
        times = sorted((p.pts * video.time_base) for p in container.demux(video) if p.size)
        facts = {
            "size": (video.width, video.height),
            "aspect": video.sample_aspect_ratio,
            "rate": video.average_rate,
            "colour": (context.color_range, context.colorspace, context.color_primaries,
                       context.color_trc),
            "pixels": context.pix_fmt,
            "codec": (context.codec.canonical_name, context.profile, context.codec_tag),
            "duration": container.duration,
            "sound": [s.codec_context.name for s in container.streams.audio],
        }  # fmt: skip
    with open_reader(path) as reader:
        return facts, times, reader.facts.rotation_degrees


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rate": Fraction(30000, 1001), "audio": "aac"},
        {"colour": Colour(False, 1, 1, 1), "aspect": Fraction(4, 3), "rotation": 90},
        {"colour": Colour(True, 5, 5, 6), "pixels": "yuvj420p"},
        {"pts": [50 + 40 * n + 7 * (n % 3) for n in range(FRAMES)],
         "time_base": Fraction(1, 1000)},
    ],
    ids=["plain", "ntsc with sound", "facts", "full range", "variable rate"],
)  # fmt: skip
def test_a_joined_clip_states_what_a_straight_run_does(
    batched, gop_clip, audio_packets, tmp_path, changes, codec
):
    path = gop_clip("open", **changes)
    joined, parts = batched(path, codec)
    assert len(parts) >= 3
    once = straight_run(path, tmp_path / f"once{SUFFIXES[codec]}", codec)
    assert stated(joined) == stated(once)
    assert audio_packets(joined) == audio_packets(path)
    with av.open(str(joined)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    assert codec == "ffv1" or sum(packet.is_keyframe for packet in packets) == len(parts)
    assert [p.dts for p in packets] == sorted({p.dts for p in packets})
    first = joined.read_bytes()
    assert batched(path, codec)[0].read_bytes() == first


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.264"])
def test_lossless_parts_are_the_frames_of_the_clip(batched, gop_clip, name):
    path = gop_clip("no B-frames", name)
    with open_reader(path) as before, open_reader(batched(path, "ffv1")[0]) as after:
        assert [s.pixels for s in seen(before)] == [s.pixels for s in seen(after)]


def test_parts_that_do_not_count(batched, gop_clip):
    joined, parts = batched(gop_clip())
    other = [*parts[:-1], parts[-1].__class__(**{**vars(parts[-1]), "engine": "other"})]
    with pytest.raises(BatchError, match=r"by fake.* and by other"):
        check_seams("clip.mp4", other)
    path = part_path(joined.parent, 1, "h264")
    assert finished_part(path, "key") == parts[1]
    assert finished_part(path, "other key") is None
    path.write_bytes(path.read_bytes()[:-1])
    assert finished_part(path, "key") is None
    path.with_suffix(".json").write_text("{}")
    assert finished_part(path, "key") is None


def remuxed(source, target, change):
    """The same packets, changed: a function of them and of the seconds in a tick."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(whole.streams.video[0])
        packets = [packet for packet in whole.demux(video=0) if packet.size]
        change(packets, packets[0].time_base)
        for packet in packets:
            packet.stream = stream
            output.mux(packet)
    return target


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
@pytest.mark.parametrize("part_seconds", [PART_SECONDS, 60])
def test_a_last_frame_that_is_held_is_held_in_the_joined_clip(
    batched, gop_clip, tmp_path, part_seconds, codec
):
    def hold(packets, tick):
        packets[-1].duration = round(3 / tick)

    path = remuxed(gop_clip("no B-frames", "short.mp4"), tmp_path / "held.mp4", hold)
    joined, parts = batched(path, codec, part_seconds)
    assert len(parts) == (1 if part_seconds == 60 else 6)
    once = straight_run(path, tmp_path / f"once{SUFFIXES[codec]}", codec)
    assert stated(joined) == stated(once)
    with open_reader(joined) as reader:
        *_, last = reader
    assert last.duration * last.time_base == 3


@pytest.mark.parametrize("gap_at", [3 * GOP, 3 * GOP + 2])
def test_a_gap_longer_than_mp4_stores_is_filled_as_in_a_straight_run(
    batched, gop_clip, tmp_path, gap_at
):
    def part_them(packets, tick):
        for packet in packets[gap_at:]:
            packet.pts = packet.dts = packet.pts + round(60_000 / tick)

    path = remuxed(gop_clip("no B-frames", "short.mkv"), tmp_path / "gap.mkv", part_them)
    joined, parts = batched(path)
    assert len(parts) == 1
    assert parts[0].warnings["frames shown again in gaps longer than the format stores"]
    once = straight_run(path, tmp_path / "once.mp4", "h264")
    assert stated(joined)[1] == stated(once)[1]
    assert batched(path, "ffv1")[1][1:]  # Matroska stores the gap, so the clip is cut
