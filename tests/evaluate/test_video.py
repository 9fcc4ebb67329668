"""Coded clips through networks: what the rows say."""

import json
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from skimage import data

from edgecar.artifact import Artifact, Metadata
from edgecar.bench.results import ROW_KEYS
from edgecar.engines.fake import FakeEngine
from edgecar.errors import DataError, MediaError, SettingsError
from edgecar.evaluate.clips import Clip
from edgecar.evaluate.metrics import psnr, ssim
from edgecar.evaluate.video import (
    PSNR_CAP_DB,
    SSIM_FRAMES,
    NetworkMethod,
    VideoRow,
    evaluate_video,
)
from edgecar.media.frame import Frame
from edgecar.media.video_codec import VideoCoding, video_coded
from edgecar.runtime.restorer import Restorer
from tests.cli.conftest import edgecar  # noqa: F401  # a fixture

PHOTO = cv2.resize(data.camera(), (256, 256), interpolation=cv2.INTER_AREA)
CODING = VideoCoding("h264", 38)


def panning(count: int) -> list[Frame]:
    chroma = np.full((24, 32), 128, np.uint8)
    windows = [np.ascontiguousarray(PHOTO[60:108, 2 * i : 2 * i + 64]) for i in range(count)]
    return [Frame(window, chroma, chroma) for window in windows]


SOURCE = panning(13)


class Known:
    """Gives what a function makes of coded frame, clean frame and index."""

    def __init__(self, function, source=SOURCE, name="known"):
        self.name, self._function, self._source = name, function, source
        self.indices = []

    def restored(self, coded, _coding, indices):
        self.indices.append(list(indices))
        return [self._function(coded.frames[i].y, self._source[i].y, i) for i in indices]


@dataclass
class Loaded:
    """A clip that is decoded already."""

    name: str
    frames: list[Frame]

    def load(self):
        return self.frames


def evaluate_clip(name, frames, coding, methods, *more, **options):
    clips = [Loaded(name, frames)]
    return evaluate_video(clips, coding.codec, [coding.quantiser], methods, *more, **options)


def network(function) -> NetworkMethod:
    metadata = Metadata("fake", 1, 0, 1, "local", 8, "fp32", "", "", 0.0, 0.0)
    return NetworkMethod(Restorer(Artifact(metadata, b""), FakeEngine(function)))


def halfway(coded, clean, _):
    return ((coded.astype(int) + clean) // 2).astype(np.uint8)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_network_that_does_nothing_gains_exactly_nothing(codec):
    coding = VideoCoding(codec, 38)
    (row,) = evaluate_clip("pan", SOURCE, coding, [network(lambda batch: batch)])
    assert row["psnr_out"] == row["psnr_in"]
    assert row["ssim_out"] == row["ssim_in"]
    assert row["worst_frame_gain_db"] == 0
    assert (row["network"], row["codec"], row["clip"]) == ("fake", codec, "pan")
    assert (row["quantiser"], row["frames"]) == (38, 13)


def test_what_a_network_does_is_measured():
    (row,) = evaluate_clip("pan", SOURCE, CODING, [network(lambda batch: batch + 4 / 255)])
    coded = video_coded(SOURCE, CODING).frames
    shifted = [np.minimum(frame.y.astype(int) + 4, 255).astype(np.uint8) for frame in coded]
    after = [psnr(clean.y, y) for clean, y in zip(SOURCE, shifted, strict=True)]
    before = [psnr(clean.y, frame.y) for clean, frame in zip(SOURCE, coded, strict=True)]
    assert row["psnr_out"] == pytest.approx(np.mean(after))
    assert row["psnr_in"] == pytest.approx(np.mean(before))
    gains = np.subtract(after, before)
    assert row["worst_frame_gain_db"] == pytest.approx(min(gains)) != pytest.approx(gains[0])


def test_a_better_picture_gains_and_a_worse_one_loses():
    better, worse = evaluate_clip(
        "pan", SOURCE, CODING, [Known(halfway), Known(lambda coded, *_: 255 - coded)]
    )
    assert better["psnr_out"] > better["psnr_in"] + 3  # half the error is 6 dB, less what rounds
    assert better["ssim_out"] > better["ssim_in"]
    assert better["worst_frame_gain_db"] > 3
    assert worse["psnr_out"] < worse["psnr_in"] == better["psnr_in"]
    assert worse["ssim_out"] < worse["ssim_in"]


def test_equal_frames_count_as_the_cap():
    (row,) = evaluate_clip("pan", SOURCE, CODING, [Known(lambda _coded, clean, _: clean)])
    assert (row["psnr_out"], row["ssim_out"]) == (PSNR_CAP_DB, 1.0)


@pytest.mark.parametrize(("every", "indices"), [(1, range(13)), (5, [0, 5, 10]), (99, [0])])
def test_every_nth_frame_is_measured(every, indices):
    method = Known(halfway)
    (row,) = evaluate_clip("pan", SOURCE, CODING, [method], every)
    assert method.indices == [list(indices)]
    assert row["frames"] == len(indices)
    coded = video_coded(SOURCE, CODING)
    before = [psnr(SOURCE[i].y, coded.frames[i].y) for i in indices]
    assert row["psnr_in"] == pytest.approx(np.mean(before))
    assert row["kbps"] == coded.kbps  # of the whole clip


def test_ssim_is_measured_on_ten_frames_from_first_to_last():
    coded = video_coded(SOURCE, CODING)
    spread = [round(place) for place in np.linspace(0, 12, SSIM_FRAMES)]
    assert (spread[0], spread[-1], len(spread)) == (0, 12, 10)
    expected = np.mean([ssim(SOURCE[i].y, coded.frames[i].y) for i in spread])
    (row,) = evaluate_clip("pan", SOURCE, CODING, [Known(halfway)])
    assert row["ssim_in"] == pytest.approx(expected)


def test_rows_come_by_clip_quantiser_and_method(tmp_path):
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        for index in range(2):
            cv2.imwrite(str(folder / f"{index}.png"), PHOTO[: 48 + 16 * (name == "b"), :64])
    clips = [Clip(tmp_path / "a"), Clip(tmp_path / "b")]
    methods = [network(lambda batch: batch), network(lambda batch: batch + 1 / 255)]
    rows = list(evaluate_video(clips, "hevc", [30, 37], methods))
    assert [(row["clip"], row["quantiser"]) for row in rows] == [
        *[("a", 30)] * 2, *[("a", 37)] * 2, *[("b", 30)] * 2, *[("b", 37)] * 2,
    ]  # fmt: skip
    assert all(row["codec"] == "hevc" for row in rows)
    assert rows[0]["kbps"] > rows[2]["kbps"] > 0
    assert rows[0]["psnr_in"] > rows[2]["psnr_in"]


def test_rows_fit_a_result_file():
    assert set(VideoRow.__annotations__) == ROW_KEYS["video"]


def test_what_cannot_be_measured_is_explained():
    with pytest.raises(SettingsError, match="every is 0; need at least 1"):
        list(evaluate_video([], "h264", [30], [], 0))
    with pytest.raises(DataError, match="pictures of one size"):
        list(evaluate_clip("pan", SOURCE, CODING, [Known(lambda coded, *_: coded[:-2])]))
    with pytest.raises(MediaError, match="quantiser 60"):
        list(evaluate_video([], "h264", [60], []))


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    for name, rows in (("left", 0), ("right", 100)):
        (folder / name).mkdir(parents=True)
        for index in range(3):
            window = PHOTO[rows : rows + 64, 4 * index : 4 * index + 96]
            cv2.imwrite(str(folder / name / f"{index}.png"), window)
    return folder


@pytest.fixture
def artifact(exported, tmp_path):
    path = tmp_path / "mine.onnx"
    path.write_bytes(exported("edgecar-xs").onnx)
    return path


def test_eval_h264_and_hevc_on_a_folder_of_clips(edgecar, clips, artifact, tmp_path):  # noqa: F811
    saved = tmp_path / "video.json"
    done = edgecar(
        "eval", "h264", "--data", clips, "--crf", 30, 40, "--network", artifact, "--every", 2,
        "--save", saved,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "CRF 30" in done.out
    assert "CRF 40" in done.out
    assert "of 4 inputs" in done.out
    assert "edgecar-xs" in done.out
    assert "clips     2 of clips" in done.err
    assert "next      edgecar" in done.err
    stored = json.loads(saved.read_text())
    assert stored["kind"] == "video"
    assert [row["frames"] for row in stored["rows"]] == [2] * 4
    done = edgecar(
        "eval", "hevc", "--data", clips / "left", "--qp", 35, "--network", artifact, "--json"
    )
    (row,) = json.loads(done.out)["rows"]
    assert (row["codec"], row["clip"], row["quantiser"]) == ("hevc", "left", 35)
    assert row["network"] == "edgecar-xs"


def test_artifacts_of_one_network_are_told_apart(edgecar, clips, artifact, tmp_path):  # noqa: F811
    other = tmp_path / "other.onnx"
    other.write_bytes(artifact.read_bytes())
    done = edgecar(
        "eval", "h264", "--data", clips / "left", "--crf", 40, "--network", artifact,
        "--network", other, "--json",
    )  # fmt: skip
    assert [row["network"] for row in json.loads(done.out)["rows"]] == ["mine.onnx", "other.onnx"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--baseline", "pp7"), "no baseline is called 'pp7'"),
        (("--crf", 77), "quantiser 77 is not in 0 to 51"),
        (("--suite", "film"), "no suite is called 'film'"),
        (("--network", "absent.onnx"), "absent.onnx: no such file"),
    ],
)
def test_eval_h264_explains_itself_in_one_line(edgecar, clips, artifact, arguments, message):  # noqa: F811
    done = edgecar("eval", "h264", "--data", clips, "--network", artifact, *arguments)
    assert done.code == 1
    (line,) = [line for line in done.err.splitlines() if line.startswith("edgecar:")]
    assert message in line


def test_eval_without_weights_says_what_to_do(edgecar, clips, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("edgecar.artifact.WEIGHTS", tmp_path)
    done = edgecar("eval", "hevc", "--data", clips)
    assert done.code == 1
    assert "no hevc weights ship; give --network FILE.onnx" in done.err
