"""The real-time benchmark: its suite, its figures, its row on the page."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.run import contenders, realtime
from benchmarks.run.contenders import Case, Ways
from benchmarks.run.pages import main as make_page
from benchmarks.run.realtime import case_row, changed_tiles_share, max_difference
from benchmarks.run.realtime_suite import find_suite, load_suite
from edgecar.bench.results import ROW_KEYS, SCHEMA_PATH, read_results, write_results
from edgecar.errors import DataError, ReuseError, SettingsError
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
        (suite_text() + "frame = 3", r"clips\.0\.frame: Extra inputs are not permitted"),
        (suite_text({**GRID, "crf": "35"}), r"grids\.one\.crf: .* valid list"),
        (suite_text({**GRID, "crf": "[52]"}), "quantiser 52 is not in 0 to 51"),
        (suite_text({"crf": "[35]"}), r"grids\.one\.preset: Field required"),
        (suite_text(clip="frames = 9"), "need either file = 'PATH' or scene"),
        (suite_text().replace('["one"]', '["two"]'), "no grid 'two'; known are one"),
        (suite_text().replace('["one"]', "[]") + "frames = 9", "a stream is measured whole"),
        ("clips = [", "suite.toml"),
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


def test_changed_tiles_are_counted():
    still = np.zeros((100, 130), np.uint8)  # 2×3 tiles, those at the edges cut
    corner, border = still.copy(), still.copy()
    corner[0, 0] = 1
    border[99, 129] = border[70, 10] = border[65, 12] = 1
    assert changed_tiles_share([still, still]) == 0
    assert changed_tiles_share([still, corner]) == pytest.approx(1 / 6)
    assert changed_tiles_share([still, still, border]) == pytest.approx((0 + 2 / 6) / 2)
    assert changed_tiles_share([still, still + 1]) == 1


def test_a_row_says_what_was_measured(case, ways, make_results, tmp_path):
    row = case_row(case, ways, (), 0, 0)
    assert set(row) == ROW_KEYS["realtime"]
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


def test_a_clip_without_grids_is_measured_as_it_is(case, exported, tmp_path):
    suite = written(tmp_path, suite_text().replace('["one"]', "[]"))
    artifact = exported("edgecar-xs")
    (row,) = realtime.measured(load_suite(suite, tmp_path), artifact, 0, 0, set())
    assert (row["crf"], row["b_frames"], row["gop"], row["frames"]) == (None, None, None, 6)
    assert row["kbps"] == pytest.approx(case.path.stat().st_size * 8 / 1000 / (6 / 25), abs=0.1)
    done = {realtime._key(row)}
    assert list(realtime.measured(load_suite(suite, tmp_path), artifact, 0, 0, done)) == []


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
