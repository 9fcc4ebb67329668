"""How long the last frame of a file is shown."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from edgecar.media.facts import StreamFacts
from edgecar.media.reader import open_reader
from edgecar.media.writer import open_writer
from tests.media.conftest import copied, photo


def shown_until(path):
    """End of the video stream in seconds, as its container states it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stated := stream.metadata.get("DURATION"):
            return float(stated.rpartition(":")[2])
        return float((stream.duration + stream.start_time) * stream.time_base)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_last_frame_that_is_held_is_held_in_the_output(tmp_path, suffix):
    """A GIF of three frames whose last one stays for 3 seconds, again and again copied."""
    gif = tmp_path / "hold.gif"
    pictures = [Image.fromarray(photo(20 * n, (48, 64))) for n in range(3)]
    options = {"save_all": True, "append_images": pictures[1:], "duration": [500, 500, 3000]}
    pictures[0].save(gif, **options)
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    copied(gif, first)
    assert shown_until(first) == pytest.approx(4, abs=0.002)
    copied(first, second)
    assert shown_until(second) == pytest.approx(4, abs=0.002)
    with open_reader(second) as reader:
        assert [float(f.pts * f.time_base) for f in reader] == [0, 0.5, 1]
        assert not reader.warnings


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("bframes", ["0", "2"])
def test_frames_shown_as_long_as_others_are_not_changed(make_clip, tmp_path, suffix, bframes):
    source = make_clip(f"a{suffix}", rate=Fraction(30000, 1001), options={"bf": bframes})
    copied(source, tmp_path / f"out{suffix}")
    assert shown_until(tmp_path / f"out{suffix}") == pytest.approx(12 * 1001 / 30000, abs=0.002)
    with open_reader(source) as reader:
        assert {frame.duration for frame in reader} == {None}


def test_a_cut_file_does_not_hold_what_is_left_of_it(make_clip, tmp_path):
    source = make_clip("a.mkv", frames=30)
    source.write_bytes(source.read_bytes()[: int(source.stat().st_size * 0.6)])
    warnings = copied(source, tmp_path / "out.mp4")
    assert warnings["frames missing from the file"]
    read = 30 - warnings["frames missing from the file"] - warnings["damaged packets skipped"]
    assert shown_until(tmp_path / "out.mp4") == pytest.approx(read / 25, abs=0.041)


def test_times_stay_exact_beside_a_held_frame(noise_frames, tmp_path):
    frames = noise_frames(7, (48, 64), Fraction(1, 25))
    frames[-1] = replace(frames[-1], duration=75)
    facts = StreamFacts((48, 64), Fraction(25), Fraction(1, 25))
    with open_writer(tmp_path / "a.mp4", like=facts) as writer:
        for frame in frames:
            writer.write(frame)
    with open_reader(tmp_path / "a.mp4") as reader:
        back = list(reader)
    assert np.array_equal([f.pts * f.time_base * 25 for f in back], range(7))
    assert back[-1].duration * back[-1].time_base == 3
    assert shown_until(tmp_path / "a.mp4") == (6 + 75) / 25


def test_a_held_last_frame_that_avi_does_not_store_is_named(noise_frames, tmp_path):
    facts = StreamFacts((48, 64), Fraction(25), Fraction(1, 25))
    frames = noise_frames(7, (48, 64), Fraction(1, 25))
    for last, said in ((frames[-1], 0), (replace(frames[-1], duration=75), 1)):
        with open_writer(tmp_path / "a.avi", like=facts, codec="ffv1") as writer:
            for frame in [*frames[:-1], last]:
                writer.write(frame)
        assert sum("last frame" in words for words in writer.warnings) == said
