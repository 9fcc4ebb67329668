"""Real recordings: CCTV, raw streams, old AVI, full range, uneven frame rates."""

from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from edgecar.media.reader import open_reader
from tests.media.conftest import copied, read_all

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
    frames, reader = read_all(CLIPS / name)
    assert (len(frames), reader.codec, reader.rate) == (count, codec, rate)
    assert all(early.pts < late.pts for early, late in pairwise(frames))
    assert len(faults) == len(reader.warnings)
    assert all(any(w.startswith(fault) for w in reader.warnings) for fault in faults)


def test_full_range_cctv_keeps_its_uneven_times_and_colour(tmp_path):
    source = CLIPS / "parkpow_tollgate_cctv_720p18.mp4"
    copied(source, tmp_path / "out.mp4", frames=60, preset="ultrafast")
    with open_reader(source) as reader:
        frames = list(islice(reader, 60))
    copies, back = read_all(tmp_path / "out.mp4")
    assert back.colour == reader.colour
    assert back.colour.full_range
    assert [frame.pts for frame in copies] == [frame.pts - frames[0].pts for frame in frames]
    assert len({late.pts - early.pts for early, late in pairwise(frames)}) > 1
    # CRF 18 at the fastest preset; a wrong range would move luma by 16 at the dark end.
    for frame, copy in zip(frames[:3], copies, strict=False):
        assert abs(copy.y.mean() - frame.y.mean()) < 0.5
        assert np.abs(copy.y.astype(int) - frame.y).mean() < 3
