"""Pictures that the scorer learns from: studies, distorted photographs, recipes, patches."""

from itertools import islice

import cv2
import numpy as np
import pytest
from skimage import data

from edgecar.errors import DataError, MediaError, SettingsError
from edgecar.files import shipped
from edgecar.media.pictures import jpeg_coded
from edgecar.train.quality import sources
from edgecar.train.quality.rated import (
    Rated,
    RatedSet,
    patch_draws,
    rated_from_csv,
    split_by_reference,
)
from edgecar.train.quality.sources import Distortions, QualityRecipe, distorted_set, proxy_score
from edgecar.train.recipe import find_recipe, recipe_from_toml, record_from_table, table_of
from edgecar.zoo.multiscale_iqa import IqaConfig

RECIPES = sorted(shipped("export", "scoring").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_read_and_found(path):
    recipe = recipe_from_toml(path, QualityRecipe)
    assert find_recipe(path.stem, "scoring") == path
    assert record_from_table(QualityRecipe, table_of(recipe)) == recipe


def test_the_papers_recipe_is_the_papers():
    recipe = recipe_from_toml(find_recipe("multiscale-iqa-paper", "scoring"), QualityRecipe)
    assert recipe.network == IqaConfig()
    assert (recipe.optimiser, recipe.rate, recipe.batch) == ("sgd", 1e-3, 128)
    assert (recipe.weight_decay, recipe.epochs) == (1e-7, 100)
    assert recipe == QualityRecipe(final_share=1.0)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"epoch": 3}, "unknown key 'epoch'"),
        ({"network": {"width": 3}}, r"unknown key 'network\.width'"),
        ({"distortions": {"jpeg": 3}}, r"unknown key 'distortions\.jpeg'"),
        ({"network": 3}, "need a table"),
        ({"batch": 2.5}, "batch is 2.5; need a whole number"),
        ({"lower_is_better": 1}, "need true or false"),
        ({"network": {"bins": [1, 2.5]}}, r"bins is \[1, 2\.5\]"),
        ({"network": {"streams": "none"}}, "use both"),
        ({"optimiser": "muon"}, "use sgd or adam"),
        ({"share": 1.0}, "between 0 and 1"),
        ({"batch": 1}, "at least 2"),
        ({"epochs": 0}, "above 0"),
        ({"photographs": -1}, "below 0"),
        ({"distortions": {"restored": 6}}, "restored is 6 of 5"),
        ({"distortions": {"coded": 0, "restored": 0, "blurred": 0, "noisy": 0}}, "nothing is made"),
        ({"distortions": {"quality": [90, 10]}}, "in order"),
        ({"distortions": {"networks": ["resnet"]}}, "need some that ship"),
    ],
    ids=str,
)
def test_unfit_tables_are_refused(table, words):
    with pytest.raises(SettingsError, match=words):
        record_from_table(QualityRecipe, table)


FEW = Distortions(coded=3, restored=2, blurred=1, noisy=1, networks=("edgecar-xs",))
PHOTO = np.ascontiguousarray(data.astronaut()[:180, 100:300, ::-1])


@pytest.fixture
def made(tmp_path):
    return distorted_set([PHOTO], FEW, seed=0, folder=tmp_path, unchanged=True)


def test_all_kinds_are_made_and_scored(made):
    assert len(made.pictures) == 3 + 2 + 1 + 1 + 1  # the last one is the photograph as it is
    (clean,) = made.references
    assert clean.shape == (176, 196)
    for picture in made.pictures:
        assert picture.picture.shape == clean.shape
        assert 0 < picture.score <= 100
    for restored in made.pictures[3:5]:
        coded = made.pictures[restored.before]
        assert not np.array_equal(restored.picture, coded.picture)
    assert made.pictures[-1].score == 100
    assert np.array_equal(made.pictures[-1].picture, clean)
    assert all(not np.array_equal(p.picture, clean) for p in made.pictures[:-1])


def test_they_are_made_once(made, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_made", None)  # would fail if called
    again = distorted_set([PHOTO], FEW, seed=0, folder=tmp_path, unchanged=True)
    for ours, theirs in zip(made.pictures, again.pictures, strict=True):
        assert (ours.score, ours.before) == (theirs.score, theirs.before)
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
            pictures.append(Rated(number, clean[number] ^ (place + 1), 10.0 * place, before))
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


def test_batches_depend_on_their_number_alone():
    rated = made_set(4)
    whole = list(islice(patch_draws(rated, 6, seed=5), 4))
    later = list(islice(patch_draws(rated, 6, seed=5, first=2), 2))
    for ours, theirs in zip(whole[2:], later, strict=True):
        assert all(map(np.array_equal, ours, theirs))
    assert not np.array_equal(whole[0][0], whole[1][0])


def test_patches_have_the_scores_of_their_pictures():
    rated = made_set(2)
    drawn, scores = next(patch_draws(rated, 32, seed=0))
    assert drawn.shape == (32, 2, 128, 128)
    for planes, score in zip(drawn, scores, strict=True):
        flipped = round(float(score) / 10) + 1  # the bits that made the picture
        clean = planes[0] ^ flipped
        assert np.array_equal(planes[1], np.abs(planes[0].astype(int) - clean))
    assert set(scores.tolist()) == {0.0, 10.0, 20.0}


def test_an_epoch_is_what_fits_side_by_side():
    clean = [np.zeros((300, 260), np.uint8), np.zeros((128, 255), np.uint8)]
    rated = RatedSet(clean, [Rated(0, clean[0], 1.0), Rated(0, clean[0], 2.0),
                             Rated(1, clean[1], 3.0)])  # fmt: skip
    assert rated.patches() == 4 + 4 + 1
