"""Folders of photographs, and batches that depend on the seed and their number alone."""

from itertools import islice

import cv2
import numpy as np
import pytest

from edgecar.errors import DataError, MediaError
from edgecar.train.data import Batch, PatchSampler
from edgecar.train.degrade import JpegPairs, JpegRange, Pair
from edgecar.train.folders import load_photos, photo_folders

PATCH_PX = 32


class Random:
    """Pictures of noise, drawn anew each time; the coded one is the negative."""

    def pair(self, rng: np.random.Generator) -> Pair:
        clean = rng.integers(0, 256, (40, 56), np.uint8)
        return Pair(255 - clean, clean)


class Positions:
    """Each sample says where it is within its block of 8 px, and in which block."""

    def pair(self, _rng: np.random.Generator) -> Pair:
        rows, columns = np.mgrid[:48, :56]
        inside = rows % 8 * 8 + columns % 8
        block = rows // 8 * 7 + columns // 8
        return Pair(block.astype(np.uint8), inside.astype(np.uint8))


def sampler(source, *, seed: int = 3, batch: int = 4, pool: int = 6, refresh: int = 1):
    return PatchSampler(
        source, patch_px=PATCH_PX, batch=batch, seed=seed, pool=pool, refresh=refresh
    )


def assert_equal(one: Batch, other: Batch) -> None:
    for name in ("coded", "clean", "picture_mse", "quantiser"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("refresh", [1, 3])
def test_a_batch_depends_on_seed_and_number_alone(refresh) -> None:
    whole = list(islice(sampler(Random(), refresh=refresh).batches(), 12))
    for first in (1, 5, 11):  # 5: some of the first pool is left; 11: nothing is
        assert_equal(next(sampler(Random(), refresh=refresh).batches(first)), whole[first])
    assert len({batch.clean.tobytes() for batch in whole}) == 12


def test_it_goes_on_exactly_with_photographs(photos) -> None:
    source = JpegPairs(photos, JpegRange())
    for got, expected in zip(
        islice(sampler(source).batches(5), 3),
        islice(sampler(source).batches(), 5, 8),
        strict=True,
    ):
        assert_equal(got, expected)


def test_errors_are_those_of_whole_pictures(photos) -> None:
    (coded, clean), other = photos[0][:48, :56, :2].transpose(2, 0, 1), photos[1][:48, :56, 1]
    pairs = [Pair(coded.copy(), clean.copy()), Pair(other, clean.copy())]

    class Two:
        def pair(self, rng: np.random.Generator) -> Pair:
            return pairs[rng.integers(2)]

    batch = next(sampler(Two(), batch=32).batches())
    expected = {
        float(np.mean((pair.coded.astype(float) - pair.clean) ** 2) / 255**2) for pair in pairs
    }
    assert len(expected) == 2
    # Means of 2688 float32 values.
    assert set(batch.picture_mse.round(6).tolist()) == {
        float(np.float32(mse).round(6)) for mse in expected
    }


def test_coded_and_clean_are_the_same_place() -> None:
    for batch in islice(sampler(Random()).batches(), 5):
        coded, clean = batch.coded, batch.clean
        assert coded.shape == clean.shape == (4, 1, PATCH_PX, PATCH_PX)
        assert coded.dtype == clean.dtype == np.uint8
        np.testing.assert_array_equal(coded, 255 - clean)


def test_patches_start_where_blocks_do_and_anywhere_there() -> None:
    starts = set()
    for batch in islice(sampler(Positions(), batch=16).batches(), 20):
        coded, clean = batch.coded, batch.clean
        assert (clean[:, 0, 0, 0] == 0).all()  # row 0 and column 0 of a block
        assert (clean[:, 0, 9, 10] == 1 * 8 + 2).all()
        starts |= {divmod(int(block), 7) for block in coded[:, 0, 0, 0]}
    # 48×56 leaves room for 2 blocks down and 3 across: (0, 0) to (2, 3), each one drawn.
    assert starts == {(down, across) for down in range(3) for across in range(4)}


def test_the_pool_is_renewed() -> None:
    batches = islice(sampler(Random(), batch=64, pool=2, refresh=2).batches(), 3)
    rows = [{patch.tobytes() for patch in b.clean[:, 0, ::8, ::8]} for b in batches]
    # Two pictures with 2 · 4 places each; none of the first is left when two were coded anew.
    assert all(8 < len(patches) <= 16 for patches in rows)
    assert rows[0].isdisjoint(rows[1])


def test_pictures_smaller_than_a_patch_are_refused() -> None:
    tall = PatchSampler(Random(), patch_px=48, batch=1, seed=0, pool=1)
    with pytest.raises(DataError, match="a photograph is 56x40, a patch 48 px; remove it or lower"):
        next(tall.batches())


@pytest.fixture
def folders(tmp_path):
    """Makes folders of one photograph each."""

    def make(*names: str) -> None:
        for number, name in enumerate(names):
            (tmp_path / name).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / name / "1.png"), np.full((9, 7, 3), number, np.uint8))

    return make


def test_a_data_set_may_be_given_by_its_own_folder(folders, tmp_path) -> None:
    folders("set/train", "set/test", "set/val", "own/val", "plain")
    whole, own, plain = tmp_path / "set", tmp_path / "own", tmp_path / "plain"
    splits = [whole / "train", whole / "test"]
    assert photo_folders([whole], []) == (splits, [whole / "val"])
    assert photo_folders([whole], [plain, own]) == (splits, [plain, own])
    assert photo_folders([plain, whole], []) == ([plain, *splits], [whole / "val"])
    own_test = [whole / "test"]
    assert photo_folders([whole / "train"], own_test) == ([whole / "train"], own_test)
    # A folder with nothing but val is no data set: what is held out must be named.
    with pytest.raises(DataError, match=r"plain has no folder 'val'; give photographs .* --val"):
        photo_folders([plain], [])
    with pytest.raises(DataError, match=r"own has no folder 'val'"):
        photo_folders([own], [])


def test_missing_folders_are_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"absent is not a folder; give one .* --data"):
        photo_folders([tmp_path / "absent"], [])
    with pytest.raises(DataError, match="absent is not a folder"):
        photo_folders([tmp_path / "absent"], [tmp_path])


def test_what_is_held_out_is_not_trained_on(folders, tmp_path) -> None:
    folders("set/train", "set/val")
    with pytest.raises(DataError, match="train is trained on and held out"):
        photo_folders([tmp_path / "set"], [tmp_path / "set" / "train"])


def test_photographs_of_all_folders_are_read(folders, tmp_path) -> None:
    folders("a", "b")
    photos = load_photos([tmp_path / "b", tmp_path / "a"])
    assert [photo.shape for photo in photos] == [(9, 7, 3)] * 2
    assert [photo[0, 0, 0] for photo in photos] == [1, 0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="empty holds no picture"):
        load_photos([tmp_path / "empty"])
