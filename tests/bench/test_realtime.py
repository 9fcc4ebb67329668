"""The real-time benchmark: its suite, its figures, its row on the page."""

import json
import stat
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.run import contenders, realtime
from benchmarks.run.contenders import Case, Ways, contenders_for, ffmpeg_seconds
from benchmarks.run.pages import main as make_page
from benchmarks.run.realtime import case_row, changed_tiles_share, max_difference
from benchmarks.run.realtime_suite import find_suite, load_suite
from edgecar.bench.results import ROW_KEYS, SCHEMA_PATH, read_results, write_results
from edgecar.errors import DataError, MediaError, ReuseError, SettingsError
from edgecar.files import table_from_toml
from edgecar.media.frame import Frame
from edgecar.media.video_codec import VideoCoding, video_coded
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stream_cache import Reuse

pytestmark = pytest.mark.slow  # a harness for our own pages

SHIPPED = find_suite("realtime")
GRID = {"preset": '["veryfast"]', "crf": "[35]", "b_frames": "[0]", "gop": "[250]"}
APP = typer.Typer()
APP.command()(realtime.measure)


def moving_square(count: int = 6) -> list[Frame]:
    """Fixed noise, and a bright square that wanders through its upper left corner."""
    scene = np.random.default_rng(0).integers(60, 120, (192, 256)).astype(np.uint8)
    chroma = np.full((96, 128), 128, np.uint8)
    frames = []
    for number in range(count):
        y = scene.copy()
        y[10:26, 4 * number : 4 * number + 16] = 230
        frames.append(Frame(y, chroma, chroma))
    return frames


@pytest.fixture
def case(tmp_path) -> Case:
    coding = VideoCoding("h264", 35, "veryfast", 250, 0)
    coded = video_coded(moving_square(), coding)
    path = tmp_path / "square.mkv"
    path.write_bytes(coded.bitstream)
    return Case("square", coding, coded, path)


@pytest.fixture
def ways(exported) -> Ways:
    made = exported("edgecar-xs")
    return Ways(*(Restorer(made, "onnxruntime", reuse=reuse, threads=1) for reuse in (True, False)))


def suite_text(grid: dict[str, str] = GRID, clip: str = 'file = "square.mkv"') -> str:
    values = "\n".join(f"{key} = {value}" for key, value in grid.items())
    return f'[grids.one]\n{values}\n[[clips]]\n{clip}\ngrids = ["one"]\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "suite.toml"
    path.write_text(text)
    return path


def test_the_shipped_suite_has_every_clip_in_many_codings(tmp_path):
    files = [clip["file"] for clip in table_from_toml(SHIPPED)["clips"] if "file" in clip]
    assert len(set(files)) == 17
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    clips = load_suite(SHIPPED, tmp_path)
    assert len(clips) == 18  # and the scene of the demonstration
    for clip in clips:
        assert {coding.preset for coding in clip.codings} == {"veryfast", "medium"}
        assert {coding.b_frames for coding in clip.codings} == {0, 3}
        assert {coding.quantiser for coding in clip.codings} >= {35}
        assert len(set(clip.codings)) == len(clip.codings)
        brief = clip.name in ("photographs_1920x1080", "degirum_motorway_1080p30_20f")
        assert {coding.gop for coding in clip.codings} == ({250} if brief else {60, 250})
    assert sum({c.quantiser for c in clip.codings} == {29, 35, 41, 47} for clip in clips) >= 5
    full = load_suite(SHIPPED, tmp_path, grid="full", only="photographs", frames=9)
    assert [(len(set(clip.codings)), clip.frames) for clip in full] == [(2 * 4 * 2 * 2, 9)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (suite_text() + "frame = 3", "clip 1: unknown key 'frame'; known are file, scene"),
        (suite_text({**GRID, "qp": "[3]"}), "grid one: unknown key 'qp'; known are preset"),
        ("speed = 1\n" + suite_text(), "suite: unknown key 'speed'"),
        (suite_text({**GRID, "crf": "35"}), "grid one: crf is 35; need a list of whole numbers"),
        (suite_text({**GRID, "crf": "[52]"}), "quantiser 52 is not in 0 to 51"),
        (suite_text({**GRID, "preset": "[1]"}), "preset is .1.; need a list of text"),
        (suite_text({"crf": "[35]"}), "'preset' is missing"),
        (suite_text(clip="frames = 9"), "clip 1: need either file = 'PATH' or scene"),
        (suite_text(clip="scene = [9]"), "clip 1: need either file"),
        (suite_text() + "frames = 1", "clip 1: frames is 1; need a number of at least 2"),
        (suite_text().replace('["one"]', '["two"]'), "clip 1: no grid 'two'; known are one"),
        ("clips = 3\ngrids = 4", "need .grids.NAME. and ..clips.."),
        ("clips = [", "cannot read suite"),
    ],
)
def test_suites_that_are_not_understood_are_refused(text, message, tmp_path):
    (tmp_path / "square.mkv").touch()
    assert load_suite(written(tmp_path, suite_text()), tmp_path)
    with pytest.raises(SettingsError, match=message):
        load_suite(written(tmp_path, text), tmp_path)


def test_clips_that_are_not_there_are_explained(tmp_path):
    suite = written(tmp_path, suite_text())
    with pytest.raises(DataError, match=r"square.mkv does not exist; give the folder"):
        load_suite(suite, tmp_path)
    with pytest.raises(DataError, match="called 'circle'; choose among square"):
        load_suite(suite, tmp_path, only="circle")


def test_a_clip_of_one_frame_is_refused(tmp_path):
    bitstream = video_coded(moving_square(1), VideoCoding("h264", 35)).bitstream
    (tmp_path / "square.mkv").write_bytes(bitstream)
    (clip,) = load_suite(written(tmp_path, suite_text()), tmp_path)
    with pytest.raises(DataError, match="square has 1 frame; need at least 2"):
        clip.load()


def test_changed_tiles_are_counted():
    still = np.zeros((100, 130), np.uint8)  # 2×3 tiles, those at the edges cut
    corner, border = still.copy(), still.copy()
    corner[0, 0] = 1
    border[99, 129] = border[70, 10] = border[65, 12] = 1
    assert changed_tiles_share([still, still]) == 0
    assert changed_tiles_share([still, corner]) == pytest.approx(1 / 6)
    assert changed_tiles_share([still, still, border]) == pytest.approx((0 + 2 / 6) / 2)
    assert changed_tiles_share([still, still + 1]) == 1


def test_whoever_decodes_reads_the_file(case, ways):
    passes = contenders_for(case, ways, ())
    assert all(run() > 0 for run in passes.values())
    case.path.unlink()
    assert passes.pop("bare")() > 0
    assert set(passes) == {"reuse", "dense", "decode"}
    for run in passes.values():
        with pytest.raises(MediaError):
            run()


def test_a_row_says_what_was_measured(case, ways, make_results, tmp_path):
    row = case_row(case, ways, (), 0, 0)
    assert set(row) == ROW_KEYS["realtime"] == set(realtime.RealtimeRow.__annotations__)
    assert (row["clip"], row["height"], row["width"], row["frames"]) == ("square", 192, 256, 6)
    assert (row["preset"], row["crf"], row["b_frames"], row["gop"]) == ("veryfast", 35, 0, 250)
    assert row["rounds"] == 3
    assert row["max_difference"] == 0
    assert row["changed_tiles_share"] == round(1 / 12, 4)  # the square stays in one tile
    assert 0 < row["computed_share"] <= 1  # how much depends on what is faster here
    assert row["fps_spp3"] is row["reuse_to_fspp4"] is None
    path = tmp_path / "row.json"
    write_results(path, make_results(row, kind="realtime"))
    jsonschema.validate(json.loads(path.read_text()), json.loads(SCHEMA_PATH.read_text()))


def test_reuse_goes_through_the_clip_before(case, ways):
    """Three times, as 20 frames have room for six; all are compared before, and go through once."""
    before = ways.reuse.stats.frames
    row = case_row(case, ways, (), 0, 20)
    assert ways.reuse.stats.frames - before == (1 + 1 + 3 + row["rounds"]) * 6
    assert ways.dense.stats.frames == (1 + 1 + row["rounds"]) * 6


def test_ratios_are_medians_of_rounds_not_ratios_of_medians(case, ways, monkeypatch):
    rates = {"reuse": [10.0, 40.0, 30.0], "dense": [10.0, 10.0, 20.0]}
    rates |= {"bare": [5.0] * 3, "decode": [99.0] * 3, "spp3": [20.0] * 3}

    def rounds(*_: object) -> dict[str, list[float]]:
        ways.reuse.restore(case.coded.frames[0])  # something must have been restored
        return rates

    monkeypatch.setattr(realtime, "timed_rounds", rounds)
    row = case_row(case, ways, (("spp", 3),), 0, 0)
    assert (row["fps_reuse"], row["fps_dense"], row["fps_spp3"]) == (30.0, 10.0, 20.0)
    assert (row["reuse_to_dense"], row["reuse_to_bare"], row["reuse_to_spp3"]) == (1.5, 6.0, 1.5)


def test_another_output_with_reuse_fails_loudly(case, ways, exported):
    assert max_difference(case.path, ways) == 0
    lossy = Restorer(exported("edgecar-xs"), "onnxruntime", reuse=Reuse(tolerance=255), threads=1)
    wrong = Ways(lossy, ways.dense)
    assert max_difference(case.path, wrong) > 20  # the square is where it was in the first frame
    with pytest.raises(ReuseError, match=r"square, .*outputs with reuse differ by up to \d+ codes"):
        case_row(case, wrong, (), 0, 0)
    assert ReuseError.exit_code == 3


def fake_ffmpeg(folder: Path, script: str) -> None:
    command = folder / "ffmpeg"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)


def test_ffmpeg_is_asked_for_the_filter_on_as_many_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    fake_ffmpeg(tmp_path, f'echo "$@" > {tmp_path}/said; echo "bench: rtime=1.250s" >&2')
    assert ffmpeg_seconds(Path("in.mkv"), "spp=3:qp=5", 7) == 1.25
    said = (tmp_path / "said").read_text()
    assert "-threads 7 -i in.mkv -filter_threads 7 -vf spp=3:qp=5 -f null -" in said


@pytest.mark.parametrize(
    "script", ["echo no filter >&2; exit 1", "echo rtime=0.000s no filter >&2"]
)
def test_an_ffmpeg_that_gives_no_time_is_explained(script, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MediaError, match="spp=3 does not run"):
        ffmpeg_seconds(Path("in.mkv"), "spp=3", 1)
    fake_ffmpeg(tmp_path, script)
    with pytest.raises(MediaError, match=r"ffmpeg spp=3 gave no time .*no filter"):
        ffmpeg_seconds(Path("in.mkv"), "spp=3", 1)


@pytest.mark.slow  # a benchmark from end to end
@pytest.mark.usefixtures("case")
def test_it_runs_from_suite_to_page(tmp_path, write_artifact, monkeypatch):
    artifact = write_artifact(tmp_path / "own.onnx", "h264 crf 29-47")
    suite = written(tmp_path, suite_text({**GRID, "b_frames": "[0, 3]"}))
    folder = tmp_path / "benchmarks"
    save = folder / "results" / "realtime.json"
    monkeypatch.setattr(contenders, "FILTERS", (("nosuch", 3),))
    options = {"--data": tmp_path, "--save": save, "--suite": suite, "--network": artifact}
    words = [str(word) for pair in options.items() for word in pair]
    done = CliRunner().invoke(APP, [*words, "--frames", "4", "--seconds-per-case", "0"])
    assert done.exit_code == 0, done.output
    assert "left out  nosuch=3" in done.output
    rows = read_results(save).rows
    assert [(row["b_frames"], row["frames"]) for row in rows] == [(0, 4), (3, 4)]
    # What is there already is not measured again.
    again = CliRunner().invoke(APP, [*words, "--frames", "4", "--seconds-per-case", "0"])
    assert again.exit_code == 0
    assert "reuse/dense" not in again.output
    assert read_results(save).rows == rows
    assert make_page(["--folder", str(folder)]) == 0
    page = (folder / "pages" / "realtime.md").read_text()
    assert page.count("| square, 256×192 | veryfast, CRF 35, B ") == 2
    assert make_page(["--folder", str(folder), "--check"]) == 0


def test_a_wrong_suite_ends_in_a_line(tmp_path):
    suite = written(tmp_path, "")
    words = ["--data", str(tmp_path), "--save", str(tmp_path / "x.json"), "--suite", str(suite)]
    done = CliRunner().invoke(APP, words)
    assert done.exit_code == 1
    assert "'grids' is missing" in done.output
    assert not (tmp_path / "x.json").exists()
