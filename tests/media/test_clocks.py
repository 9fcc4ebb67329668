"""Files and cameras whose clock starts late, jumps, repeats or overflows, and long gaps."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from edgecar.errors import MediaError
from edgecar.media.facts import StreamFacts
from edgecar.media.reader import open_reader
from edgecar.media.writer import open_writer
from tests.media.conftest import copied, remuxed, seconds

FRAMES = 30
OVERFLOW_SECONDS = 2**33 / 90000
BFRAMES = {"bf": "2", "g": "15"}
SOUND = 1024 / 16000  # seconds in a packet


@pytest.fixture
def make_stream(make_clip):
    """A transport stream with sound whose clock starts at a time."""

    def make(name, start_seconds, frames=FRAMES):
        late = {"output_ts_offset": str(start_seconds)}
        return make_clip(name, frames=frames, audio="aac", options=BFRAMES, muxing=late)

    return make


@pytest.fixture
def joined(make_stream, tmp_path):
    """Transport streams of clocks that start at given times, one behind the other in a file."""

    def join(*starts, frames=FRAMES):
        parts = {start: make_stream(f"{start:.0f}.ts", start, frames) for start in set(starts)}
        path = tmp_path / "joined.ts"
        path.write_bytes(b"".join(parts[start].read_bytes() for start in starts))
        return path

    return join


def sync_seconds(path):
    """How much later than the pictures the sound begins."""
    return float(seconds(path, "audio")[0] - seconds(path)[0])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("start", [36000, OVERFLOW_SECONDS - 2])
def test_an_output_starts_at_its_first_picture(make_stream, tmp_path, start, suffix):
    """Whenever the clock starts, and across the overflow of its 33 bits."""
    source, target = make_stream("a.ts", start), tmp_path / f"out{suffix}"
    warnings = copied(source, target)
    assert seconds(target) == [Fraction(n, 25) for n in range(FRAMES)]
    assert sync_seconds(target) == pytest.approx(sync_seconds(source), abs=0.0011)
    assert len(seconds(target, "audio")) == len(seconds(source, "audio"))
    assert not warnings


def test_a_late_start_within_mp4_is_cut_off_too(make_clip, tmp_path):
    times = [126000 + 3600 * n for n in range(12)]
    source = make_clip(time_base=Fraction(1, 90000), pts=times, audio="aac")
    assert seconds(source)[0] > 1
    copied(source, tmp_path / "out.mp4")
    assert seconds(tmp_path / "out.mp4") == [Fraction(n, 25) for n in range(12)]


@pytest.mark.parametrize(
    "starts",
    [
        (0, 0),
        (0, 30000),
        (36000, 0),
        (0, 0.4),
        (0, 30000, 0, 0),
        (50, OVERFLOW_SECONDS - 1, 0),
        (0, OVERFLOW_SECONDS / 2, OVERFLOW_SECONDS - 2, 20),
    ],
    ids=["repeats", "forward", "back", "back a little", "there and back", "overflow", "around"],
)
def test_times_go_on_where_the_clock_jumps(joined, tmp_path, starts):
    source, target = joined(*starts), tmp_path / "out.mp4"
    warnings = copied(source, target)
    shown = seconds(target)
    assert shown == [Fraction(n, 25) for n in range(FRAMES * len(starts))]
    jumps = warnings["jumps of the file's clock; times go on without a gap"]
    assert jumps == len(starts) - 1  # an overflow is none
    # Sound: each part's begins where its pictures do, whatever the parts before.
    sound = [float(second) for second in seconds(target, "audio")]
    assert all(0 < later - early < 3 * SOUND for early, later in pairwise(sound))
    assert sound[-1] == pytest.approx(len(starts) * FRAMES / 25, abs=2 * SOUND)
    whole = len(starts) * len(seconds(tmp_path / f"{starts[0]:.0f}.ts", "audio"))
    assert whole - 2 * len(starts) <= len(sound) <= whole


def test_short_parts_are_in_step_after_many_jumps(joined, tmp_path):
    """Parts end in the midst of a packet of sound: what is lost there must not add up."""
    source = joined(*[0, 500] * 10, frames=9)
    copied(source, tmp_path / "out.mp4")
    assert seconds(tmp_path / "out.mp4") == [Fraction(n, 25) for n in range(180)]
    sound = seconds(tmp_path / "out.mp4", "audio")
    assert sound[-1] == pytest.approx(180 / 25, abs=2 * SOUND)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_gaps_that_a_format_states_are_kept(make_clip, tmp_path, suffix):
    """As of a recorder that writes only while something moves."""
    times = [0, 512, 1024, 12800 * 300, 12800 * 300 + 512, 12800 * 4000]
    source = make_clip(
        f"in{suffix}", frames=6, time_base=Fraction(1, 12800), pts=times, options={"bf": "2"}
    )
    warnings = copied(source, tmp_path / f"out{suffix}")
    assert seconds(tmp_path / f"out{suffix}") == seconds(source)
    assert not warnings


def test_sound_that_pauses_is_no_jump(make_clip, tmp_path):
    source, silent = make_clip("a.ts", frames=25, rate=Fraction(1), audio="aac"), tmp_path / "s.ts"

    def pause(kind, _, packet):
        silence = kind == "audio" and 3 < packet.pts * packet.time_base < 20
        return [] if silence else [packet]

    warnings = copied(remuxed(source, silent, pause), tmp_path / "out.mp4")
    assert not warnings
    assert len(seconds(tmp_path / "out.mp4", "audio")) == len(seconds(silent, "audio"))
    assert np.diff(np.array(seconds(tmp_path / "out.mp4", "audio"), float)).max() > 15


def frames_at(noise_frames, times, tick=Fraction(1, 90000)):
    frames = noise_frames(len(times), (48, 64), tick)
    return [replace(f, pts=round(s / tick)) for f, s in zip(frames, times, strict=True)]


OVERNIGHT = [n / 25 for n in range(12)] + [30000 + n / 25 for n in range(12)]


@pytest.mark.parametrize("preset", ["veryfast", "veryslow"])
@pytest.mark.parametrize(
    ("suffix", "tick", "times"),
    [
        (".mp4", Fraction(1, 90000), OVERNIGHT),
        (".mov", Fraction(1, 10_000_000), [n / 100 for n in OVERNIGHT]),
        (".mp4", Fraction(1, 90000), [n * 9000.0 for n in range(30)]),
        (".mp4", Fraction(1, 1000), [n * 200 for n in OVERNIGHT]),
    ],
    ids=["overnight", "fine ticks", "a frame every 2.5 hours", "months"],
)
def test_gaps_longer_than_mp4_stores_lose_nothing(
    noise_frames, tmp_path, suffix, tick, times, preset
):
    """MP4 counts from one frame to the next in 32 bits, which is 6.6 hours of a camera's clock."""
    frames, path = frames_at(noise_frames, times, tick), tmp_path / f"out{suffix}"
    facts = StreamFacts((48, 64), Fraction(25), tick, live=True)
    with open_writer(path, like=facts, preset=preset) as writer:
        for frame in frames:
            writer.write(frame)
    (words, repeated), *others = writer.warnings.items()
    assert (words, others) == ("frames shown again in gaps longer than the format stores", [])
    shown = seconds(path)
    assert len(shown) == len(frames) + repeated
    assert {frame.pts * tick for frame in frames} <= set(shown)
    with open_reader(path) as reader:
        assert [frame.pts * frame.time_base for frame in reader] == shown
        assert not reader.warnings


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_gaps_that_the_format_stores_are_left_alone(noise_frames, tmp_path, suffix):
    times = OVERNIGHT if suffix == ".mkv" else [min(second, 11000) for second in OVERNIGHT[:13]]
    facts = StreamFacts((48, 64), Fraction(25), Fraction(1, 90000), live=True)
    with open_writer(tmp_path / f"out{suffix}", like=facts) as writer:
        for frame in frames_at(noise_frames, times):
            writer.write(frame)
    assert not writer.warnings
    assert len(seconds(tmp_path / f"out{suffix}")) == len(times)


def test_a_gap_of_an_hour_goes_into_avi(noise_frames, tmp_path):
    """FFmpeg leaves no more than 60,000 places in a row empty."""
    facts = StreamFacts((48, 64), Fraction(25), Fraction(1, 90000), live=True)
    with open_writer(tmp_path / "out.avi", like=facts, codec="ffv1") as writer:
        for frame in frames_at(noise_frames, [0, 1, 3601, 3602]):
            writer.write(frame)
    assert {0, 1, 3601, 3602} <= set(seconds(tmp_path / "out.avi"))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("failure", [MediaError("gone"), RuntimeError("broken"), SystemExit(1)])
def test_a_recording_is_kept_whatever_ends_it(noise_frames, tmp_path, suffix, failure):
    path = tmp_path / f"out{suffix}"
    facts = StreamFacts((48, 64), Fraction(25), Fraction(1, 90000), live=True)
    with (
        pytest.raises(type(failure)),
        open_writer(path, like=facts) as writer,
    ):
        for frame in frames_at(noise_frames, [n / 25 for n in range(40)]):
            writer.write(frame)
        raise failure
    assert list(tmp_path.iterdir()) == [path]
    assert seconds(path) == [Fraction(n, 25) for n in range(40)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_recording_is_kept_up_to_where_the_disk_was_full(noise_frames, tiny_disk, suffix):
    path = tiny_disk / f"out{suffix}"
    facts = StreamFacts((48, 64), Fraction(25), Fraction(1, 90000), live=True)
    with (
        pytest.raises(MediaError, match=r"cannot be written any further \(the disk is full\)"),
        open_writer(path, like=facts, crf=1) as writer,
    ):
        for frame in frames_at(noise_frames, [n / 25 for n in range(400)]):
            writer.write(frame)
    assert list(tiny_disk.iterdir()) == [path]
    with open_reader(path) as reader:
        assert len(list(reader)) > 4


def test_a_clock_that_jumps_promises_no_number_of_frames(joined):
    with open_reader(joined(10, 30000)) as reader:
        assert reader.frame_count is None
    with open_reader(joined(10)) as reader:
        assert reader.frame_count == pytest.approx(FRAMES, abs=2)
