"""Frames that are kept to be shown: the extremes, few of them, and nothing measured otherwise."""

import json

import numpy as np
import pytest

from edgecar.evaluate.clips import Clip, frame_of_luma
from edgecar.evaluate.metrics import psnr
from edgecar.evaluate.quality import evaluate_jpeg, evaluate_variants, evaluate_video
from edgecar.evaluate.sample_frames import SampleFrame, SampleFrames
from edgecar.evaluate.study import row_key
from edgecar.media.color import bgr_from_frame
from edgecar.media.pictures import jpeg_coded
from edgecar.media.video_codec import video_coded
from tests.evaluate.conftest import (
    CODING,
    PHOTO,
    SOURCE,
    Known,
    Loaded,
    halfway,
    write_pictures,
)

FRAME = frame_of_luma(np.full((8, 8), 100, np.uint8))


def sample(gain, clip="a", network="n"):
    return SampleFrame(network, clip, 30, "", 0, gain, FRAME, FRAME, FRAME)


def kept(most, *offers, networks=1):
    sample_frames = SampleFrames(networks, most)
    for one in offers:
        sample_frames.offer(one)
    return [(kind, one.network, one.clip, one.gain) for one, kind in sample_frames.shown()]


@pytest.mark.parametrize(
    ("most", "offers", "expected"),
    [
        (
            4,
            [("a", 0.1), ("a", 0.5), ("a", -0.2), ("b", 0.9), ("b", 0.3), ("c", -0.7)],
            [("best", "b", 0.9), ("best", "a", 0.5), ("worst", "c", -0.7), ("worst", "a", -0.2)],
        ),
        # A clip that fell out comes back with a better frame.
        (2, [("a", 0.1), ("b", 0.5), ("a", 0.7)], [("best", "a", 0.7), ("worst", "a", 0.1)]),
        (8, [("a", 0.1)], [("best", "a", 0.1)]),  # the only frame is shown once
    ],
)
def test_extremes_of_each_clip_are_kept_in_order(most, offers, expected):
    found = kept(most, *(sample(gain, clip) for clip, gain in offers))
    assert [(kind, clip, gain) for kind, _, clip, gain in found] == expected


def test_memory_does_not_grow_with_clips_or_frames():
    offers = [
        sample(np.sin(7.0 * clip + index), str(clip), network)
        for network in "xyz" for clip in range(40) for index in range(5)
    ]  # fmt: skip
    found = kept(8, *offers, networks=3)
    assert [(kind, name) for kind, name, *_ in found] == [
        (kind, name) for kind in ("best", "worst") for name in "xyz"
    ]
    best = max(one.gain for one in offers)
    assert {gain for kind, *_, gain in found if kind == "best"} == {best}


def test_networks_take_turns_and_have_two_frames_each():
    offers = [sample(gain, clip, n) for n in "xy" for clip, gain in (("a", 0.1), ("b", 0.2))]
    found = kept(8, *offers, networks=2)
    assert [network for _, network, *_ in found] == ["x", "y", "x", "y"]
    offers = [sample(i / 10, network=n) for n in "abcdefg" for i in (1, 2)]
    found = kept(8, *offers, networks=7)
    assert [kind for kind, *_ in found] == ["best"] * 7 + ["worst"] * 7


def test_a_clip_gives_the_frames_with_most_and_least_gain():
    def some(coded, clean):
        index = next(i for i, frame in enumerate(SOURCE) if frame.y is clean)
        return clean if index == 4 else coded[::-1] if index == 9 else halfway(coded, clean)

    study = [Loaded()], "h264", [38], [Known(some)], 1
    sample_frames = SampleFrames(1)
    (row,) = evaluate_video(*study, sample_frames)
    assert json.dumps(row) == json.dumps(*evaluate_video(*study))  # the same with samples
    (best, _), (worst, _) = sample_frames.shown()
    assert (best.index, worst.index) == (4, 9)
    assert (best.clip, best.quantiser, best.network, best.variant) == ("pan", 38, "known", "")
    assert worst.gain == pytest.approx(row["worst_frame_gain_db"])
    coded = video_coded(SOURCE, CODING).frames[9]
    assert np.array_equal(worst.source.y, SOURCE[9].y)
    assert np.array_equal(worst.coded.y, coded.y)
    assert np.array_equal(worst.restored.y, coded.y[::-1])
    assert np.array_equal(worst.restored.u, coded.u)


def test_a_kept_frame_does_not_hold_the_clip_it_was_a_view_of():
    whole = np.zeros((len(SOURCE), *SOURCE[0].size), np.uint8)
    sample_frames = SampleFrames(1)
    list(evaluate_video([Loaded()], "h264", [38], [Known(lambda *_: whole[0])], 1, sample_frames))
    assert not any(np.shares_memory(one.restored.y, whole) for one, _ in sample_frames.shown())


def test_pictures_of_the_jpeg_study():
    pictures = [("flat", np.full((48, 48), 90, np.uint8)), ("photo", PHOTO[:48, :64])]
    sample_frames = SampleFrames(1)
    list(evaluate_jpeg(pictures, "s", [10, 40], [Known()], sample_frames))
    shown = {one.clip: one for one, _ in sample_frames.shown()}
    assert set(shown) == {"flat", "photo"}
    photo = shown["photo"]
    assert np.array_equal(photo.coded.y, jpeg_coded(PHOTO[:48, :64], photo.quantiser))
    # Grey without a shift: the codes that are seen are those that were measured.
    assert np.array_equal(bgr_from_frame(photo.source)[..., 1], PHOTO[:48, :64])


def test_variants_say_which_they_are_and_one_alone_can_be_made_again(tmp_path):
    folder = write_pictures(tmp_path / "pan", [PHOTO[:48, i : 64 + i] for i in range(2)])
    method = Known(lambda coded, clean: clean if psnr(clean, coded) > 30 else coded)
    study, shown = ([Clip(folder)], "hevc", [30], [method], 1), SampleFrames(1)
    rows = list(evaluate_variants(*study, (), shown))
    (best, _), *_ = shown.shown()
    structure, _, filters = best.variant.partition(", ")
    assert structure in ("all-intra", "low-delay", "random-access")
    assert filters in ("", "no filters")
    again = SampleFrames(1)
    assert list(evaluate_variants(*study, {row_key(row) for row in rows[1:]}, again)) == rows[:1]
    assert next(again.shown())[0].variant == "all-intra"
