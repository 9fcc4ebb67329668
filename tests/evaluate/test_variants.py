"""The papers' variants: what coders are told, and what rows and tables say."""

import json
from io import BytesIO

import av
import cv2
import jsonschema
import numpy as np
import pytest
from skimage import data

from benchmarks.run.pages import texts
from edgecar.bench.results import ROW_KEYS, SCHEMA_PATH
from edgecar.evaluate.clips import Clip
from edgecar.evaluate.encodes import Encodes
from edgecar.evaluate.metrics import RatePoint, bd_rate, flicker, psnr, psnr_b
from edgecar.evaluate.tables import (
    bd_cells,
    limits_lines,
    published_variants,
    variants_tables,
)
from edgecar.evaluate.variants import (
    CRFS,
    LIMITS_MBPS,
    h264_variants,
    hevc_variants,
    scaled_kbps,
)
from edgecar.evaluate.video import VariantRow, evaluate_variants, row_key
from edgecar.media.frame import Frame
from edgecar.media.video_codec import video_coded
from tests.cli.conftest import edgecar  # noqa: F401  # a fixture

FRAMES = 8


@pytest.fixture
def folder(tmp_path):
    """A still photograph with noise and a window that moves."""
    random = np.random.default_rng(0)
    path = tmp_path / "yard"
    path.mkdir()
    photo = cv2.resize(data.camera(), (160, 128), interpolation=cv2.INTER_AREA)
    for index in range(FRAMES):
        picture = photo + random.integers(-1, 2, photo.shape)
        picture[40:72, 8 * index : 8 * index + 32] = photo[:32, :32]
        cv2.imwrite(str(path / f"{index}.png"), np.clip(picture, 0, 255).astype(np.uint8))
    return path


class Passing:
    """Gives what a function makes of the coded luma."""

    def __init__(self, name="passing", function=lambda y: y):
        self.name, self._function, self.calls = name, function, 0

    def restored(self, coded, _coding, indices):
        self.calls += 1
        return [self._function(coded.frames[index].y) for index in indices]


def test_the_twelve_variants_are_those_of_the_paper():
    twelve = h264_variants((1080, 1920))
    assert [(v.limit_mbps, v.coding.quantiser) for v in twelve] == [
        (limit, crf) for limit in (2.0, 1.5, 1.0) for crf in (29, 35, 41, 47)
    ]
    # Coded at 25 frames a second, of which each may have as many bits as at 30.
    assert [v.coding.max_kbps for v in twelve[::4]] == [1667, 1250, 833]
    assert (CRFS, LIMITS_MBPS) == ((29, 35, 41, 47), (2.0, 1.5, 1.0))


def test_limits_follow_the_pixels():
    assert scaled_kbps(2.0, (540, 960)) == round(2000 / 4 * 25 / 30)
    assert scaled_kbps(1.0, (2, 2)) == 1


def pictures_coded(bitstream: bytes) -> str:
    """Type of every picture in order of display: I, P or B."""
    with av.open(BytesIO(bitstream)) as container:
        return "".join("?IPB"[int(picture.pict_type)] for picture in container.decode(video=0))


def test_hevc_is_coded_in_six_ways():
    chroma = np.full((64, 80), 128, np.uint8)
    photo = data.camera()
    frames = [Frame(photo[100:228, 2 * i : 2 * i + 160].copy(), chroma, chroma) for i in range(12)]
    six = hevc_variants((128, 160), [22, 37])
    assert [v.structure for v in six[::4]] == ["all-intra", "low-delay", "random-access"]
    assert [v.coding.in_loop_filters for v in six[:4]] == [True, True, False, False]
    types = {}
    for structure, with_filters, without in zip(
        ("all-intra", "low-delay", "random-access"), six[1::4], six[3::4], strict=True
    ):
        coded, unfiltered = (video_coded(frames, v.coding) for v in (with_filters, without))
        types[structure] = pictures_coded(coded.bitstream)
        assert coded.frames[0].y.tolist() != unfiltered.frames[0].y.tolist()
    assert types["all-intra"] == 12 * "I"
    assert types["low-delay"] == "I" + 11 * "P"
    assert types["random-access"].startswith("I")
    assert set(types["random-access"]) == {"I", "P", "B"}


def test_rows_say_what_was_measured(folder):
    method = Passing("brighter", lambda y: np.minimum(y, 251) + np.uint8(4))
    rows = list(evaluate_variants([Clip(folder)], "h264", [41], [method]))
    assert [row["limit_mbps"] for row in rows] == [2.0, 1.5, 1.0]
    frames = Clip(folder).load()
    variant = h264_variants(frames[0].size, [41])[2]
    # Kept: under a limit, x264 does not always give the same bits again.
    coded = Encodes("kept", frames).coded(variant.coding)
    clean, seen = [frame.y for frame in frames], [frame.y for frame in coded.frames]
    row = rows[2]
    assert row["kbps"] == coded.kbps
    assert row["max_kbps"] == variant.coding.max_kbps == 8
    blocks = [psnr_b(a, b) for a, b in zip(clean, seen, strict=True)]
    assert row["psnrb_in"] == pytest.approx(np.mean(blocks))
    changes = [flicker(clean[i], clean[i + 1], seen[i], seen[i + 1]) for i in range(FRAMES - 1)]
    assert row["flicker_in"] == pytest.approx(np.mean(changes))
    assert row["flicker_in"] > 0
    # A constant offset changes every error alike, but where it is cut off at white.
    assert row["flicker_out"] == pytest.approx(row["flicker_in"], rel=0.1)
    assert row["psnr_out"] < row["psnr_in"]
    assert row["psnrb_out"] < row["psnrb_in"]


def test_a_limit_that_bites_lowers_the_rate(folder):
    rows = list(evaluate_variants([Clip(folder)], "h264", [20], [Passing()]))
    assert rows[0]["kbps"] > rows[2]["kbps"]
    assert rows[0]["psnr_in"] > rows[2]["psnr_in"]


def test_flicker_is_from_a_measured_frame_to_the_next_of_the_clip(folder):
    method = Passing()
    row, *_ = evaluate_variants([Clip(folder)], "hevc", [41], [method], every=3)
    frames = Clip(folder).load()
    clean = [frame.y for frame in frames]
    seen = [f.y for f in video_coded(frames, hevc_variants(frames[0].size, [41])[0].coding).frames]
    firsts = range(0, FRAMES - 1, 3)
    changes = [flicker(clean[i], clean[i + 1], seen[i], seen[i + 1]) for i in firsts]
    assert row["flicker_in"] == pytest.approx(np.mean(changes))
    measured = range(0, FRAMES, 3)
    assert row["frames"] == len(measured)
    assert row["psnr_in"] == pytest.approx(np.mean([psnr(clean[i], seen[i]) for i in measured]))


def test_rows_that_are_there_are_not_measured_again(folder):
    first = list(evaluate_variants([Clip(folder)], "h264", [41], [Passing()]))
    done = {row_key(row) for row in first[:2]}
    # As they come back from a file.
    assert {row_key(json.loads(json.dumps(row))) for row in first[:2]} == done
    method, other = Passing(), Passing("other")
    rows = list(evaluate_variants([Clip(folder)], "h264", [41], [method, other], done=done))
    assert [(row["network"], row["limit_mbps"]) for row in rows] == [
        ("other", 2.0), ("other", 1.5), ("passing", 1.0), ("other", 1.0),
    ]  # fmt: skip
    assert method.calls == 1


def test_rows_fit_a_result_file():
    assert set(VariantRow.__annotations__) == ROW_KEYS["variants"]


# Tables.


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
    header, lines = tables["PSNR dB"]
    assert header == ("Method", "2 Mb/s CRF 29", "2 Mb/s CRF 35", "Mean")
    by_method = {line[0]: line[1:] for line in lines}
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
    for table in (psnr, ssim):
        for row in table.values():
            values = list(row.values())
            assert all(values[i] >= values[i + 1] for i in range(11) if i % 4 != 3)


def hevc_rows(structure, filters, psnr_in, psnr_out, rate=1.0):
    return [
        h264_row(
            codec="hevc", structure=structure, in_loop_filters=filters, limit_mbps=None,
            max_kbps=None, crf=qp, limit=None, kbps=rate * kbps, psnr_in=base + psnr_in,
            psnr_out=base + psnr_out,
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


def test_the_page_has_both(make_variants):
    section = texts([("both", make_variants)])["pages/variants.md"]
    assert "## PSNR-B dB, both" in section
    assert "### BD-rate in %, both" in section
    assert "| *SEFCNN* | – | -9.96 |" in section
    assert "Some CPU" in section


@pytest.fixture
def make_variants():
    from edgecar.bench.results import new_results

    rows = [h264_row(), *hevc_rows("all-intra", True, 0, 0.3)]
    results = new_results("variants", rows, "edgecar eval h264 --variants")
    results.machine["cpu"] = "Some CPU"
    return results


def test_limits_are_told_for_each_clip():
    rows = [h264_row(), h264_row(limit=1.0, max_kbps=208), *hevc_rows("low-delay", True, 0, 0)]
    assert limits_lines(rows) == ["gate: 2 Mb/s is 417 kbit/s, 1 Mb/s is 208 kbit/s at 25 frames/s"]


@pytest.fixture
def artifact(exported, tmp_path):
    path = tmp_path / "mine.onnx"
    path.write_bytes(exported("edgecar-xs").onnx)
    return path


def test_eval_variants_goes_on_from_its_file(edgecar, folder, artifact, tmp_path):  # noqa: F811
    saved = tmp_path / "variants.json"
    arguments = (
        "eval", "h264", "--data", folder, "--crf", 41, "--variants", "--network", artifact,
        "--save", saved,
    )  # fmt: skip
    done = edgecar(*arguments)
    assert done.code == 0, done.err
    assert "PSNR-B dB" in done.out
    assert "*CAR-CNN*" in done.out
    assert "limits    yard: 2 Mb/s is 16 kbit/s" in done.err
    stored = json.loads(saved.read_text())
    assert [row["limit_mbps"] for row in stored["rows"]] == [2.0, 1.5, 1.0]
    jsonschema.validate(stored, json.loads(SCHEMA_PATH.read_text()))
    marked = stored["rows"][1]
    marked["psnr_out"] = 77.0
    saved.write_text(json.dumps({**stored, "rows": [stored["rows"][0], marked]}))
    again = edgecar(*arguments, "--json")
    rows = json.loads(again.out)["rows"]
    assert [row["psnr_out"] for row in rows[:2]] == [stored["rows"][0]["psnr_out"], 77.0]
    # Coded again: under a limit, x264 does not always give the same bits, so no figures.
    assert [row_key(row) for row in rows] == [row_key(row) for row in stored["rows"]]


@pytest.mark.slow
def test_eval_variants_of_hevc(edgecar, folder, artifact):  # noqa: F811
    done = edgecar(
        "eval", "hevc", "--data", folder, "--qp", 22, 27, 32, 37, "--variants", "--network",
        artifact, "--every", 4, "--frames", 5,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "BD-rate in %" in done.out
    assert "*GL-Fusion*" in done.out
