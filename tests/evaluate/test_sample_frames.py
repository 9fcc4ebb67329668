"""Frames that are kept to be shown: the extremes, few of them, and nothing measured otherwise."""

import json

import numpy as np
import pytest

from edgecar.evaluate.clips import Clip
from edgecar.evaluate.metrics import psnr
from edgecar.evaluate.sample_frames import SampleFrame, SampleFrames, Subject, frame_of_luma
from edgecar.evaluate.stills import evaluate_jpeg
from edgecar.evaluate.video import evaluate_variants, row_key
from edgecar.media.color import bgr_from_frame
from edgecar.media.pictures import jpeg_coded
from edgecar.media.video_codec import video_coded
from tests.evaluate.test_video import CODING, PHOTO, SOURCE, Known, evaluate_clip, halfway

FRAME = frame_of_luma(np.full((8, 8), 100, np.uint8))


def sample(gain, clip="a", network="n", index=0):
    return SampleFrame(Subject(clip, 30, network), index, gain, FRAME, FRAME, FRAME)


def offered(sample_frames, *offers):
    for one in offers:
        sample_frames.offer(one)
    return sample_frames


def gains(kept):
    return [(one.subject.clip, one.gain) for one in kept]


def test_extremes_of_each_clip_are_kept_in_order():
    offers = [sample(gain, clip, index=i) for i, (clip, gain) in enumerate(
        [("a", 0.1), ("a", 0.5), ("a", -0.2), ("b", 0.9), ("b", 0.3), ("c", -0.7)]
    )]  # fmt: skip
    kept = offered(SampleFrames(1, most=4), *offers)
    assert gains(kept.best()) == [("b", 0.9), ("a", 0.5)]
    assert gains(kept.worst()) == [("c", -0.7), ("a", -0.2)]


def test_a_clip_that_fell_out_comes_back_with_a_better_frame():
    offers = [sample(0.1, "a"), sample(0.5, "b"), sample(0.7, "a", index=1)]
    assert gains(offered(SampleFrames(1, most=2), *offers).best()) == [("a", 0.7)]


def test_memory_does_not_grow_with_clips_or_frames():
    offers = [
        sample(np.sin(7.0 * clip + index), str(clip), network, index)
        for network in "xyz" for clip in range(40) for index in range(5)
    ]  # fmt: skip
    kept = offered(SampleFrames(3, most=8), *offers)
    assert len(kept.best()) == len(kept.worst()) == 3
    best = max(offers, key=lambda one: one.gain).gain
    assert {one.subject.network for one in kept.best()} == set("xyz")
    assert {one.gain for one in kept.best()} == {best}


def test_more_networks_than_places_have_two_each():
    offers = [sample(i / 10, network=n, index=i) for n in "abcdefg" for i in (1, 2)]
    kept = offered(SampleFrames(7, most=8), *offers)
    assert (len(kept.best()), len(kept.worst())) == (7, 7)


def test_the_only_frame_is_shown_once():
    kept = offered(SampleFrames(1), sample(0.1))
    assert gains(kept.best()) == [("a", 0.1)]
    assert kept.worst() == []


def test_networks_take_turns():
    offers = [sample(gain, clip, n) for n in "xy" for clip, gain in (("a", 0.1), ("b", 0.2))]
    kept = offered(SampleFrames(2, most=8), *offers)
    assert [one.subject.network for one in kept.best()] == ["x", "y", "x", "y"]


def test_of_a_clip_the_frames_with_most_and_least_gain():
    def some(coded, clean, index):
        return clean if index == 4 else coded[::-1] if index == 9 else halfway(coded, clean, index)

    sample_frames = SampleFrames(1)
    (row,) = evaluate_clip("pan", SOURCE, CODING, [Known(some)], sample_frames=sample_frames)
    (best,), (worst,) = sample_frames.best(), sample_frames.worst()
    assert (best.index, worst.index) == (4, 9)
    assert best.subject == Subject("pan", 38, "known")
    assert worst.gain == pytest.approx(row["worst_frame_gain_db"])
    coded = video_coded(SOURCE, CODING).frames
    assert np.array_equal(worst.source.y, SOURCE[9].y)
    assert np.array_equal(worst.coded.y, coded[9].y)
    assert np.array_equal(worst.restored.y, coded[9].y[::-1])
    assert np.array_equal(worst.restored.u, coded[9].u)


def test_rows_are_the_same_with_samples():
    plain = list(evaluate_clip("pan", SOURCE, CODING, [Known(halfway)], 3))
    watched = list(evaluate_clip("pan", SOURCE, CODING, [Known(halfway)], 3, SampleFrames(1)))
    assert json.dumps(plain) == json.dumps(watched)


def test_a_kept_frame_does_not_hold_the_clip_it_was_a_view_of():
    whole = np.zeros((3, *SOURCE[0].size), np.uint8)
    sample_frames = SampleFrames(1)
    coded = video_coded(SOURCE[:3], CODING).frames
    list(sample_frames.watched(Subject("pan", 38, "n"), SOURCE, coded, range(3), whole))
    assert not np.shares_memory(sample_frames.best()[0].restored.y, whole)


def test_pictures_of_the_jpeg_study():
    pictures = [("flat", np.full((48, 48), 90, np.uint8)), ("photo", PHOTO[:48, :64])]
    sample_frames = SampleFrames(1)
    evaluate_jpeg(
        lambda luma: luma,
        pictures,
        [10, 40],
        network="none",
        set_name="s",
        sample_frames=sample_frames,
    )
    shown = [*sample_frames.best(), *sample_frames.worst()]
    assert {one.subject.clip for one in shown} == {"flat", "photo"}
    photo = next(one for one in shown if one.subject.clip == "photo")
    assert np.array_equal(photo.coded.y, jpeg_coded(PHOTO[:48, :64], photo.subject.quantiser))
    # Grey without a shift: the codes that are seen are those that were measured.
    assert np.array_equal(bgr_from_frame(photo.source)[..., 1], PHOTO[:48, :64])


def test_variants_say_which_they_are(tmp_path):
    import cv2

    for index in range(2):
        cv2.imwrite(str(tmp_path / f"{index}.png"), PHOTO[:48, index : 64 + index])
    sample_frames = SampleFrames(1)

    def only_in_one(coded, clean, _):
        return clean if psnr(clean, coded) > 30 else coded

    source = Clip(tmp_path).load()
    method = Known(only_in_one, source)
    rows = list(
        evaluate_variants([Clip(tmp_path)], "hevc", [30], [method], sample_frames=sample_frames)
    )
    (best,) = sample_frames.best()
    assert best.subject.variant in {
        "all-intra", "low-delay", "random-access", "all-intra, without the coder's filters",
        "low-delay, without the coder's filters", "random-access, without the coder's filters",
    }  # fmt: skip
    again = SampleFrames(1)
    done = {row_key(row) for row in rows[1:]}
    (row,) = evaluate_variants([Clip(tmp_path)], "hevc", [30], [method], 1, done, again)
    assert row == rows[0]
    assert again.best()[0].subject.variant == "all-intra"
