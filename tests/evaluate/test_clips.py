"""What is taken for a clip, and suites that name clips."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from edgecar.errors import DataError, MediaError, SettingsError
from edgecar.evaluate import clips as clips_module
from edgecar.evaluate.clips import STUDY, Clip, frame_from_picture, halved, load_clips, spread
from edgecar.files import shipped
from edgecar.media.color import bgr_from_frame, paper_luma_from_bgr
from edgecar.media.frame import Colour, Frame, chroma_size
from tests.evaluate.conftest import write_pictures

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
PHOTO = np.ascontiguousarray(data.coffee()[:40, :60, ::-1])


def write_video(path: Path, frames: int = 5, size: tuple[int, int] = (32, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coder = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), coder, 25, size[::-1])
    for index in range(frames):
        writer.write(np.full((*size, 3), 40 * index % 256, np.uint8))
    writer.release()
    return path


def walk(folder: Path) -> Path:
    return write_pictures(folder, [np.roll(PHOTO, index, axis=1) for index in range(3)])


def write_suite(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def noise_frame(size: tuple[int, int]) -> Frame:
    rng = np.random.default_rng(0)
    shapes = (size, chroma_size(size), chroma_size(size))
    planes = [rng.integers(0, 256, shape, np.uint8) for shape in shapes]
    return Frame(*planes, pts=7, colour=Colour(full_range=True))


@pytest.mark.parametrize("size", [(8, 12), (10, 14), (7, 13)])
def test_halving_is_area_averaging(size):
    frame = noise_frame(size)
    half = halved(frame)
    height, width = size[0] // 4 * 2, size[1] // 4 * 2  # even, so that it can be coded
    assert half.size == (height, width)
    assert (half.pts, half.colour) == (7, frame.colour)
    for plane, source in ((half.y, frame.y), (half.u, frame.u), (half.v, frame.v)):
        rows, columns = plane.shape
        whole = source[: 2 * rows, : 2 * columns].astype(int)
        sums = whole[::2, ::2] + whole[1::2, ::2] + whole[::2, 1::2] + whole[1::2, 1::2]
        assert np.array_equal(plane, (sums + 2) // 4)  # rounded
    with pytest.raises(DataError, match="frame is 8x3; halving needs 4 px each way"):
        halved(noise_frame((3, 8)))


def test_pictures_become_limited_range_video():
    frame = frame_from_picture(PHOTO)
    assert frame.colour == Colour(full_range=False, matrix=6)
    # Both round; swscale's coefficients have 15 bits.
    assert np.abs(frame.y.astype(int) - paper_luma_from_bgr(PHOTO)).max() <= 1
    assert (frame.y.min(), frame.y.max()) >= (16, 16)
    # Colour survives, apart from what half the chroma resolution takes at edges.
    assert np.abs(bgr_from_frame(frame).astype(int) - PHOTO).mean() < 4


def test_a_folder_of_pictures_and_a_file_are_clips(tmp_path):
    (clip,) = load_clips(walk(tmp_path / "walk")).clips
    frames = clip.load()
    assert (clip.name, len(frames), frames[0].size) == ("walk", 3, (40, 60))
    assert np.array_equal(frames[1].y, frame_from_picture(np.roll(PHOTO, 1, axis=1)).y)
    assert len(Clip(clip.path, frames=2).load()) == 2
    path = write_video(tmp_path / "street.avi")
    found = load_clips(path, frames=4)
    (clip,) = found.clips
    frames = clip.load()
    assert (found.name, len(frames)) == ("street", 4)
    half = Clip(path, halve=True).load()
    assert (len(half), half[2].size) == (5, (16, 24))
    assert np.array_equal(half[2].y, halved(frames[2]).y)


def test_a_folder_holds_every_video_and_every_folder_of_pictures(tmp_path):
    write_video(tmp_path / "b.avi")
    write_video(tmp_path / "a.avi")
    walk(tmp_path / "walk")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("bright day")
    (tmp_path / ".hidden.avi").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "poster.png"), PHOTO)
    found = load_clips(tmp_path)
    assert [clip.name for clip in found.clips] == ["a", "b", "walk"]
    assert found.left_out == ("notes.txt", "poster.png")


def test_nothing_to_evaluate_is_explained(tmp_path):
    with pytest.raises(DataError, match=r"absent does not exist; give a video or a folder"):
        load_clips(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match=r"holds no video and no folder of pictures; give"):
        load_clips(tmp_path)
    with pytest.raises(MediaError, match=r"notes\.txt is not a video"):
        load_clips(tmp_path / "notes.txt").clips[0].load()


def test_a_suite_names_clips_in_the_data_folder(tmp_path):
    write_video(tmp_path / "data" / "clips" / "a.avi")
    walk(tmp_path / "data" / "walk")
    suite = write_suite(
        tmp_path,
        '[[clips]]\nfile = "walk"\n[[clips]]\nfile = "clips/a.avi"\nhalve = true\nframes = 2\n',
    )
    found = load_clips(tmp_path / "data", str(suite))
    assert found.name == "mine"
    assert found.clips == (
        Clip(tmp_path / "data" / "walk"),
        Clip(tmp_path / "data" / "clips" / "a.avi", halve=True, frames=2),
    )
    # A limit from outside holds for all, but adds none of what the suite leaves out.
    limited = load_clips(tmp_path / "data", str(suite), frames=3)
    assert [clip.frames for clip in limited.clips] == [3, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clips = [", r"cannot read suite .*mine\.toml"),
        ("", r"no clip is named; add a \[\[clips\]\] table"),
        ("clips = 3", "no clip is named"),
        ("clips = [3]", "clip 1 is 3; need a table with a file"),
        ('name = "x"\n[[clips]]\nfile = "a.avi"', "unknown key 'name'; known is clips"),
        (
            '[[clips]]\nfile = "a.avi"\nhalf = true',
            "clip 1: unknown key 'half'; known are file, halve, frames",
        ),
        ("[[clips]]\nhalve = true", "clip 1 is {'halve': True}; need a table with a file"),
        ("[[clips]]\nfile = 3", "clip 1: file is 3; need text"),
        ('[[clips]]\nfile = "a.avi"\nhalve = 1', "halve is 1; need true or false"),
        ('[[clips]]\nfile = "a.avi"\nframes = true', "frames is True; need a number"),
        ('[[clips]]\nfile = "a.avi"\nframes = 0', "frames is 0; need at least 1"),
    ],
)
def test_unfit_suites_are_explained(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message):
        load_clips(tmp_path, str(write_suite(tmp_path, text)))


def test_what_a_suite_lacks_is_explained(tmp_path):
    suite = str(write_suite(tmp_path, '[[clips]]\nfile = "a.avi"\n'))
    for name, kind, words in (
        (suite, DataError, r"a\.avi of suite mine does not exist; give the folder"),
        (STUDY, DataError, f"of suite {STUDY} does not exist"),
        ("film", SettingsError, r"no suite is called 'film'; use a \.toml file or vid"),
        (str(tmp_path / "absent.toml"), SettingsError, r"cannot read suite .*absent\.toml"),
    ):
        with pytest.raises(kind, match=words):
            load_clips(tmp_path, name)


def test_a_folder_laid_out_as_the_study_is_the_study(tmp_path):
    """Its other folders of pictures are no clips."""
    text = (shipped("benchmarks", "suites") / f"{STUDY}.toml").read_text()
    files = [line.split('"')[1] for line in text.splitlines() if line.startswith("file")]
    assert len(files) == 8
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    walk(tmp_path / "photos")
    found = load_clips(tmp_path)
    assert [clip.path for clip in found.clips] == [tmp_path / name for name in files]
    assert found == load_clips(tmp_path, STUDY)
    (tmp_path / files[0]).unlink()
    assert [clip.name for clip in load_clips(tmp_path).clips] == ["photos"]


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the recordings in {SHARED}")
def test_the_study_is_there():
    sizes = {clip.name: clip.load()[0].size for clip in load_clips(SHARED, STUDY, frames=1).clips}
    assert sizes["kvs_street_window_640x480p25"] == (480, 640)
    assert sizes["parkpow_tollgate_cctv_720p18"] == (360, 640)
    assert sizes["yalue_plaza_pedestrians_960x540"] == (270, 480)
    assert sizes["akiyo_cif_rgb"] == (288, 352)
    assert all(side % 2 == 0 for size in sizes.values() for side in size)


@pytest.mark.parametrize("kind", ["video", "pictures"])
def test_runs_are_spread_over_the_whole_clip(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(clips_module, "RUN_FRAMES", 3)
    path = tmp_path / "long.avi"
    if kind == "video":
        write_video(path, 40, (16, 16))
    else:
        path = write_pictures(tmp_path / "long", [PHOTO[:16, :16]] * 40)
    numbers, frames = Clip(path, frames=9, in_runs=True).numbered()
    assert numbers == [0, 1, 2, 18, 19, 20, 37, 38, 39]
    assert len(frames) == 9
    whole = Clip(path, frames=40, in_runs=True).numbered()
    assert (whole[0], len(whole[1])) == (list(range(40)), 40)


def test_frames_are_spread_to_both_ends():
    assert spread(100, 4) == [0, 33, 66, 99]
    assert spread(3, 50) == [0, 1, 2]
