"""Every writer on a disk that is full: one line, and what was there stays."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from skimage import data

from edgecar.artifact import find_artifact, read_artifact

HERE = Path(__file__).parents[2]
resource = pytest.importorskip("resource", reason="needs the limits of POSIX systems")

# Files above so many bytes are refused, by the system itself and in every library.
LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv.pop(1))
from edgecar.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
main()
"""

NETWORK = ("--network", "mine.onnx")
WRITERS = {
    "picture": ("run", "photo.jpg", "-o", "out.png", *NETWORK),
}
SLOW = {
    "result": ("bench", "--engine", "none", "--save", "out.json"),
    "comparison": ("run", "photo.jpg", "-o", "out.png", "--compare", *NETWORK),
    "folder": ("run", "folder", "-o", "clean", *NETWORK),
    "rows": ("eval", "jpeg", "--data", "folder", "--quality", "10", *NETWORK, "--save", "out.json"),
    "page": ("eval", "jpeg", "--data", "folder", "--quality", "10", *NETWORK,
             "--report", "out.html"),
    "export": ("export", "edgecar-xs", "-o", "out.onnx"),
    "repository": ("export", "mine.onnx", "--triton", "clean"),
    "chart": ("bench", "--res", "32x32", "--networks", "mine.onnx", "--chart", "out.png"),
}  # fmt: skip


@pytest.mark.parametrize(
    "writer", [*WRITERS, *(pytest.param(w, marks=pytest.mark.slow) for w in SLOW)]
)
def test_full_disk_is_one_line_and_keeps_what_was_there(writer, tmp_path):
    picture = cv2.imencode(".jpg", data.astronaut()[:128, :128, ::-1])[1].tobytes()
    (tmp_path / "folder").mkdir()
    for name in ("photo.jpg", "folder/a.jpg"):
        (tmp_path / name).write_bytes(picture)
    for name in ("out.png", "out.json", "out.onnx", "out.html"):
        (tmp_path / name).write_text("an older one")
    (tmp_path / "mine.onnx").write_bytes(read_artifact(find_artifact("edgecar-xs")).onnx)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    words = (WRITERS | SLOW)[writer]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(HERE), "200", *words],
        cwd=tmp_path,
        env=os.environ | {"PATH": ""},  # git, asked for the commit, would leave a lock behind
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("edgecar: ")
    assert "cannot" in last
    assert "; " in last
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
    for name in ("out.png", "out.json", "out.onnx", "out.html"):
        assert (tmp_path / name).read_text() == "an older one"
