"""Folders with a table: real clips by their factor, sources, licences, and what is held out."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecar.errors import DataError
from edgecar.files import cache_folder
from edgecar.media.frame import Frame
from edgecar.media.video_codec import VideoCoding, video_coded
from edgecar.train import clips as clips_module
from edgecar.train.data import held_out_of, source_of
from edgecar.train.degrade import H264Range, JpegRange
from edgecar.train.folders import (
    Original,
    originals_in,
    smaller,
    sources_of,
    training_originals,
)

README = """# Clips

| file | repository : path | licence | s |
|---|---|---|---|
| street.mkv | someone/streets : a.mp4 | MIT | 2 |
| seq_jpg/ | other/walks : b | {licence} | 1 |
| gone.mkv | someone/streets : c.mp4 | MIT | 2 |
"""
H264 = H264Range((20, 30), frames=6, every=2, size=(64, 64), clips=2, draws=3, real=0.5)


def frames(count: int, size: tuple[int, int] = (130, 198)) -> list[Frame]:
    """A brighter square that moves over noise, in colour."""
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 120, size, np.uint8)
    chroma = rng.integers(100, 150, (2, size[0] // 2, size[1] // 2), np.uint8)
    made = []
    for number in range(count):
        y = ground.copy()
        y[20:60, 10 + 4 * number : 50 + 4 * number] = 200
        made.append(Frame(y, *chroma))
    return made


@pytest.fixture
def clips(tmp_path):
    """A folder of two clips, a video and pictures, and a table that names a third."""

    def make(name: str = "clips", licence: str = "Apache-2.0"):
        folder = tmp_path / name
        (folder / "seq_jpg").mkdir(parents=True)
        (folder / "README.md").write_text(README.format(licence=licence))
        (folder / "street.mkv").write_bytes(
            video_coded(frames(8), VideoCoding("h264", 0)).bitstream
        )
        for number, frame in enumerate(frames(4)):
            cv2.imwrite(str(folder / "seq_jpg" / f"{number}.png"), frame.y[:101, :131])
        (folder / "left_out.mkv").write_bytes(b"")
        return folder

    return make


def test_smaller_frames_are_means_of_squares_and_even() -> None:
    (frame,) = frames(1)
    small = smaller(frame, 3)
    assert small.y.shape == (42, 66)
    assert small.u.shape == small.v.shape == (21, 33)
    for plane, whole in ((small.y, frame.y), (small.u, frame.u), (small.v, frame.v)):
        rows, columns = plane.shape
        squares = whole[: 3 * rows, : 3 * columns].reshape(rows, 3, columns, 3).astype(float)
        assert np.abs(plane - squares.mean(axis=(1, 3))).max() <= 0.5  # rounded
    assert smaller(frame, 1).y.tobytes() == frame.y.tobytes()


def test_a_table_tells_factor_source_and_licence(clips) -> None:
    folder = clips()
    street, walk = originals_in(folder)
    assert street == Original(folder / "street.mkv", "someone/streets", "MIT", 2)
    assert (walk.path.name, walk.source, walk.factor) == ("seq_jpg", "other/walks", 1)
    assert street.is_clip
    assert walk.is_clip
    for frame, whole in zip(street.frames(), frames(8), strict=True):
        assert np.array_equal(frame.y, smaller(whole, 2).y)
        assert np.array_equal(frame.u, smaller(whole, 2).u)
    assert [frame.size for frame in walk.frames()] == [(100, 130)] * 4


def test_tables_of_pictures_are_tsv_and_pictures_keep_their_size(tmp_path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 9, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((9, 9, 3), np.uint8))
    (tmp_path / "list.tsv").write_text("file\trepository\ts\tlicence\na.png\tme/mine\t5\tBSD-2\n")
    (tmp_path / "README.md").write_text("# Pictures\n\nA | in | the text.\n")
    (picture,) = originals_in(tmp_path)  # the other one is not in the table
    assert picture == Original(tmp_path / "a.png", "me/mine", "BSD-2")
    assert not picture.is_clip


def test_a_factor_must_be_a_whole_number(clips) -> None:
    folder = clips()
    (folder / "README.md").write_text(
        README.format(licence="MIT").replace("| MIT | 2 |", "| MIT | x |")
    )
    with pytest.raises(DataError, match=r"street\.mkv has factor s = 'x'; write a whole number"):
        originals_in(folder)


@pytest.mark.parametrize("licence", ["", "none", "-"])
def test_what_states_no_licence_is_refused_unless_told(clips, licence) -> None:
    folder = clips(licence=licence)
    with pytest.raises(DataError, match=r"seq_jpg states no licence.*--licence") as caught:
        training_originals([folder], [])
    assert "\n" not in str(caught.value)
    told = training_originals([folder], [], "mine")
    assert [original.licence for original in told] == ["MIT", "mine"]


def test_sources_that_are_held_out_are_not_trained_on(clips) -> None:
    folder = clips()
    street, walk = originals_in(folder)
    held_out = [Original(folder / "elsewhere.mkv", "someone/streets", "none")]
    assert training_originals([folder], held_out) == [walk]
    with pytest.raises(DataError, match="held out by its source"):
        training_originals([folder], [street, walk])


def test_sources_are_counted() -> None:
    found = [Original(Path(n), s, li) for n, s, li in (("a", "x", "MIT"), ("b", "w", "BSD"))]
    assert sources_of([*found, found[0]]) == [
        {"source": "w", "licence": "BSD", "files": 1},
        {"source": "x", "licence": "MIT", "files": 2},
    ]


def test_bsds500_has_its_licence(tmp_path) -> None:
    folder = tmp_path / "bsds500" / "train"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "1.png"), np.zeros((9, 9, 3), np.uint8))
    (original,) = training_originals([folder], [])
    assert original.source == "bsds500/train"
    assert "research use" in original.licence


def test_real_clips_are_coded_at_their_factor_and_told_the_slow_quantiser(
    clips, photos, monkeypatch
) -> None:
    coded = []

    def noted(scene, coding):
        coded.append((video_coded(scene, coding), scene, coding))
        return coded[-1][0]

    monkeypatch.setattr(clips_module, "video_coded", noted)
    real = originals_in(clips())
    source = source_of(H264, photos, seed=1, real=real)
    assert len(coded) == 2 + 3 * 2
    sizes = {scene[0].size for _, scene, _ in coded}
    assert sizes == {(64, 64), (64, 98), (100, 130)}  # 130×198 by two, even
    expected = {
        (clip.frames[n].y.tobytes(), scene[n].y.tobytes(), np.float32(clip.quantisers[n]).item())
        for clip, scene, _ in coded
        for n in range(0, len(scene), 2)
    }
    rng = np.random.default_rng(0)
    pairs = [source.pair(rng) for _ in range(300)]
    drawn = {(p.coded.tobytes(), p.clean.tobytes(), p.quantiser) for p in pairs}
    assert drawn == expected
    # Half of 300 draws: four standard deviations are 35.
    assert abs(sum(pair.clean.shape == (64, 64) for pair in pairs) - 150) < 35
    before = len(list(cache_folder("coded").iterdir()))
    source_of(H264, photos, seed=1, real=real)
    assert len(coded) == before == 8  # the second time all are read


def test_validation_is_on_real_clips_at_each_crf(clips, photos) -> None:
    real = originals_in(clips())
    held_out = held_out_of(H264Range((10, 51)), photos, real=real)
    assert list(held_out) == [f"crf {crf}" for crf in (23, 29, 35, 41, 47)]
    for pairs in held_out.values():
        assert [pair.clean.shape for pair in pairs] == [(64, 98), (100, 130)]
    means = [np.mean([pair.mse for pair in pairs]) for pairs in held_out.values()]
    assert means == sorted(means)
    told = [pairs[0].quantiser for pairs in held_out.values()]
    assert told == sorted(told)
    assert told[0] < told[-1]
    made = held_out_of(H264Range((23, 29), frames=4, size=(64, 64)), photos)
    assert {name: len(pairs) for name, pairs in made.items()} == {"crf 23": 12, "crf 29": 12}


def test_what_a_recipe_needs_must_be_there(photos) -> None:
    with pytest.raises(DataError, match=r"takes 0\.5 of its pairs from real clips"):
        source_of(H264, photos, seed=0)
    with pytest.raises(DataError, match="no photograph to make pairs of"):
        source_of(JpegRange(), [], seed=0)
    with pytest.raises(DataError, match="no photograph to validate on"):
        held_out_of(JpegRange(), [])
