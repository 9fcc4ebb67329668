"""Means and extremes of video rows."""

import pytest
from rich.console import Console

from edgecar.bench.tables import bench_table
from edgecar.evaluate.table import printed
from edgecar.evaluate.tables import gains, study_tables, video_cells


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
        [
            *("edgecar-s", "+0.12", "+0.50", "+0.31", "+0.0100"),
            *("-0.25", "plaza, CRF 29", "1 of 4 inputs"),
        ],
        [
            *("spp", "+0.25", "+0.25", "+0.25", "+0.0100"),
            *("+0.00", "street, CRF 35", "0 of 4 inputs"),
        ],
    ]
    header, lines = video_cells([*rows, other], "hevc")
    assert header[:3] == ("Network", "QP 32", "Mean")
    assert [line[0] for line in lines] == ["hevc", "edgecar-s"]
    assert lines[0][1] == "40.00"


def test_coded_clips_count_once_however_many_networks_saw_them(video) -> None:
    street = [video(network=name, psnr_in=30.0) for name in ("a", "b", "c")]
    plaza = video(network="a", clip="plaza", psnr_in=40.0)
    _, lines = video_cells([*street, plaza], "h264")
    assert lines[0][1] == "35.00"


def test_what_a_network_was_not_measured_at_is_a_dash(video) -> None:
    rows = [video(), video(network="b", quantiser=41)]
    _, (_, first, second) = video_cells(rows, "h264")
    assert first[:4] == ["edgecar-s", "+0.50", "–", "+0.50"]
    assert second[:4] == ["b", "–", "+0.50", "+0.50"]


def test_terminal_table(rows) -> None:
    console = Console(width=160)
    with console.capture() as captured:
        console.print(*map(printed, study_tables("video", rows)))
    (line,) = [line for line in captured.get().splitlines() if "edgecar-s" in line]
    for cell in ("+0.12", "+0.50", "-0.25", "plaza, CRF 29", "1 of 4 inputs"):
        assert cell in line


def test_the_terminal_has_dashes_for_what_was_only_counted(timed, counted) -> None:
    console = Console(width=250)
    with console.capture() as captured:
        console.print(bench_table([timed(), counted(network="msfan"), timed(params=None)]))
    lines = captured.get().splitlines()
    (ours, unknown) = [line for line in lines if "edgecar-s" in line]
    for figure in ("39,332", "900.50", "0.6117", "20.305", "56.04", "61.20", "17.8", "412"):
        assert figure in ours
    assert "39,332" not in unknown
    (theirs,) = [line for line in lines if "msfan" in line]
    assert theirs.count("–") == 6  # engine, precision, two times, speed, peak
