import pytest

from edgecar.batch.archive import BatchSettings, find_clips, locked_state
from edgecar.errors import BatchError, OutputError


@pytest.fixture
def tree(tmp_path):
    """A function that makes files, and gives the folder they are in."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"video")
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("files", "sources", "out", "outputs"),
    [
        (["src/b.mp4", "src/gate/1/a.MKV", "src/notes.txt", "src/.trash/c.mp4", "d.avi"],
         ["src", "d.avi"], "out", ["b.mp4", "d.mp4", "gate/1/a.mp4"]),
        (["recording.001"], ["recording.001"], "out", ["recording.mp4"]),
        (["a.mp4", "clean/a.mp4"], ["."], "clean", ["a.mp4"]),
        (["src/a.mp4"], ["src", "src/a.mp4"], "out", ["a.mp4"]),
    ],
    ids=["a tree", "a named file of any suffix", "outputs are no sources", "given twice"],
)  # fmt: skip
def test_clips_are_found_in_files_and_folders(tree, files, sources, out, outputs):
    root = tree(*files)
    clips = find_clips([root / source for source in sources], root / out, "h264")
    assert [clip.name for clip in clips] == outputs
    assert [clip.output for clip in clips] == [root / out / name for name in outputs]
    lossless = find_clips([root / source for source in sources], root / out, "ffv1")
    assert [clip.output.suffix for clip in lossless] == [".mkv"] * len(outputs)


@pytest.mark.parametrize(
    ("sources", "out", "error", "message"),
    [
        (["x/a.mp4", "y"], "out", BatchError, r"would both become .*; rename one"),
        (["x"], "out", BatchError, r"would both become .*; rename one"),
        (["y/a.mp4"], "y", OutputError, "is an input and would be lost"),
        (["y/a.mp4"], "link", OutputError, "would be lost"),
        (["y"], "y", BatchError, "where the outputs go, too"),
        (["none.mp4"], "out", BatchError, "does not exist"),
        (["text"], "out", BatchError, "no video is in"),
        (["y"], "text/notes.txt", BatchError, "is a file; give a folder"),
    ],
)
def test_what_would_be_lost_or_is_not_there_is_said(tree, sources, out, error, message):
    root = tree("x/a.mp4", "y/a.mp4", "x/b.avi", "x/b.mp4", "text/notes.txt")
    (root / "link").mkdir()
    (root / "link" / "a.mp4").symlink_to(root / "y" / "a.mp4")
    with pytest.raises(error, match=message):
        find_clips([root / name for name in sources], root / out, "h264")


def test_one_folder_has_one_batch(tmp_path):
    again = pytest.raises(BatchError, match="another edgecar batch is at work")
    with locked_state(tmp_path), again, locked_state(tmp_path):
        pass
    with locked_state(tmp_path):
        pass


@pytest.mark.parametrize(
    ("name", "value"), [("part_seconds", 0), ("part_seconds", float("nan")), ("retries", -1)]
)
def test_settings_out_of_range(name, value):
    with pytest.raises(BatchError, match=f"--{name.replace('_', '-')} is"):
        BatchSettings(**{name: value})
