"""The studies of JPEG, H.264 and HEVC: what rows say, and the commands."""

import json
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
from skimage import data

from edgecar.bench.results import ROW_KEYS, SCHEMA_PATH
from edgecar.errors import DataError, MediaError, SettingsError
from edgecar.evaluate.clips import Clip, frame_of_luma, load_pictures, published_luma
from edgecar.evaluate.encodes import Source
from edgecar.evaluate.metrics import PSNR_CAP_DB, flicker, psnr, psnr_b, ssim
from edgecar.evaluate.quality import (
    SSIM_FRAMES,
    evaluate_jpeg,
    evaluate_variants,
    evaluate_video,
)
from edgecar.evaluate.study import row_key
from edgecar.evaluate.tables import published
from edgecar.evaluate.variants import variants
from edgecar.media.color import paper_luma_from_bgr
from edgecar.media.pictures import jpeg_coded
from edgecar.media.quantiser import quantiser_from_jpeg_quality
from edgecar.media.video_codec import video_coded
from tests.evaluate.conftest import (
    CODING,
    PHOTO,
    SOURCE,
    Known,
    Loaded,
    halfway,
    network,
    write_pictures,
)

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
GREY = np.ascontiguousarray(data.camera()[:64, :80])


def measured(methods, every=1, coding=CODING):
    return list(evaluate_video([Loaded()], coding.codec, [coding.quantiser], methods, every))


# JPEG.


def test_rows_of_jpeg_average_over_the_set():
    pictures = [("a", GREY), ("b", GREY // 2)]
    smooth = Known(lambda coded, _: cv2.GaussianBlur(coded, (0, 0), 0.8))
    same, blurred, better, _ = evaluate_jpeg(pictures, "two", (10, 40), [Known(), smooth])
    assert set(same) == ROW_KEYS["jpeg"]
    assert (same["network"], same["set"], same["quality"]) == ("known", "two", 10)
    coded = [jpeg_coded(luma, 10) for _, luma in pictures]
    for row, seen in ((same, coded), (blurred, [smooth.function(luma, None) for luma in coded])):
        for end, shown in (("in", coded), ("out", seen)):
            pairs = [(luma, picture) for (_, luma), picture in zip(pictures, shown, strict=True)]
            likeness = np.mean([ssim(*pair, window="uniform") for pair in pairs])
            assert row[f"psnr_{end}"] == pytest.approx(np.mean([psnr(*pair) for pair in pairs]))
            assert row[f"ssim_{end}"] == pytest.approx(likeness)
            assert row[f"psnrb_{end}"] == pytest.approx(np.mean([psnr_b(*pair) for pair in pairs]))
    assert same["worst_picture_gain_db"] == 0
    gains = [
        psnr(luma, smooth.function(seen, None)) - psnr(luma, seen)
        for (_, luma), seen in zip(pictures, coded, strict=True)
    ]
    assert blurred["worst_picture_gain_db"] == pytest.approx(min(gains))
    assert max(gains) > min(gains) + 1e-3
    assert blurred["psnrb_out"] > blurred["psnrb_in"]  # it takes blocks away
    assert better["psnr_in"] > same["psnr_in"] + 3  # four times the quality is seen


def test_a_network_restores_pictures_and_more_than_ten_count():
    brighter = network(lambda batch: batch + 4 / 255)
    pictures = [(str(seed), np.roll(GREY, seed, 1)) for seed in range(12)]
    (row,) = evaluate_jpeg(pictures, "s", [10], [brighter])
    coded = [(luma, jpeg_coded(luma, 10)) for _, luma in pictures]
    after = [
        psnr(luma, np.minimum(seen.astype(int) + 4, 255).astype(np.uint8)) for luma, seen in coded
    ]
    assert row["psnr_out"] == pytest.approx(np.mean(after))
    likeness = [ssim(luma, seen, window="uniform") for luma, seen in coded]
    assert row["ssim_in"] == pytest.approx(np.mean(likeness))


def test_grey_and_colour_files_are_told_apart(tmp_path):
    photo = np.ascontiguousarray(data.astronaut()[:96, 200:328, ::-1])
    tripled = np.repeat(GREY[:, :, None], 3, axis=2)
    for name, picture in (("grey.png", GREY), ("tripled.png", tripled), ("photo.bmp", photo)):
        cv2.imwrite(str(tmp_path / name), picture)
    (tmp_path / "readme.txt").write_text("not a picture")
    pictures = dict(load_pictures(tmp_path))
    assert list(pictures) == ["grey", "photo", "tripled"]
    np.testing.assert_array_equal(pictures["grey"], GREY)
    np.testing.assert_array_equal(pictures["tripled"], GREY)
    np.testing.assert_array_equal(pictures["photo"], paper_luma_from_bgr(photo))
    tripled[5, 6, 2] ^= 1  # not grey for one pixel: now of limited range
    assert abs(int(published_luma(tripled)[0, 0]) - int(GREY[0, 0])) > 1
    (tmp_path / "broken.png").write_bytes(b"not a png")
    with pytest.raises(MediaError, match=r"broken\.png is not a picture"):
        load_pictures(tmp_path)


# Columns that the MSFAN paper lacks, from the tables of FBCNN (Jiang et al., ICCV 2021) and others:
# PSNR-B, and SSIM with the Gaussian window.
PSNR_B = {
    "Classic5": {10: "25.21", 20: "27.50", 30: "28.94", 40: "29.92"},
    "LIVE1": {10: "25.33", 20: "27.57", 30: "28.92", 40: "29.96"},
}
GAUSSIAN_SSIM = {10: "0.760", 20: "0.834", 30: "0.867", 40: "0.885"}


@pytest.mark.slow
@pytest.mark.parametrize(("set_name", "count"), [("Classic5", 5), ("LIVE1", 29)])
def test_published_jpeg_columns_come_out_to_the_last_digit(set_name, count):
    folder = SHARED / set_name.lower()
    if not folder.exists():
        pytest.skip(f"needs {folder}")
    pictures = load_pictures(folder)
    assert len(pictures) == count
    rows = evaluate_jpeg(pictures, set_name, (10, 20, 30, 40), [Known()])
    ours = {row["quality"]: row for row in rows}
    (printed,) = [
        row for row in published()["quality"] if (row["set"], row["network"]) == (set_name, "jpeg")
    ]
    assert len(printed["psnr"]) >= 3
    assert len(printed.get("ssim", {})) == (3 if set_name == "Classic5" else 0)
    for measure, digits in (("psnr", 2), ("ssim", 3)):
        for quality, figure in printed.get(measure, {}).items():
            assert f"{ours[int(quality)][f'{measure}_in']:.{digits}f}" == f"{figure:.{digits}f}"
    assert {q: f"{row['psnrb_in']:.2f}" for q, row in ours.items()} == PSNR_B[set_name]
    for quality, figure in GAUSSIAN_SSIM.items() if set_name == "Classic5" else ():
        scores = [ssim(luma, jpeg_coded(luma, quality)) for _, luma in pictures]
        assert f"{np.mean(scores):.3f}" == figure


# Video.


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_network_that_does_nothing_gains_exactly_nothing(codec):
    (row,) = evaluate_video([Loaded()], codec, [38], [network(lambda batch: batch)])
    assert set(row) == ROW_KEYS["video"]
    assert (row["psnr_out"], row["ssim_out"]) == (row["psnr_in"], row["ssim_in"])
    assert row["worst_frame_gain_db"] == 0
    assert (row["network"], row["codec"], row["clip"]) == ("fake", codec, "pan")
    assert (row["quantiser"], row["frames"]) == (38, 13)


def test_what_a_network_does_is_measured():
    (row,) = measured([network(lambda batch: batch + 4 / 255)])
    coded = video_coded(SOURCE, CODING).frames
    shifted = [np.minimum(frame.y.astype(int) + 4, 255).astype(np.uint8) for frame in coded]
    after = [psnr(clean.y, y) for clean, y in zip(SOURCE, shifted, strict=True)]
    before = [psnr(clean.y, frame.y) for clean, frame in zip(SOURCE, coded, strict=True)]
    assert row["psnr_out"] == pytest.approx(np.mean(after))
    assert row["psnr_in"] == pytest.approx(np.mean(before))
    gains = np.subtract(after, before)
    assert row["worst_frame_gain_db"] == pytest.approx(min(gains)) != pytest.approx(gains[0])


def test_a_better_picture_gains_a_worse_one_loses_and_equal_frames_count_as_the_cap():
    methods = [Known(halfway), Known(lambda coded, _: 255 - coded), Known(lambda _, clean: clean)]
    better, worse, equal = measured(methods)
    assert better["psnr_out"] > better["psnr_in"] + 3  # half the error is 6 dB, less what rounds
    assert better["ssim_out"] > better["ssim_in"]
    assert better["worst_frame_gain_db"] > 3
    assert worse["psnr_out"] < worse["psnr_in"] == better["psnr_in"]
    assert worse["ssim_out"] < worse["ssim_in"]
    assert (equal["psnr_out"], equal["ssim_out"]) == (PSNR_CAP_DB, 1.0)


@pytest.mark.parametrize(("every", "indices"), [(1, range(13)), (5, [0, 5, 10]), (99, [0])])
def test_every_nth_frame_is_measured_and_ssim_on_ten(every, indices):
    method = Known(halfway)
    (row,) = measured([method], every)
    assert method.indices == list(indices)
    assert row["frames"] == len(indices)
    coded = video_coded(SOURCE, CODING)
    before = [psnr(SOURCE[i].y, coded.frames[i].y) for i in indices]
    assert row["psnr_in"] == pytest.approx(np.mean(before))
    assert row["kbps"] == coded.kbps  # of the whole clip
    places = np.linspace(0, len(indices) - 1, min(len(indices), SSIM_FRAMES))
    spread = [indices[round(place)] for place in places]
    likeness = np.mean([ssim(SOURCE[i].y, coded.frames[i].y) for i in spread])
    assert row["ssim_in"] == pytest.approx(likeness)


def test_rows_come_by_clip_quantiser_and_method(tmp_path):
    names = ("a", "b")
    for name, rows in zip(names, (48, 64), strict=True):
        write_pictures(tmp_path / name, [PHOTO[:rows, :64]] * 2)
    clips = [Clip(tmp_path / name) for name in names]
    methods = [Known(), Known(halfway, "half")]
    rows = list(evaluate_video(clips, "hevc", [30, 37], methods))
    keys = [(row["clip"], row["quantiser"], row["network"]) for row in rows]
    assert keys == [(c, q, m) for c in names for q in (30, 37) for m in ("known", "half")]
    assert rows[0]["kbps"] > rows[2]["kbps"] > 0
    assert rows[0]["psnr_in"] > rows[2]["psnr_in"]


def test_what_cannot_be_measured_is_explained():
    with pytest.raises(SettingsError, match="every is 0; need at least 1"):
        measured([], 0)
    cut = Known()
    cut.frames = lambda _, indices: (frame_of_luma(GREY[:40]) for _ in indices)
    with pytest.raises(DataError, match="pictures of one size"):
        measured([cut])
    with pytest.raises(DataError, match="pictures of one size"):
        list(evaluate_jpeg([("a", GREY)], "s", [10], [cut]))
    with pytest.raises(MediaError, match="quantiser 60"):
        list(evaluate_video([], "h264", [60], []))
    with pytest.raises(DataError, match="set s holds no picture"):
        list(evaluate_jpeg([], "s", [10], []))


# The papers' variants.


def yard(count=8):
    """Return a still photograph with noise and a window that moves."""
    random = np.random.default_rng(0)
    photo = cv2.resize(data.camera(), (160, 128), interpolation=cv2.INTER_AREA)
    for index in range(count):
        picture = photo + random.integers(-1, 2, photo.shape)
        picture[40:72, 8 * index : 8 * index + 32] = photo[:32, :32]
        yield np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "yard", yard())


@pytest.mark.parametrize(("codec", "every"), [("h264", 1), ("hevc", 3)])
def test_rows_of_variants_say_what_was_measured(folder, codec, every):
    """Flicker is from a measured frame to the next of the clip."""
    brighter = Known(lambda coded, _: np.minimum(coded, 251) + np.uint8(4))
    rows = list(evaluate_variants([Clip(folder)], codec, [41], [brighter], every))
    frames = Clip(folder).load()
    codings = variants(codec, frames[0].size, [41])
    assert len(rows) == len(codings)
    for row, (coding, columns) in zip(rows, codings, strict=True):
        assert set(row) == ROW_KEYS["variants"]
        assert columns.items() <= row.items()
        # Kept: under a limit, x264 does not always give the same bits again.
        coded = Source("kept", frames).coded(coding)
        clean, seen = [frame.y for frame in frames], [frame.y for frame in coded.frames]
        picked = range(0, 8, every)
        assert (row["kbps"], row["frames"]) == (coded.kbps, len(picked))
        assert row["psnr_in"] == pytest.approx(np.mean([psnr(clean[i], seen[i]) for i in picked]))
        blocks = [psnr_b(clean[i], seen[i]) for i in picked]
        assert row["psnrb_in"] == pytest.approx(np.mean(blocks))
        firsts = range(0, 7, every)
        changes = [flicker(clean[i], clean[i + 1], seen[i], seen[i + 1]) for i in firsts]
        assert 0 < row["flicker_in"] == pytest.approx(np.mean(changes))
        # A constant offset changes every error alike, but where it is cut off at white.
        assert row["flicker_out"] == pytest.approx(row["flicker_in"], rel=0.1)
        assert row["psnr_out"] < row["psnr_in"]
        assert row["psnrb_out"] < row["psnrb_in"]


def test_rows_that_are_there_are_not_measured_again(folder):
    first = list(evaluate_variants([Clip(folder)], "h264", [20], [Known()]))
    assert [row["limit_mbps"] for row in first] == [2.0, 1.5, 1.0]
    assert first[0]["kbps"] > first[2]["kbps"]  # a limit that bites lowers the rate
    assert first[0]["psnr_in"] > first[2]["psnr_in"]
    done = {row_key(row) for row in first[:2]}
    # As they come back from a file.
    assert {row_key(json.loads(json.dumps(row))) for row in first[:2]} == done
    method, other = Known(), Known(name="other")
    rows = list(evaluate_variants([Clip(folder)], "h264", [20], [method, other], done=done))
    assert [(row["network"], row["limit_mbps"]) for row in rows] == [
        ("other", 2.0), ("other", 1.5), ("known", 1.0), ("other", 1.0),
    ]  # fmt: skip
    assert len(method.indices) == 8


# The commands.


@pytest.fixture
def clips(tmp_path):
    for name, row in (("left", 0), ("right", 100)):
        windows = [PHOTO[row : row + 64, 4 * i : 4 * i + 96] for i in range(3)]
        write_pictures(tmp_path / "clips" / name, windows)
    return tmp_path / "clips"


def test_eval_h264_and_hevc_on_a_folder_of_clips(edgecar, clips, artifact, tmp_path):
    saved = tmp_path / "video.json"
    done = edgecar(
        "eval", "h264", "--data", clips, "--crf", 30, 40, "--network", artifact, "--every", 2,
        "--save", saved,
    )  # fmt: skip
    assert done.code == 0, done.err
    for words in ("CRF 30", "CRF 40", "of 4 inputs", "edgecar-xs"):
        assert words in done.out
    assert "clips     2 of clips" in done.err
    assert "next      edgecar" in done.err
    stored = json.loads(saved.read_text())
    jsonschema.validate(stored, json.loads(SCHEMA_PATH.read_text()))
    assert stored["kind"] == "video"
    assert [row["frames"] for row in stored["rows"]] == [2] * 4
    other = tmp_path / "other.onnx"  # of one network: told apart by their files
    other.write_bytes(artifact.read_bytes())
    done = edgecar(
        "eval", "hevc", "--data", clips / "left", "--qp", 35, "--network", artifact,
        "--network", other, "--json",
    )  # fmt: skip
    rows = json.loads(done.out)["rows"]
    assert {(row["codec"], row["clip"], row["quantiser"]) for row in rows} == {("hevc", "left", 35)}
    assert [row["network"] for row in rows] == ["mine.onnx", "other.onnx"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--baseline", "pp7"), "no baseline is called 'pp7'"),
        (("--crf", 77), "quantiser 77 is not in 0 to 51"),
        (("--suite", "film"), "no suite is called 'film'"),
        (("--network", "absent.onnx"), "absent.onnx: no such file"),
    ],
)
def test_eval_h264_explains_itself_in_one_line(edgecar, clips, artifact, arguments, message):
    done = edgecar("eval", "h264", "--data", clips, "--network", artifact, *arguments)
    assert done.code == 1
    (line,) = [line for line in done.err.splitlines() if line.startswith("edgecar:")]
    assert message in line


def test_eval_without_weights_says_what_to_do(edgecar, clips, tmp_path, monkeypatch):
    monkeypatch.setattr("edgecar.artifact.WEIGHTS", tmp_path)
    done = edgecar("eval", "hevc", "--data", clips)
    assert done.code == 1
    assert "no hevc weights ship; give --network FILE.onnx" in done.err


def test_eval_variants_goes_on_from_its_file(edgecar, folder, artifact, tmp_path):
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
def test_eval_variants_of_hevc(edgecar, folder, artifact):
    done = edgecar(
        "eval", "hevc", "--data", folder, "--qp", 22, 27, 32, 37, "--variants", "--network",
        artifact, "--every", 4, "--frames", 5,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "BD-rate in %" in done.out
    assert "*GL-Fusion*" in done.out


# What networks are told.


def test_a_network_is_told_the_quantiser_of_what_it_restores_whichever_frames_are_measured():
    told = []

    def noted(batch):
        told.append(method._restorer.engine.quantisers.tolist())
        return batch

    method = network(noted, takes_quantiser=True)
    clip = video_coded(SOURCE, CODING)
    measured([method], every=4)
    expected = [clip.quantisers[index] for index in range(0, len(clip.frames), 4)]
    assert [each for (each,) in told] == pytest.approx(expected)
    told.clear()
    list(evaluate_jpeg([("a", GREY)], "one", (10, 40), [method]))
    qualities = [quantiser_from_jpeg_quality(quality) for quality in (10, 40)]
    assert [each for (each,) in told] == pytest.approx(qualities)
