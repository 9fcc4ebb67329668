"""Opinion scores in, a split without common references, and patches drawn from them."""

from itertools import islice

import cv2
import numpy as np
import pytest

from edgecar.errors import DataError, MediaError
from edgecar.train.quality.rated import (
    Rated,
    RatedSet,
    patch_draws,
    rated_from_csv,
    split_by_reference,
)


@pytest.fixture
def study(tmp_path):
    """A function that writes a study and returns its CSV file."""
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for name, side in (("a", 130), ("a1", 130), ("b", 140), ("b1", 140), ("b2", 140)):
        picture = rng.integers(0, 256, (side, 150), np.uint8)
        cv2.imwrite(str(tmp_path / "pictures" / f"{name}.png"), picture)

    def write(text: str):
        path = tmp_path / "study.csv"
        path.write_text(text)
        return path

    return write


HEADER = "distorted,mos,reference,observers\n"
ROWS = (
    "pictures/a1.png,4.5,pictures/a.png,20\n"
    "pictures/b1.png,2,pictures/b.png,21\n"
    "pictures/b2.png,3,pictures/b.png,22\n"
)


def test_a_study_is_read_whatever_the_order_of_its_columns(study, tmp_path):
    rated = rated_from_csv(study("\ufeff" + HEADER + ROWS))
    assert [picture.score for picture in rated.pictures] == [4.5, 2.0, 3.0]
    assert [picture.reference for picture in rated.pictures] == [0, 1, 1]
    assert [r.shape for r in rated.references] == [(130, 150), (140, 150)]
    stored = cv2.imread(str(tmp_path / "pictures" / "b2.png"), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(rated.pictures[2].picture, stored)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("distorted,mos\n", "no column 'reference'"),
        (HEADER, "no row"),
        (HEADER + ROWS.replace("4.5", "good"), "line 2: could not convert"),
        (HEADER + ROWS.replace("4.5", "nan"), "line 2: mos is nan"),
        (HEADER + ROWS.replace("b2.png,3", "a1.png,3"), "line 4: .*one size"),
    ],
)
def test_what_is_no_study_is_refused(study, text, words):
    with pytest.raises(DataError, match=words):
        rated_from_csv(study(text))


def test_missing_files_are_named(study, tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv"):
        rated_from_csv(tmp_path / "gone.csv")
    with pytest.raises(MediaError, match=r"c\.png"):
        rated_from_csv(study(HEADER + ROWS.replace("b2.png", "c.png")))


def made_set(references: int, each: int = 3) -> RatedSet:
    rng = np.random.default_rng(1)
    clean = [rng.integers(0, 256, (150, 160), np.uint8) for _ in range(references)]
    pictures = []
    for number in range(references):
        first = len(pictures)
        for place in range(each):
            before = first if place == each - 1 else -1
            pictures.append(Rated(number, clean[number] ^ (place + 1), 10.0 * place, "", before))
    return RatedSet(clean, pictures)


@pytest.mark.parametrize(("references", "trained"), [(10, 8), (29, 23), (2, 1), (3, 2)])
def test_a_split_shares_no_reference(references, trained):
    rated = made_set(references)
    training, held_out = split_by_reference(rated, 0.8, seed=3)
    ours = {picture.reference for picture in training.pictures}
    theirs = {picture.reference for picture in held_out.pictures}
    assert len(ours) == trained
    assert not ours & theirs
    assert ours | theirs == set(range(references))
    assert split_by_reference(rated, 0.8, seed=3)[0].pictures == training.pictures
    for part in (training, held_out):
        for picture in part.pictures:
            if picture.before >= 0:
                coded = part.pictures[picture.before]
                assert (coded.reference, coded.score) == (picture.reference, 0.0)


def test_one_reference_cannot_be_split():
    with pytest.raises(DataError, match="at least two"):
        split_by_reference(made_set(1), 0.8, seed=0)


def test_another_seed_splits_otherwise():
    rated = made_set(20)
    parts = [
        {p.reference for p in split_by_reference(rated, 0.8, seed)[1].pictures} for seed in (0, 1)
    ]
    assert parts[0] != parts[1]


def test_batches_depend_on_their_number_alone():
    rated = made_set(4)
    whole = list(islice(patch_draws(rated, 6, seed=5), 4))
    later = list(islice(patch_draws(rated, 6, seed=5, first=2), 2))
    for ours, theirs in zip(whole[2:], later, strict=True):
        assert np.array_equal(ours.planes, theirs.planes)
        assert np.array_equal(ours.scores, theirs.scores)
    assert not np.array_equal(whole[0].planes, whole[1].planes)


def test_patches_have_the_scores_of_their_pictures():
    rated = made_set(2)
    batch = next(patch_draws(rated, 32, seed=0))
    assert batch.planes.shape == (32, 2, 128, 128)
    for planes, score in zip(batch.planes, batch.scores, strict=True):
        flipped = round(float(score) / 10) + 1  # the bits that made the picture
        clean = planes[0] ^ flipped
        assert np.array_equal(planes[1], np.abs(planes[0].astype(int) - clean))
    assert set(batch.scores.tolist()) == {0.0, 10.0, 20.0}


def test_an_epoch_is_what_fits_side_by_side():
    clean = [np.zeros((300, 260), np.uint8), np.zeros((128, 255), np.uint8)]
    rated = RatedSet(clean, [Rated(0, clean[0], 1.0), Rated(0, clean[0], 2.0),
                             Rated(1, clean[1], 3.0)])  # fmt: skip
    assert rated.patches() == 4 + 4 + 1
