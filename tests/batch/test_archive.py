import pytest

from edgecar.batch.archive import find_clips
from edgecar.errors import BatchError, OutputError


@pytest.fixture
def tree(tmp_path):
    """A function that makes files, and the folder they are in."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"video")
        return tmp_path

    return make


def names(clips):
    return [clip.name for clip in clips]


def test_folders_are_searched_and_keep_their_tree(tree):
    root = tree("src/b.mp4", "src/gate/1/a.MKV", "src/notes.txt", "src/.trash/c.mp4", "d.avi")
    clips = find_clips([root / "src", root / "d.avi"], root / "out", "h264")
    assert names(clips) == ["b.mp4", "d.mp4", "gate/1/a.mp4"]
    assert clips[2].output == root / "out" / "gate" / "1" / "a.mp4"
    assert names(find_clips([root / "src"], root / "out", "ffv1")) == ["b.mkv", "gate/1/a.mkv"]


def test_a_file_that_is_named_is_taken_whatever_its_suffix(tree):
    root = tree("recording.001")
    assert names(find_clips([root / "recording.001"], root / "out", "h264")) == ["recording.mp4"]


def test_outputs_below_a_source_folder_are_no_sources(tree):
    root = tree("a.mp4", "clean/a.mp4")
    assert names(find_clips([root], root / "clean", "h264")) == ["a.mp4"]


def test_a_clip_given_twice_is_one(tree):
    root = tree("src/a.mp4")
    assert names(find_clips([root / "src", root / "src/a.mp4"], root / "out", "h264")) == ["a.mp4"]


def test_two_sources_of_one_output_are_refused(tree):
    root = tree("x/a.mp4", "y/a.mp4", "x/b.avi", "x/b.mp4")
    for sources in (["x/a.mp4", "y"], ["x"]):
        with pytest.raises(BatchError, match=r"would both become .*; rename one"):
            find_clips([root / name for name in sources], root / "out", "h264")


def test_no_source_is_written_over(tree):
    root = tree("a.mp4")
    with pytest.raises(OutputError, match="is an input and would be lost"):
        find_clips([root / "a.mp4"], root, "h264")
    with pytest.raises(BatchError, match="where the outputs go, too"):
        find_clips([root], root, "h264")
    (root / "out").mkdir()
    (root / "out" / "a.mp4").symlink_to(root / "a.mp4")
    with pytest.raises(OutputError, match="would be lost"):
        find_clips([root / "a.mp4"], root / "out", "h264")


def test_what_is_not_there_is_said(tree):
    root = tree("notes.txt")
    with pytest.raises(BatchError, match="does not exist"):
        find_clips([root / "none.mp4"], root / "out", "h264")
    with pytest.raises(BatchError, match="no video is in"):
        find_clips([root], root / "out", "h264")
    with pytest.raises(BatchError, match="is a file; give a folder"):
        find_clips([root / "notes.txt"], root / "notes.txt", "h264")
