"""Pictures made of photographs, and the proxy that scores them."""

import cv2
import numpy as np
import pytest
from skimage import data

from edgecar.errors import DataError
from edgecar.media.pictures import jpeg_coded
from edgecar.train.quality import distort
from edgecar.train.quality.distort import Distortions, distorted_set
from edgecar.train.quality.proxy import proxy_score

FEW = Distortions(coded=3, restored=2, blurred=1, noisy=1, networks=("edgecar-xs",))
PHOTO = np.ascontiguousarray(data.astronaut()[:180, 100:300, ::-1])


@pytest.fixture
def made(tmp_path):
    return distorted_set([PHOTO], FEW, seed=0, folder=tmp_path, unchanged=True)


def test_all_kinds_are_made_and_scored(made):
    kinds = [picture.kind for picture in made.pictures]
    assert kinds[:3] == ["jpeg", "h264", "hevc"]
    assert kinds[5:] == ["blur", "noise", "unchanged"]
    (clean,) = made.references
    assert clean.shape == (176, 196)
    for picture in made.pictures:
        assert picture.picture.shape == clean.shape
        assert 0 < picture.score <= 100
    for restored in made.pictures[3:5]:
        coded = made.pictures[restored.before]
        assert restored.kind == f"{coded.kind} restored"
        assert not np.array_equal(restored.picture, coded.picture)
    assert made.pictures[-1].score == 100
    assert np.array_equal(made.pictures[-1].picture, clean)
    assert all(not np.array_equal(p.picture, clean) for p in made.pictures[:-1])


def test_they_are_made_once(made, tmp_path, monkeypatch):
    monkeypatch.setattr(distort, "_made", None)  # would fail if called
    again = distorted_set([PHOTO], FEW, seed=0, folder=tmp_path, unchanged=True)
    for ours, theirs in zip(made.pictures, again.pictures, strict=True):
        assert (ours.kind, ours.score, ours.before) == (theirs.kind, theirs.score, theirs.before)
        assert np.array_equal(ours.picture, theirs.picture)


@pytest.mark.usefixtures("made")
def test_other_seeds_settings_and_photographs_are_made_anew(tmp_path):
    only_blur = Distortions(coded=0, restored=0, noisy=0)
    calls = [
        ([PHOTO], FEW, 1),
        ([PHOTO], only_blur, 0),
        ([np.ascontiguousarray(PHOTO[:, ::-1])], only_blur, 0),
    ]
    for number, (photos, settings, seed) in enumerate(calls, 2):
        distorted_set(photos, settings, seed=seed, folder=tmp_path)
        assert len(list(tmp_path.glob("*.npz"))) == number


def test_numbers_of_coded_pictures_count_over_all_photographs(tmp_path):
    rated = distorted_set([PHOTO, PHOTO], FEW, seed=0, folder=tmp_path)
    for restored in rated.pictures[7 + 3 : 7 + 5]:
        coded = rated.pictures[restored.before]
        assert coded.reference == restored.reference == 1
        assert restored.kind == f"{coded.kind} restored"


def test_the_proxy_orders_what_is_plain_to_see():
    clean = np.asarray(cv2.cvtColor(PHOTO, cv2.COLOR_BGR2GRAY))
    assert proxy_score(clean, clean) == pytest.approx(100, abs=1e-3)  # float32
    coded = [proxy_score(clean, jpeg_coded(clean, quality)) for quality in (5, 20, 60, 95)]
    assert coded == sorted(coded)
    soft = [proxy_score(clean, cv2.GaussianBlur(clean, (0, 0), sigma)) for sigma in (4, 2, 0.6)]
    assert soft == sorted(soft)
    assert 0 <= min(soft) < max(coded) < 100


def test_raised_contrast_is_no_better_than_the_source():
    clean = np.asarray(cv2.cvtColor(PHOTO, cv2.COLOR_BGR2GRAY)) // 2 + 60
    raised = np.clip((clean.astype(float) - 124) * 1.3 + 124, 0, 255).astype(np.uint8)
    assert proxy_score(clean, raised) < 100


@pytest.mark.parametrize("size", [(175, 300), (300, 175)])
def test_small_pictures_have_no_proxy(size):
    picture = np.zeros(size, np.uint8)
    with pytest.raises(DataError, match="at least 176 px"):
        proxy_score(picture, picture)
