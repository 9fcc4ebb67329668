"""Files and cameras whose clock starts late, jumps, repeats or overflows, gaps, and last frames."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from PIL import Image

from edgecar.errors import MediaError
from edgecar.media.facts import StreamFacts
from edgecar.media.reader import open_reader
from tests.media.conftest import copied, photo, read_all, remuxed, seconds, write_all

FRAMES = 30
OVERFLOW_SECONDS = 2**33 / 90000
SOUND = 1024 / 16000  # seconds in a packet
EVEN = [Fraction(n, 25) for n in range(400)]
TICK = Fraction(1, 90000)
LIVE = StreamFacts((48, 64), Fraction(25), TICK, live=True)
each_suffix = pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])


@pytest.fixture
def make_stream(make_clip):
    """A transport stream with sound whose clock starts at a time."""

    def make(name, start_seconds, frames=FRAMES):
        late, options = {"output_ts_offset": str(start_seconds)}, {"bf": "2", "g": "15"}
        return make_clip(name, frames=frames, audio="aac", options=options, muxing=late)

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


@each_suffix
@pytest.mark.parametrize("start", [36000, OVERFLOW_SECONDS - 2])
def test_an_output_starts_at_its_first_picture(make_stream, tmp_path, start, suffix):
    """Whenever the clock starts, and across the overflow of its 33 bits."""
    source, target = make_stream("a.ts", start), tmp_path / f"out{suffix}"
    assert not copied(source, target)
    assert seconds(target) == EVEN[:FRAMES]
    assert sync_seconds(target) == pytest.approx(sync_seconds(source), abs=0.0011)
    assert len(seconds(target, "audio")) == len(seconds(source, "audio"))


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
    assert seconds(target) == EVEN[: FRAMES * len(starts)]
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
    copied(joined(*[0, 500] * 10, frames=9), tmp_path / "out.mp4")
    assert seconds(tmp_path / "out.mp4") == EVEN[:180]
    assert seconds(tmp_path / "out.mp4", "audio")[-1] == pytest.approx(180 / 25, abs=2 * SOUND)


def test_a_clock_that_jumps_promises_no_number_of_frames(joined):
    with open_reader(joined(10, 30000)) as reader:
        assert reader.frame_count is None
    with open_reader(joined(10)) as reader:
        assert reader.frame_count == pytest.approx(FRAMES, abs=2)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_gaps_that_a_format_states_are_kept(make_clip, tmp_path, suffix):
    """As of a recorder that writes only while something moves."""
    times = [0, 512, 1024, 12800 * 300, 12800 * 300 + 512, 12800 * 4000]
    settings = {"time_base": Fraction(1, 12800), "pts": times, "options": {"bf": "2"}}
    source = make_clip(f"in{suffix}", frames=6, **settings)
    assert not copied(source, tmp_path / f"out{suffix}")
    assert seconds(tmp_path / f"out{suffix}") == seconds(source)


def test_sound_that_pauses_is_no_jump(make_clip, tmp_path):
    source, silent = make_clip("a.ts", frames=25, rate=Fraction(1), audio="aac"), tmp_path / "s.ts"

    def pause(kind, _, packet):
        return [packet] * (kind != "audio" or not 3 < packet.pts * packet.time_base < 20)

    assert not copied(remuxed(source, silent, pause), tmp_path / "out.mp4")
    sound = seconds(tmp_path / "out.mp4", "audio")
    assert len(sound) == len(seconds(silent, "audio"))
    assert np.diff(np.array(sound, float)).max() > 15


def frames_at(noise_frames, times, tick=TICK):
    frames = noise_frames(len(times), (48, 64), tick)
    return [replace(f, pts=round(s / tick)) for f, s in zip(frames, times, strict=True)]


OVERNIGHT = [n / 25 for n in range(12)] + [30000 + n / 25 for n in range(12)]


@pytest.mark.parametrize("preset", ["veryfast", "veryslow"])
@pytest.mark.parametrize(
    ("suffix", "tick", "times"),
    [
        (".mp4", TICK, OVERNIGHT),
        (".mov", Fraction(1, 10_000_000), [n / 100 for n in OVERNIGHT]),
        (".mp4", TICK, [n * 9000.0 for n in range(30)]),
        (".mp4", Fraction(1, 1000), [n * 200 for n in OVERNIGHT]),
    ],
    ids=["overnight", "fine ticks", "a frame every 2.5 hours", "months"],
)
def test_gaps_longer_than_mp4_stores_lose_nothing(
    noise_frames, tmp_path, suffix, tick, times, preset
):
    """MP4 counts from one frame to the next in 32 bits, which is 6.6 hours of a camera's clock."""
    frames, path = frames_at(noise_frames, times, tick), tmp_path / f"out{suffix}"
    writer = write_all(path, replace(LIVE, time_base=tick), frames, preset=preset)
    ((words, repeated),) = writer.warnings.items()
    assert words == "frames shown again in gaps longer than the format stores"
    shown = seconds(path)
    assert len(shown) == len(frames) + repeated
    assert {frame.pts * tick for frame in frames} <= set(shown)
    back, reader = read_all(path)
    assert [frame.pts * frame.time_base for frame in back] == shown
    assert not reader.warnings


@pytest.mark.parametrize(
    ("suffix", "times"),
    [(".mkv", OVERNIGHT), (".mp4", [min(second, 11000) for second in OVERNIGHT[:13]])],
)
def test_gaps_that_the_format_stores_are_left_alone(noise_frames, tmp_path, suffix, times):
    path = tmp_path / f"out{suffix}"
    assert not write_all(path, LIVE, frames_at(noise_frames, times)).warnings
    assert len(seconds(path)) == len(times)


def test_a_gap_of_an_hour_goes_into_avi(noise_frames, tmp_path):
    """FFmpeg leaves no more than 60,000 places in a row empty."""
    write_all(tmp_path / "out.avi", LIVE, frames_at(noise_frames, [0, 1, 3601, 3602]), codec="ffv1")
    assert {0, 1, 3601, 3602} <= set(seconds(tmp_path / "out.avi"))


@each_suffix
@pytest.mark.parametrize("failure", [MediaError("gone"), RuntimeError("broken"), SystemExit(1)])
def test_a_recording_is_kept_whatever_ends_it(noise_frames, tmp_path, suffix, failure):
    path = tmp_path / f"out{suffix}"

    def frames():
        yield from frames_at(noise_frames, [n / 25 for n in range(40)])
        raise failure

    with pytest.raises(type(failure)):
        write_all(path, LIVE, frames())
    assert list(tmp_path.iterdir()) == [path]
    assert seconds(path) == EVEN[:40]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_recording_is_kept_up_to_where_the_disk_was_full(noise_frames, tiny_disk, suffix):
    path, frames = tiny_disk / f"out{suffix}", frames_at(noise_frames, [n / 25 for n in range(400)])
    with pytest.raises(MediaError, match=r"cannot be written any further \(the disk is full\)"):
        write_all(path, LIVE, frames, crf=1)
    assert list(tiny_disk.iterdir()) == [path]
    assert len(read_all(path)[0]) > 4


def shown_until(path):
    """End of the video stream in seconds, as its container states it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stated := stream.metadata.get("DURATION"):
            return float(stated.rpartition(":")[2])
        return float((stream.duration + stream.start_time) * stream.time_base)


@each_suffix
def test_a_last_frame_that_is_held_is_held_in_the_output(tmp_path, suffix):
    """A GIF of three frames whose last one stays for 3 seconds, again and again copied."""
    gif = tmp_path / "hold.gif"
    pictures = [Image.fromarray(photo(20 * n, (48, 64))) for n in range(3)]
    options = {"save_all": True, "append_images": pictures[1:], "duration": [500, 500, 3000]}
    pictures[0].save(gif, **options)
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    for source, target in ((gif, first), (first, second)):
        copied(source, target)
        assert shown_until(target) == pytest.approx(4, abs=0.002)
    frames, reader = read_all(second)
    assert [float(f.pts * f.time_base) for f in frames] == [0, 0.5, 1]
    assert not reader.warnings


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("bframes", ["0", "2"])
def test_frames_shown_as_long_as_others_are_not_changed(make_clip, tmp_path, suffix, bframes):
    source = make_clip(f"a{suffix}", rate=Fraction(30000, 1001), options={"bf": bframes})
    copied(source, tmp_path / f"out{suffix}")
    assert shown_until(tmp_path / f"out{suffix}") == pytest.approx(12 * 1001 / 30000, abs=0.002)
    assert {frame.duration for frame in read_all(source)[0]} == {None}


def test_a_cut_file_does_not_hold_what_is_left_of_it(make_clip, tmp_path):
    source = make_clip("a.mkv", frames=30)
    source.write_bytes(source.read_bytes()[: int(source.stat().st_size * 0.6)])
    warnings = copied(source, tmp_path / "out.mp4")
    assert warnings["frames missing from the file"]
    read = 30 - warnings["frames missing from the file"] - warnings["damaged packets skipped"]
    assert shown_until(tmp_path / "out.mp4") == pytest.approx(read / 25, abs=0.041)


def test_times_stay_exact_beside_a_held_frame_and_avi_names_it(noise_frames, tmp_path):
    frames = noise_frames(7, (48, 64), Fraction(1, 25))
    held, facts = [*frames[:-1], replace(frames[-1], duration=75)], replace(LIVE, live=False)
    write_all(tmp_path / "a.mp4", facts, held)
    back, _ = read_all(tmp_path / "a.mp4")
    assert [f.pts * f.time_base for f in back] == EVEN[:7]
    assert back[-1].duration * back[-1].time_base == 3
    assert shown_until(tmp_path / "a.mp4") == (6 + 75) / 25
    for shown, said in ((frames, 0), (held, 1)):
        writer = write_all(tmp_path / "a.avi", facts, shown, codec="ffv1")
        assert sum("last frame" in words for words in writer.warnings) == said
