"""``edgecar score``: a table for people, JSON for programs, code 3 where cleaning hurts."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from skimage import data

from edgecar.media.pictures import jpeg_coded
from tests.cli.test_run import clip  # noqa: F401  # a fixture

PHOTO = data.camera()[100:300, 100:340]


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Where the user stands: a source, codings of it, and one that was cleaned too hard."""
    monkeypatch.chdir(tmp_path)
    coarse = jpeg_coded(PHOTO, 10)
    made = {
        "ref": PHOTO,
        "fine": jpeg_coded(PHOTO, 60),
        "coarse": coarse,
        "smeared": np.asarray(cv2.GaussianBlur(coarse, (0, 0), 4)),
    }
    for name, picture in made.items():
        cv2.imwrite(f"{name}.png", picture)
    return tmp_path


@pytest.mark.usefixtures("pictures")
def test_several_are_judged_against_one_source(edgecar):
    done = edgecar("score", "ref.png", "fine.png", "coarse.png", "--threads", 1)
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    fine, coarse = (next(x for x in lines if x[:1] == [n]) for n in ("fine.png", "coarse.png"))
    assert all(float(fine[place]) > float(coarse[place]) for place in (2, 3, 4))
    assert "proxy: 100 × mean of MS-SSIM and VIF" in done.out
    assert "next      edgecar score ref.png fine.png --network edgecar-s" in done.err


@pytest.mark.usefixtures("pictures")
def test_json_has_every_row(edgecar):
    done = edgecar("score", "ref.png", "fine.png", "coarse.png", "--json")
    assert done.err.strip() == ""
    found = json.loads(done.out)
    assert found["scorer"]["target"].startswith("proxy: ")
    assert [entry["path"] for entry in found["inputs"]] == ["fine.png", "coarse.png"]
    for entry in found["inputs"]:
        (row,) = entry["rows"]
        assert set(row) == {"name", "score", "psnr", "ssim"}
        assert entry["mean"]["score"] == row["score"]


@pytest.mark.usefixtures("pictures")
def test_cleaning_that_hurts_is_code_three(edgecar):
    done = edgecar("score", "ref.png", "coarse.png", "--cleaned", "smeared.png")
    assert done.code == 3
    assert "cleaning  hurts in 1 of 1 place(s)" in done.out
    # The other way round it helps.
    done = edgecar("score", "ref.png", "smeared.png", "--cleaned", "coarse.png", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert not found["hurts"]
    assert found["segments"][0]["gain"] > found["tolerance"] > 0


@pytest.mark.usefixtures("pictures")
def test_a_tolerance_forgives(edgecar):
    arguments = ("score", "ref.png", "coarse.png", "--cleaned", "smeared.png")
    assert edgecar(*arguments, "--tolerance", 200).code == 0


@pytest.mark.usefixtures("pictures")
def test_a_coded_picture_is_made_and_cleaned(edgecar):
    done = edgecar("score", "ref.png", "--quality", 10, "--network", "edgecar-s", "--json")
    assert done.code == 0, done.err
    (segment,) = json.loads(done.out)["segments"]
    assert segment["psnr_gain_db"] > 1  # told that quality: .3 as in the middle of the range
    assert "weights for jpeg" in done.err


def test_a_clip_has_segments(edgecar, clip, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    arguments = ("--crf", 41, "--network", "edgecar-xs", "--segment", 5, "--tolerance", 100)
    done = edgecar("score", clip, *arguments, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [each["frames"] for each in found["segments"]] == [5, 5, 2]
    assert len(found["rows"]) == 12
    done = edgecar("score", clip, *arguments, "--frames", 4)
    assert "frame 0 to 3" in done.out
    assert "hurts nowhere" in done.out


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ref.png"], "no DIST is given"),
        (["ref.png", "gone.png"], "gone.png does not exist"),
        (["ref.png", "fine.png", "--quality", "10", "--network", "edgecar-s"], "leave DIST out"),
        (["ref.png", "--quality", "10"], "leave DIST out, and give both"),
        (["ref.png", "--crf", "30", "--network", "edgecar-s"], "code them with --quality"),
        (["ref.png", "--crf", "3", "--qp", "3", "--network", "edgecar-s"], "give one"),
        (["ref.png", "fine.png", "--cleaned", "ref.png", "--network", "x"], "give one"),
        (["ref.png", "fine.png", "coarse.png", "--cleaned", "ref.png"], "got 2 DIST"),
        (["ref.png", "fine.png", "--network", "resnet"], "no weights ship for 'resnet'"),
        (["ref.png", "fine.png", "--scorer", "mine.onnx"], "mine.onnx: no such file"),
        (["ref.png", "fine.png", "--engine", "abacus"], "no engine is called 'abacus'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_one_line(edgecar, arguments, words):
    done = edgecar("score", *arguments)
    assert done.code == 1
    assert done.out == ""
    assert words in done.err.strip().splitlines()[-1]
    assert "Traceback" not in done.err


def test_it_imports_no_torch(pictures):
    program = (
        "import sys; from edgecar.cli import main\n"
        "sys.argv = ['edgecar', 'score', 'ref.png', 'fine.png', '--json']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'scipy', 'onnxruntime'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=pictures, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
