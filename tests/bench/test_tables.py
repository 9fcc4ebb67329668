"""Tables of results for the terminal and the pages."""

import io

import pytest
from rich.console import Console

from benchmarks.run.pages import texts
from edgecar.bench.tables import bench_table
from edgecar.cli.output import WIDTH, Lines
from edgecar.evaluate.table import printed
from edgecar.evaluate.tables import gains, narrow_tables, study_tables, video_cells

CODED = {
    "network": "coded", "detector": "yolox", "head": "YOLOX", "confidence": 0.25,
    "least_boxes": 10, "codec": "h264", "clip": "plaza", "quantiser": 41, "kbps": 96.4,
    "frames": 50, "boxes": 135, "rare_boxes": 3, "map50": 0.61, "map50_interval": [0.5, 0.7],
    "map": 0.4, "map_interval": [0.3, 0.5], "over_coded50": None, "over_coded50_interval": None,
    "over_coded": None, "over_coded_interval": None, "over_spp50": None,
    "over_spp50_interval": None, "over_spp": None, "over_spp_interval": None,
    "classes": [{"name": "person", "boxes": 135, "map50": 0.61, "map": 0.4}],
}  # fmt: skip
RESTORED = CODED | {
    "network": "edgecar-m", "map50": 0.66, "over_coded50": 0.05,
    "over_coded50_interval": [0.012, 0.081], "over_coded": -0.004,
    "over_coded_interval": [-0.01, 0.002],
}  # fmt: skip
LARGE = RESTORED | {
    "over_coded50_interval": [-0.105, 0.123], "over_spp50": 0.1, "over_spp50_interval": [-0.1, 0.2],
    "over_spp": 0.1, "over_spp_interval": [-0.1, 0.2],
    "classes": [{"name": f"class {n}", "boxes": 20, "map50": 0.5, "map": 0.4} for n in range(12)],
}  # fmt: skip


def test_the_page_of_detection_has_a_line_for_each_row(make_results) -> None:
    results = make_results(CODED, RESTORED, kind="detection")
    section = texts([("plaza", results)])["pages/detection.md"]
    assert "h264; detector yolox (YOLOX), objects from a score of 0.25, classes from 10" in section
    line = "| plaza | 50 | 135 | CRF 41 | 96 | edgecar-m | 66.0 | +5.0 [+1.2, +8.1] | – | 40.0 |"
    assert line in section
    assert "| 40.0 | -0.4 [-1.0, +0.2] | – | person 61.0 |" in section
    assert "| coded | 61.0 | – | – | 40.0 | – | – | person 61.0 |" in section


def test_the_terminal_has_tables_for_each_clip() -> None:
    tables = list(narrow_tables([CODED, RESTORED, CODED | {"clip": "gate", "rare_boxes": 0}]))
    assert tables[0].title == "plaza: 50 frames, 135 person; 3 of rarer classes left out"
    assert tables[3].title == "gate: 50 frames, 135 person"
    assert [len(table.cells[1]) for table in tables] == [2, 2, 2, 1, 1, 1]


@pytest.mark.parametrize("columns", [80, None])
def test_nothing_is_cut_off_in_80_columns_or_in_a_pipe(columns) -> None:
    console = Lines(width=columns or WIDTH, file=io.StringIO())
    for table in narrow_tables([CODED, LARGE]):
        console.print(printed(table))
    text = console.file.getvalue()
    assert "…" not in text
    for value in ("+5.0 [-10.5, +12.3]", "+10.0 [-10.0, +20.0]", "96", "66.0", "class 11 50.0"):
        assert value in (text if columns is None else " ".join(text.split()))
    if columns:
        assert max(map(len, text.splitlines())) <= columns


@pytest.fixture
def rows(video) -> list[dict]:
    """Two clips at two quantisers; the network loses once, the filter never."""
    return [
        video(clip=clip, quantiser=quantiser, network=network, psnr_out=32 + gain_db)
        for clip, quantiser, network, gain_db in (
            ("street", 29, "edgecar-s", 0.5),
            ("street", 29, "spp", 0.25),
            ("street", 35, "edgecar-s", 0.75),
            ("street", 35, "spp", 0.0),
            ("plaza", 29, "edgecar-s", -0.25),
            ("plaza", 29, "spp", 0.25),
            ("plaza", 35, "edgecar-s", 0.25),
            ("plaza", 35, "spp", 0.5),
        )
    ]


def test_gains_by_hand(rows) -> None:
    network, spp = gains(rows)
    assert network.network == "edgecar-s"
    assert network.by_quantiser == {29: 0.125, 35: 0.5}
    assert network.mean == 0.3125
    assert network.ssim == pytest.approx(0.01)  # the last bits of a difference
    assert (network.lowest, network.lowest_at) == (-0.25, ("plaza", 29))
    assert (network.losses, network.inputs) == (1, 4)
    # Nothing gained is nothing lost.
    assert (spp.lowest, spp.lowest_at, spp.losses) == (0.0, ("street", 35), 0)


def test_a_codec_has_its_own_table(rows, video) -> None:
    other = video(codec="hevc", quantiser=32, psnr_in=40.0, psnr_out=40.1)
    header, lines = video_cells([*rows, other], "h264")
    assert header[:4] == ("Network", "CRF 29", "CRF 35", "Mean")
    assert lines == [
        ["h264", "32.00", "32.00", "32.00", "0.9100", "–", "–", "–"],
        ["edgecar-s", "+0.12", "+0.50", "+0.31", "+0.0100", "-0.25", "plaza, CRF 29",
         "1 of 4 inputs"],
        ["spp", "+0.25", "+0.25", "+0.25", "+0.0100", "+0.00", "street, CRF 35", "0 of 4 inputs"],
    ]  # fmt: skip
    header, lines = video_cells([*rows, other], "hevc")
    assert header[:3] == ("Network", "QP 32", "Mean")
    assert [line[0] for line in lines] == ["hevc", "edgecar-s"]
    assert lines[0][1] == "40.00"


def test_coded_clips_count_once_and_what_was_not_measured_is_a_dash(video) -> None:
    street = [video(network=name, psnr_in=30.0) for name in ("a", "b", "c")]
    plaza = video(network="a", clip="plaza", psnr_in=40.0)
    assert video_cells([*street, plaza], "h264")[1][0][1] == "35.00"
    _, (_, first, second) = video_cells([video(), video(network="b", quantiser=41)], "h264")
    assert first[:4] == ["edgecar-s", "+0.50", "–", "+0.50"]
    assert second[:4] == ["b", "–", "+0.50", "+0.50"]


def lines_of(table, words: str) -> list[str]:
    console = Console(width=250)
    with console.capture() as captured:
        console.print(table)
    return [line for line in captured.get().splitlines() if words in line]


def test_tables_of_the_terminal(rows, timed, counted) -> None:
    (table,) = study_tables("video", rows)
    (line,) = lines_of(printed(table), "edgecar-s")
    for cell in ("+0.12", "+0.50", "-0.25", "plaza, CRF 29", "1 of 4 inputs"):
        assert cell in line
    table = bench_table([timed(), counted(network="msfan"), timed(params=None)])
    ours, unknown = lines_of(table, "edgecar-s")
    for figure in ("39,332", "900.50", "0.6117", "20.305", "56.04", "61.20", "17.8", "412"):
        assert figure in ours
    assert "39,332" not in unknown
    (theirs,) = lines_of(table, "msfan")
    assert theirs.count("–") == 6  # engine, precision, two times, speed, peak
