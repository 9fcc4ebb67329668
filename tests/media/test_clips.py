"""Real recordings: CCTV, raw streams, old AVI, full range, uneven frame rates."""

from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from edgecar.media.reader import open_reader
from tests.media.conftest import copied

CLIPS = Path(__file__).parents[2].parent / "shared" / "data" / "clips"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CLIPS.is_dir(), reason=f"needs the recordings in {CLIPS}"),
]

# Frames, codec, rate, and what is wrong with the file.
EXPECTED = {
    "parkpow_tollgate_cctv_720p18.mp4": (339, "h264", Fraction(5085000, 281083), set()),
    "kvs_aquarium_640x360p25.265": (403, "hevc", Fraction(25), {"timestamps missing"}),
    "intel_people-detection_768x432.264": (596, "h264", Fraction(12), {"timestamps missing"}),
    "kvs_construction_site_640x360p30.mkv": (300, "h264", Fraction(30), set()),
    "bgs_highway_cctv_320x240_mpeg4.avi": (748, "mpeg4", Fraction(25), set()),
    # Cut from a running camera: 19 frames come before the first key frame.
    "ckuhn_streetcam_640x360p10.mp4": (734, "h264", Fraction(377000, 37543), {"packets without"}),
    # Muxed without presentation times, although it has B-frames.
    "yalue_plaza_pedestrians_960x540.mp4": (
        419,
        "h264",
        Fraction(209500, 7007),
        {"timestamps in decoding order"},
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_recordings_are_read_to_the_end_in_order(name):
    count, codec, rate, faults = EXPECTED[name]
    with open_reader(CLIPS / name) as reader:
        times = [frame.pts for frame in reader]
        assert (len(times), reader.codec, reader.rate) == (count, codec, rate)
    assert all(early < late for early, late in pairwise(times))
    assert len(faults) == len(reader.warnings)
    assert all(any(w.startswith(fault) for w in reader.warnings) for fault in faults)


def test_full_range_cctv_keeps_its_uneven_times_and_colour(tmp_path):
    source = CLIPS / "parkpow_tollgate_cctv_720p18.mp4"
    copied(source, tmp_path / "out.mp4", frames=60, preset="ultrafast")
    with open_reader(source) as reader:
        frames = list(islice(reader, 60))
    times = [frame.pts for frame in frames]
    with open_reader(tmp_path / "out.mp4") as back:
        assert back.colour == reader.colour
        assert back.colour.full_range
        copies = list(back)
    assert [frame.pts for frame in copies] == [pts - times[0] for pts in times]
    assert len({late - early for early, late in pairwise(times)}) > 1
    # CRF 18 at the fastest preset; a wrong range would move luma by 16 at the dark end.
    for frame, copy in zip(frames[:3], copies, strict=False):
        assert abs(copy.y.mean() - frame.y.mean()) < 0.5
        assert np.abs(copy.y.astype(int) - frame.y).mean() < 3


def test_a_recording_survives_ffv1_bit_for_bit(tmp_path):
    source, target = CLIPS / "kvs_construction_site_640x360p30.mkv", tmp_path / "out.mkv"
    assert not copied(source, target, frames=20, codec="ffv1")
    with open_reader(source) as reader, open_reader(target) as back:
        for frame, copy in zip(islice(reader, 20), back, strict=True):
            assert copy.pts == frame.pts
            for plane in "yuv":
                assert np.array_equal(getattr(copy, plane), getattr(frame, plane))
