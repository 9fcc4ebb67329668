"""Judging in step, and what counts as harm."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from skimage import data

from edgecar.engines.fake import FakeEngine
from edgecar.errors import ArtifactError, DataError
from edgecar.evaluate.score import (
    Frames,
    coded_lumas,
    compared,
    lumas_of,
    scored,
    segments,
)
from edgecar.evaluate.scorer import SHIPPED, Scorer
from edgecar.media.video_codec import VideoCoding
from tests.cli.test_run import clip  # noqa: F401  # a fixture

PHOTO = data.camera()[:200, :300]


@dataclass
class Likeness:
    """A scorer that says 100 minus the mean difference."""

    lower_is_better: bool = False

    def score(self, reference, distorted):
        return 100.0 - float(np.abs(reference.astype(float) - distorted).mean())

    def gain(self, before, after):
        return before - after if self.lower_is_better else after - before


@pytest.fixture
def folders(tmp_path):
    """Folders of two pictures: clean, and darker by one and by four codes."""
    for name, shift in (("ref", 0), ("near", 1), ("far", 4)):
        (tmp_path / name).mkdir()
        for number, picture in enumerate((PHOTO, PHOTO[:, ::-1])):
            darker = cv2.subtract(picture, np.full_like(picture, shift))
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), darker)
    return tmp_path


def test_folders_are_judged_picture_by_picture(folders):
    rows = list(scored(*(lumas_of(folders / n, Frames()) for n in ("ref", "near")), Likeness()))
    assert [row["name"] for row in rows] == ["0", "1"]
    assert rows[0]["score"] == pytest.approx(99, abs=0.1)  # codes of 0 stay
    assert rows[0]["psnr"] == pytest.approx(48.13, abs=0.1)
    assert 0.9 < rows[0]["ssim"] < 1


def test_equal_pictures_have_a_finite_psnr(folders):
    (row, _) = scored(*(lumas_of(folders / "ref", Frames()) for _ in range(2)), Likeness())
    assert (row["psnr"], row["ssim"]) == (100.0, pytest.approx(1))


@pytest.mark.parametrize(("before", "after", "sign"), [("far", "near", 1), ("near", "far", -1)])
@pytest.mark.parametrize("lower_is_better", [False, True])
def test_gains_follow_the_direction_of_the_scale(folders, before, after, sign, lower_is_better):
    sides = (lumas_of(folders / name, Frames()) for name in ("ref", before, after))
    rows = list(compared(*sides, Likeness(lower_is_better)))
    for row in rows:
        better = sign * (-1 if lower_is_better else 1)
        assert row["gain"] == pytest.approx(3 * better, abs=0.1)
        assert np.sign(row["psnr_after"] - row["psnr_before"]) == sign
    found = segments(rows, 1, tolerance=2.0)
    assert [each["hurts"] for each in found] == [better < 0] * 2
    assert [each["worse"] for each in found] == ([["0"], ["1"]] if better < 0 else [[], []])
    assert not any(each["hurts"] for each in segments(rows, 1, tolerance=4.0))


def test_segments_are_means_of_neighbours():
    row = {"before": 50.0, "psnr_before": 30.0, "psnr_after": 31.0, "ssim_before": 0.9}
    rows = [
        {**row, "name": f"frame {n}", "after": 50.0 + gain, "gain": gain, "ssim_after": 0.9}
        for n, gain in enumerate([3.0, -2.0, 2.0, -3.0, -1.0])
    ]
    first, last = segments(rows, 3, tolerance=1.5)
    assert (first["name"], first["frames"], first["gain"]) == ("frame 0 to 2", 3, 1.0)
    assert (first["worse"], first["hurts"]) == (["frame 1"], False)
    assert (last["name"], last["gain"], last["worse"]) == ("frame 3 to 4", -2.0, ["frame 3"])
    assert last["hurts"]
    assert first["psnr_gain_db"] == 1.0
    with pytest.raises(DataError, match="nothing was compared"):
        segments([], 3, 1.0)


def test_frames_of_a_clip_are_those_asked_for(clip):  # noqa: F811
    names = [name for name, *_ in lumas_of(clip, Frames(most=7, every=3))]
    assert names == ["frame 0", "frame 3", "frame 6"]
    coded = list(coded_lumas(clip, Frames(7, 3), coding=VideoCoding("h264", 40)))
    assert [name for name, *_ in coded] == names
    clean = list(lumas_of(clip, Frames(7, 3)))
    finer = list(coded_lumas(clip, Frames(7, 3), coding=VideoCoding("h264", 20)))
    for (*_, coarse), (*_, fine) in zip(coded, finer, strict=True):  # told as at run time
        assert 0 < fine.quantiser < coarse.quantiser <= 1
    assert all(not np.array_equal(a, b) for (_, a, _), (_, b, _) in zip(coded, clean, strict=True))


def test_a_coder_must_fit_what_it_is_given(folders, clip):  # noqa: F811
    with pytest.raises(DataError, match="is a clip; code it with --crf"):
        list(coded_lumas(clip, Frames(), quality=10))
    with pytest.raises(DataError, match="holds pictures; code them with --quality"):
        list(coded_lumas(folders / "ref", Frames(), coding=VideoCoding("h264", 40)))


def test_sides_that_do_not_fit_are_refused(folders, tmp_path):
    (folders / "far" / "1.png").rename(folders / "far" / "2.png")
    pairs = [
        ("ref", "far", "1 stands against 2"),
        ("ref", "near/0.png", "0 stands against picture"),
    ]
    for first, second, words in pairs:
        with pytest.raises(DataError, match=words):
            list(scored(*(lumas_of(folders / n, Frames()) for n in (first, second)), Likeness()))
    (folders / "near" / "1.png").unlink()
    with pytest.raises(DataError, match="ends after 1"):
        list(scored(*(lumas_of(folders / n, Frames()) for n in ("ref", "near")), Likeness()))
    with pytest.raises(DataError, match="does not exist"):
        list(lumas_of(tmp_path / "gone", Frames()))


def test_single_pictures_may_have_any_name(folders):
    paths = (folders / "ref" / "0.png", folders / "near" / "0.png")
    (row,) = scored(*(lumas_of(path, Frames()) for path in paths), Likeness())
    assert row["name"] == "picture"


def test_what_is_no_scorer_is_refused(tmp_path, write_artifact):
    with pytest.raises(ArtifactError, match=r"gone\.onnx: no such file; leave --scorer out"):
        Scorer(tmp_path / "gone.onnx")
    with pytest.raises(ArtifactError, match="is no scorer"):
        Scorer(write_artifact(tmp_path / "network.onnx", "jpeg 10-40"))


def test_the_scorer_that_ships_names_its_proxy_and_orders_codings():
    engine = FakeEngine(lambda batch: batch[:, :1, 0, 0], channels=2)
    with Scorer(engine=engine) as scorer:
        assert scorer.metadata.target.startswith("proxy: ")
        assert not scorer.metadata.lower_is_better
        # Of a fake engine the score is what the first pixel of each patch says.
        assert scorer.score(PHOTO, PHOTO) == pytest.approx(
            PHOTO[[0, 0, 0, 72, 72, 72], [0, 128, 172] * 2].mean() / 255
        )
    assert SHIPPED.with_suffix(".safetensors").stat().st_size < 3e6


def test_the_scorer_that_ships_falls_with_the_rate():
    from edgecar.media.pictures import jpeg_coded

    with Scorer(threads=1) as scorer:
        scores = [scorer.score(PHOTO, jpeg_coded(PHOTO, q)) for q in (5, 15, 40, 90)]
        assert scores == sorted(scores)
        blurred = np.asarray(cv2.GaussianBlur(PHOTO, (0, 0), 3))
        assert scorer.score(PHOTO, blurred) < scores[-1]
        assert scorer.score(PHOTO, PHOTO) > scores[-1]
