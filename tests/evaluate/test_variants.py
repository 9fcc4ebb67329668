"""The papers' variants: what coders are told, and what tables say."""

from io import BytesIO

import av
import numpy as np
from skimage import data

from benchmarks.run.pages import texts
from edgecar.bench.results import new_results
from edgecar.evaluate.metrics import RatePoint, bd_rate
from edgecar.evaluate.tables import bd_cells, limits_lines, published_variants, variants_tables
from edgecar.evaluate.variants import scaled_kbps, variants
from edgecar.media.frame import Frame
from edgecar.media.video_codec import video_coded


def test_the_twelve_variants_are_those_of_the_paper_and_limits_follow_the_pixels():
    twelve = variants("h264", (1080, 1920))
    assert [(columns["limit_mbps"], coding.quantiser) for coding, columns in twelve] == [
        (limit, crf) for limit in (2.0, 1.5, 1.0) for crf in (29, 35, 41, 47)
    ]
    # Coded at 25 frames a second, of which each may have as many bits as at 30.
    assert [coding.max_kbps for coding, _ in twelve[::4]] == [1667, 1250, 833]
    assert [columns["max_kbps"] for _, columns in twelve[::4]] == [1667, 1250, 833]
    assert scaled_kbps(2.0, (540, 960)) == round(2000 / 4 * 25 / 30)
    assert scaled_kbps(1.0, (2, 2)) == 1


def test_hevc_is_coded_in_six_ways():
    chroma = np.full((64, 80), 128, np.uint8)
    photo = data.camera()
    frames = [Frame(photo[100:228, 2 * i : 2 * i + 160].copy(), chroma, chroma) for i in range(12)]
    pictures, lumas = {}, {}
    for coding, columns in variants("hevc", (128, 160), [37]):
        coded = video_coded(frames, coding)
        with av.open(BytesIO(coded.bitstream)) as container:
            types = "".join("?IPB"[int(each.pict_type)] for each in container.decode(video=0))
        assert columns["in_loop_filters"] is coding.in_loop_filters
        pictures.setdefault(columns["structure"], []).append(types)
        lumas.setdefault(columns["structure"], set()).add(coded.frames[0].y.tobytes())
    assert [len(each) for each in pictures.values()] == [2, 2, 2]  # with filters and without
    assert [len(each) for each in lumas.values()] == [2, 2, 2]  # which shows
    assert pictures["all-intra"] == [12 * "I"] * 2
    assert pictures["low-delay"] == ["I" + 11 * "P"] * 2
    assert pictures["random-access"][0].startswith("I")
    assert set(pictures["random-access"][0]) == {"I", "P", "B"}


def h264_row(clip="gate", network="edgecar-s", limit=2.0, crf=29, **changes):
    return {
        "network": network, "codec": "h264", "clip": clip, "quantiser": crf, "limit_mbps": limit,
        "max_kbps": 417, "structure": "default", "in_loop_filters": True, "frames": 9,
        "kbps": 96.0, "psnr_in": 30.0, "psnr_out": 30.5, "ssim_in": 0.8, "ssim_out": 0.81,
        "psnrb_in": 29.0, "psnrb_out": 29.9, "flicker_in": 1.25, "flicker_out": 1.0, **changes,
    }  # fmt: skip


def test_the_table_has_the_papers_rows_beside_ours():
    rows = [
        h264_row(),
        h264_row(crf=35, psnr_out=32.5),
        h264_row("yard", psnr_in=32.0, psnr_out=31.5),
        h264_row("yard", crf=35),
        h264_row("yard", "spp", psnr_in=32.0, psnr_out=40.0, flicker_out=None),
    ]
    tables = variants_tables(rows)
    assert list(tables) == ["PSNR dB", "SSIM", "PSNR-B dB", "Flicker, codes"]
    assert tables["PSNR dB"][0] == ("Method", "2 Mb/s CRF 29", "2 Mb/s CRF 35", "Mean")
    by_method = {line[0]: line[1:] for line in tables["PSNR dB"][1]}
    assert by_method["h264"] == ["31.00", "30.00", "30.50"]
    assert by_method["edgecar-s"] == ["31.00", "31.50", "31.25"]
    assert by_method["spp"] == ["40.00", "–", "40.00"]
    assert by_method["*ssp*"] == ["29.65", "28.09", "28.87"]
    assert by_method["*CAR-CNN, MSE*"][0] == "30.07"
    ssim = {line[0]: line[1:] for line in tables["SSIM"][1]}
    assert ssim["*CAR-CNN*"] == ["0.873", "0.867", "0.8700"]
    flickers = {line[0]: line[1:] for line in tables["Flicker, codes"][1]}
    assert flickers["spp"] == ["–", "–", "–"]
    assert flickers["edgecar-s"][0] == "1.000"
    assert not any(method.startswith("*") for method in flickers)


def test_printed_values_are_in_the_order_of_the_paper():
    """Spots of tables 1 and 2."""
    psnr, ssim = published_variants("psnr"), published_variants("ssim")
    assert psnr["CAR-CNN"][1.5, 35] == 28.18
    assert psnr["CAR-CNN, MSE"][1.0, 47] == 25.05
    assert ssim["ssp"][1.0, 29] == 0.787
    assert ssim["CAR-CNN"][2.0, 35] == 0.867
    for row in (*psnr.values(), *ssim.values()):
        values = list(row.values())
        assert all(values[i] >= values[i + 1] for i in range(11) if i % 4 != 3)


def hevc_rows(structure, filters, psnr_in, psnr_out):
    return [
        h264_row(
            codec="hevc", structure=structure, in_loop_filters=filters, max_kbps=None, crf=qp,
            limit=None, kbps=kbps, psnr_in=base + psnr_in, psnr_out=base + psnr_out,
        )
        for qp, kbps, base in ((22, 800, 39), (27, 400, 36), (32, 200, 33), (37, 100, 30))
    ]  # fmt: skip


def test_bd_rates_are_over_the_coder_with_its_filters():
    rows = [
        *hevc_rows("all-intra", True, 0.0, 0.3),
        *hevc_rows("all-intra", False, -0.3, 0.6),
        *hevc_rows("low-delay", True, 0.0, 0.0)[:3],  # too few for a curve
    ]
    header, lines = bd_cells(rows)
    assert header == (
        "Network", "all-intra, after", "all-intra, instead", "low-delay, after",
        "low-delay, instead",
    )  # fmt: skip
    by_method = {line[0]: line[1:] for line in lines}
    # Rate doubles every 3 dB.
    after, instead, worse = (f"{100 * (2 ** (-db / 3) - 1):+.2f}" for db in (0.3, 0.6, -0.3))
    assert by_method["edgecar-s"] == [after, instead, "–", "–"]
    assert by_method["x265 without filters"] == ["–", worse, "–", "–"]
    assert by_method["*GL-Fusion*"] == ["–", "-13.55", "–", "-11.30"]
    anchor = [RatePoint(row["kbps"], row["psnr_in"]) for row in rows[:4]]
    test = [RatePoint(row["kbps"], row["psnr_out"]) for row in rows[4:8]]
    assert instead == f"{bd_rate(anchor, test):+.2f}"


def test_the_page_has_both_coders():
    rows = [h264_row(), *hevc_rows("all-intra", True, 0, 0.3)]
    results = new_results("variants", rows, "edgecar eval h264 --variants")
    section = texts([("both", results)])["pages/variants.md"]
    for words in ("## PSNR-B dB, both", "### BD-rate in %, both", "| *SEFCNN* | – | -9.96 |"):
        assert words in section
    rows.append(h264_row(limit=1.0, max_kbps=208))
    assert limits_lines(rows) == ["gate: 2 Mb/s is 417 kbit/s, 1 Mb/s is 208 kbit/s at 25 frames/s"]
