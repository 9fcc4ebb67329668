"""Tables of results for the terminal and the pages."""

import io

import pytest
from rich.console import Console

from benchmarks.run.pages import texts
from edgecar.bench.tables import bench_table
from edgecar.cli.output import WIDTH, Lines
from edgecar.evaluate.table import printed
from edgecar.evaluate.tables import (
    detection_tables,
    gains,
    recommendations,
    study_tables,
    video_cells,
)

CODED = {
    "network": "coded", "detector": "yolox", "head": "YOLOX", "objects": "all",
    "truth": "detector", "confidence": 0.25, "codec": "h264", "quantiser": 35, "kbps": 96.4,
    "clips": ["plaza", "gate"], "frames": 300, "boxes": 1135, "ap50": 0.61,
    "ap50_interval": [0.5, 0.7], "ap": 0.4, "over_coded50": None, "over_coded50_interval": None,
    "over_coded": None, "over_spp50": None, "over_spp50_interval": None, "over_spp": None,
    "recommendation": None,
}  # fmt: skip
RESTORED = CODED | {
    "network": "edgecar-m", "ap50": 0.66, "over_coded50": 0.05,
    "over_coded50_interval": [0.012, 0.081], "over_coded": -0.004, "recommendation": "clean",
}  # fmt: skip
LARGE = RESTORED | {
    "over_coded50_interval": [-0.105, 0.123], "over_spp50": 0.1, "over_spp50_interval": [-0.1, 0.2],
    "over_spp": 0.1, "quantiser": 47, "recommendation": "either",
}  # fmt: skip


def test_the_page_of_detection_has_a_line_for_each_row(make_results) -> None:
    persons = RESTORED | {"objects": "person", "boxes": 7}
    results = make_results(CODED, RESTORED, persons, kind="detection")
    page = texts([("plaza", results)])["pages/detection.md"]
    assert "h264: yolox (YOLOX), all: 1135 objects on 300 frames of 2 clips, plaza" in page
    assert "h264: yolox (YOLOX), person: 7 objects on 300 frames of 2 clips, plaza" in page
    assert "| CRF 35† | edgecar-m | 66.0 | +5.0 [1.2, 8.1] | – | 40.0 |" in page
    assert "| coded | 61.0 | – | – | 40.0 |" in page


def test_the_terminal_has_a_table_for_each_detector_and_group() -> None:
    rows = [CODED, RESTORED, CODED | {"objects": "vehicles"}, CODED | {"detector": "deim"}]
    first, *others = detection_tables(rows)
    assert [len(table.cells[1]) for table in (first, *others)] == [2, 1, 1]
    assert "what the detector finds on the source from a score of 0.25" in first.caption
    assert "† Cleaning must not lose here." in first.caption
    (by_people,) = detection_tables([CODED | {"truth": "people", "quantiser": 47}])
    assert "1135 marked objects" in by_people.title
    assert "boxes that people marked" in by_people.caption
    assert "†" not in by_people.caption
    (pictures,) = detection_tables([CODED | {"codec": "jpeg", "kbps": None}])
    assert pictures.title.endswith("1135 objects on 300 pictures")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (RESTORED, "clean: edgecar-m brings yolox +5.0 points of AP50 [1.2, 8.1] over coded at "
                   "CRF 35"),
        (RESTORED | {"over_coded50": -0.019, "over_coded50_interval": [-0.028, -0.01],
                     "recommendation": "pass"},
         "pass: cleaning with edgecar-m costs yolox 1.9 points of AP50 [1.0, 2.8] over coded at "
         "CRF 35"),
        (LARGE, "either: edgecar-m changes yolox by +5.0 points of AP50 [-10.5, 12.3] over coded "
                "at CRF 47, +10.0 [-10.0, 20.0] over spp"),
    ],
)  # fmt: skip
def test_a_sentence_says_what_to_do(row, words) -> None:
    spp = RESTORED | {"network": "spp"}
    persons = RESTORED | {"objects": "person"}
    assert list(recommendations([CODED, spp, row, persons])) == [words]
    assert len(list(recommendations([CODED, spp]))) == 1  # of a filter where there is no network


@pytest.mark.parametrize("columns", [80, None])
def test_nothing_is_cut_off_in_80_columns_or_in_a_pipe(columns) -> None:
    console = Lines(width=columns or WIDTH, file=io.StringIO())
    for table in detection_tables([CODED, LARGE]):
        console.print(printed(table))
    text = console.file.getvalue()
    assert "…" not in text
    for value in ("+5.0 [-10.5, 12.3]", "+10.0 [-10.0, 20.0]", "66.0"):
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
