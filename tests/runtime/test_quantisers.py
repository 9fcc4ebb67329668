"""Networks are told how coarsely each frame was coded; tiling and reuse stay exact under it."""

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from skimage import data

import edgecar
from edgecar.engines.fake import FakeEngine
from edgecar.errors import SettingsError
from edgecar.media.color import luma_from_bgr
from edgecar.media.frame import Coding, Frame
from edgecar.media.quantiser import (
    quantiser_from_jpeg_quality,
    quantiser_from_qp,
    slow_quantisers,
)
from edgecar.media.video_codec import VideoCoding, video_coded
from edgecar.runtime.camera import PipelineSettings
from edgecar.runtime.cameras import Job
from edgecar.runtime.choice import limits_of
from edgecar.runtime.job import run_job
from edgecar.runtime.pipeline import Pipeline
from edgecar.runtime.quantisers import quantiser_from_setting, setting_from_quantiser
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stream_cache import Reuse
from tests.runtime.test_pipeline import Source
from tests.runtime.test_restorer import fake_artifact

JPEG, H264 = "jpeg 5-100", "h264 crf 10-51"
SIZE = (150, 178)
PHOTO = np.ascontiguousarray(data.astronaut()[: SIZE[0], : SIZE[1], ::-1])
QPS = [27, 27, 27, 27, None, 40, 41, 42, 40, 41, 42, 40, 40, 47, 47, 47, *[14] * 8]
"""Of a stream whose rate changes on the way; one frame states none."""


def fake_told(trained_on: str = H264, function=lambda batch: batch) -> Restorer:
    artifact = fake_artifact()
    metadata = replace(artifact.metadata, takes_quantiser=True, trained_on=trained_on)
    return Restorer(replace(artifact, metadata=metadata), FakeEngine(function))


def clip(qps=QPS, seed: int = 0) -> list[Frame]:
    """A still camera before which a small thing moves, coded as coarsely as given."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12), np.uint8)
    chroma = np.full((SIZE[0] // 2, SIZE[1] // 2), 128, np.uint8)
    frames = []
    for number, qp in enumerate(qps):
        y = luma_from_bgr(PHOTO)
        y[20:32, 6 * number : 6 * number + 12] = noise
        frames.append(Frame(y, chroma, chroma, number, coding=Coding(qp, codec="h264")))
    return frames


@pytest.mark.parametrize("quantiser", [11.0, 40.0])
@pytest.mark.parametrize(("engine", "precision"), [("openvino", "fp32"), ("onnxruntime", None)])
def test_tiles_give_the_bytes_of_the_whole_frame_for_every_quantiser(
    told, engine, precision, quantiser
):
    artifact, y = told(H264), luma_from_bgr(PHOTO)
    halo = artifact.metadata.halo_px
    settings = {"precision": precision, "threads": 2, "reuse": False}
    with (
        Restorer(artifact, engine, tile=(2 * halo + 24, 2 * halo + 30), **settings) as middle,
        Restorer(
            artifact, middle.engine, tile=(2 * halo + 24, 2 * halo + 30), quantiser=quantiser
        ) as tiled,
    ):
        restored = tiled.luma(y)
        assert tiled.stats.windows_run > 4
        np.testing.assert_array_equal(restored, tiled.whole(y))
        assert np.mean(restored != middle.luma(y)) > 0.1
        np.testing.assert_array_equal(middle.luma(y), middle.whole(y))


def test_reuse_gives_the_same_bytes_while_the_quantiser_moves(told):
    artifact, frames = told(H264), clip()
    with (
        Restorer(artifact, threads=2, reuse=Reuse(verify_every=1)) as kept,
        Restorer(artifact, kept.engine, reuse=False) as full,
    ):
        for frame in frames:
            one, other = kept.restore(frame, "gate"), full.restore(frame, "gate")
            np.testing.assert_array_equal(one.y, other.y)
        slow = slow_quantisers(frame.coding.qp for frame in frames)
        moves = sum(one != other for one, other in pairwise(slow))
        assert kept.stats.quantiser_moves == full.stats.quantiser_moves == moves > 1
        assert kept.stats.quantiser == round(51 * slow[-1], 1)
        assert kept.stats.quantiser_unknown_frames == 0
        assert kept.stats.computed_share < full.stats.computed_share


def test_cameras_of_different_quantisers_share_batches_and_two_rounds_are_on_their_way(told):
    artifact = told(H264)
    cameras = {"gate": clip(), "yard": clip(QPS[::-1], 1), "door": clip([35] * len(QPS), 2)}
    with (
        Restorer(artifact, "onnxruntime", threads=2, tile=(96, 96)) as shared,
        Restorer(artifact, shared.engine, tile=(96, 96), reuse=False) as alone,
    ):
        expected = {
            name: [alone.restore(frame, name).y for frame in frames]
            for name, frames in cameras.items()
        }
        given, begun = {name: [] for name in cameras}, []
        for frames in zip(*cameras.values(), strict=True):
            begun.append(shared.begin(frames, list(cameras)))
            if len(begun) > 1:
                for name, frame in zip(cameras, shared.finish(begun.pop(0)), strict=True):
                    given[name].append(frame.y)
        for name, frame in zip(cameras, shared.finish(begun.pop()), strict=True):
            given[name].append(frame.y)
        for name, lumas in given.items():
            np.testing.assert_array_equal(lumas, expected[name])
        assert shared.stats_of("door").quantiser_moves == 0
        assert shared.stats_of("gate").quantiser_moves > 1


def test_each_picture_of_a_folder_is_restored_by_its_own_tables(told, tmp_path):
    folder, out, qualities = tmp_path / "in", tmp_path / "out", (5, 30, 75, 100)
    folder.mkdir()
    for quality in qualities:
        cv2.imwrite(str(folder / f"{quality:03}.jpg"), PHOTO, [cv2.IMWRITE_JPEG_QUALITY, quality])
    with Restorer(told(JPEG), threads=2) as restorer:
        report = run_job(Job(str(folder), str(out)), restorer, lambda *_: None)
        assert (report.frames, report.passed_because.total()) == (4, 0)
        assert restorer.stats.quantiser_moves == 3
        assert restorer.stats.quantiser == 100
        for quality in qualities:
            with Restorer(told(JPEG), restorer.engine, quantiser=quality) as asked:
                picture = cv2.imread(str(folder / f"{quality:03}.jpg"))
                expected = asked(picture)
            restored = cv2.imread(str(out / f"{quality:03}.png"))
            np.testing.assert_array_equal(restored, expected)
            assert (restored != picture).any() == (quality < 100)  # lossless stays as it is


@pytest.mark.parametrize("codec", ["vp9", "mpeg4", ""])
def test_frames_that_say_nothing_get_the_middle_and_that_is_counted(codec):
    with fake_told() as restorer:
        for frame in clip([None] * 3):
            restorer.restore(replace(frame, coding=Coding(codec=codec)))
        assert restorer.engine.quantisers.tolist() == [0.5]
        restorer(PHOTO)  # an array says nothing either
        assert restorer.stats.quantiser_unknown_frames == 4
        assert (restorer.stats.quantiser, restorer.stats.quantiser_moves) == (25.5, 0)


def test_a_network_without_that_input_is_told_nothing():
    with Restorer(fake_artifact(), FakeEngine(lambda batch: batch)) as restorer:
        for frame in clip():
            restorer.restore(frame)
        stats = restorer.stats
        assert (stats.quantiser, stats.quantiser_moves, stats.quantiser_unknown_frames) == (
            None,
            0,
            0,
        )


def test_a_camera_has_a_quantiser_of_its_own_which_its_end_forgets():
    with fake_told() as restorer:
        for frame in clip([24] * 13):
            restorer.restore(frame, "gate")
        restorer.restore(clip([45])[0], "yard")
        assert restorer.engine.quantisers.tolist() == pytest.approx([quantiser_from_qp(45)])
        restorer.restore(clip([26])[0], "gate")
        assert restorer.engine.quantisers.tolist() == pytest.approx([quantiser_from_qp(24)])
        restorer.forget("gate")
        restorer.restore(clip([33])[0], "gate")
        assert restorer.engine.quantisers.tolist() == pytest.approx([quantiser_from_qp(33)])


def test_motion_jpeg_follows_the_tables_of_every_frame():
    with fake_told(JPEG) as restorer:
        for quality in (90, 20):
            quantiser = quantiser_from_jpeg_quality(quality)
            coding = Coding(None, quality, "mjpeg", quantiser)
            restorer.restore(replace(clip([None])[0], coding=coding))
            assert restorer.engine.quantisers.tolist() == pytest.approx([quantiser])
            assert restorer.stats.quantiser == quality


def test_what_is_asked_for_goes_before_the_frames_of_a_pipeline():
    seen: list[float] = []
    restorer = fake_told(function=lambda b: seen.extend(restorer.engine.quantisers) or b)
    settings = PipelineSettings(quantiser=17)
    with restorer, Pipeline({"a": Source(3, qps=[40] * 3)}, restorer, settings) as frames:
        last = list(frames)[-1].stats
    assert set(seen) == {np.float32(quantiser_from_qp(17))}
    assert (last.quantiser, last.quantiser_moves, last.quantiser_unknown_frames) == (17, 0, 0)
    assert last.table()["quantiser"] == 17


@pytest.mark.parametrize(
    ("trained_on", "takes", "setting", "said"),
    [
        (H264, False, 30, "got quantiser 30 for fake, which takes none; leave it out"),
        (H264, True, 52, "got quantiser 52; weights for h264 need a QP, 0 to 51"),
        ("my camera", True, -1, "weights for video need a QP, 0 to 51"),
        (JPEG, True, 0, "weights for jpeg need a whole JPEG quality, 1 to 100"),
        (JPEG, True, 30.5, "got quantiser 30.5; weights for jpeg need a whole JPEG quality"),
    ],
)
def test_a_quantiser_that_does_not_fit_is_refused_in_one_line(trained_on, takes, setting, said):
    artifact = fake_artifact()
    metadata = replace(artifact.metadata, takes_quantiser=takes, trained_on=trained_on)
    with pytest.raises(SettingsError, match=said) as refused:
        Restorer(replace(artifact, metadata=metadata), FakeEngine(lambda b: b), quantiser=setting)
    assert "\n" not in str(refused.value)
    restorer = Restorer(replace(artifact, metadata=metadata), FakeEngine(lambda batch: batch))
    with restorer, pytest.raises(SettingsError, match=said):
        Pipeline({"a": Source(1)}, restorer, PipelineSettings(quantiser=setting))


@pytest.mark.parametrize(("trained_on", "settings"), [(JPEG, range(1, 101)), (H264, range(52))])
def test_settings_survive_the_way_to_the_network_and_back(trained_on, settings):
    metadata = fake_told(trained_on).metadata
    quantisers = [quantiser_from_setting(setting, metadata) for setting in settings]
    back = [setting_from_quantiser(quantiser, metadata) for quantiser in quantisers]
    unlike = [(a, b) for a, b, q in zip(settings, back, quantisers, strict=True) if a != b]
    assert all(
        quantiser_from_setting(b, metadata) == quantiser_from_setting(a, metadata)
        for a, b in unlike
    )


@pytest.mark.parametrize(
    ("trained_on", "takes", "coding", "reason"),
    [
        (JPEG, True, Coding(jpeg_quality=100, codec="jpeg"), None),
        (H264, True, Coding(qp=1, codec="h264"), None),
        (H264, False, Coding(qp=15, codec="h264"), "below_qp"),
        ("h264 crf 29-47", True, Coding(qp=34, codec="h264"), "below_qp"),
        ("jpeg 10-40", True, Coding(jpeg_quality=41, codec="jpeg"), "above_quality"),
        (H264, True, Coding(codec="hevc"), "other_coder"),
        ("hevc qp 10-51", True, Coding(codec="hevc"), None),
    ],
)
def test_a_network_trained_for_the_whole_range_lets_nothing_pass_for_being_fine(
    trained_on, takes, coding, reason
):
    metadata = replace(fake_artifact().metadata, trained_on=trained_on, takes_quantiser=takes)
    assert limits_of(metadata).reason_to_pass(coding) == reason


def test_frames_say_how_they_were_coded_unless_nobody_asks():
    off = PipelineSettings(skip_below_qp=0, skip_above_quality=100)
    assert PipelineSettings().reads_coding(takes_quantiser=False)
    assert off.reads_coding()
    assert not off.reads_coding(takes_quantiser=False)
    assert not replace(off, quantiser=30).reads_coding()


def test_a_stream_takes_its_quantiser_from_the_file_whatever_the_limits(told, tmp_path):
    coded = video_coded(clip([None] * 4), VideoCoding("h264", 40))
    path = tmp_path / "a.mkv"
    path.write_bytes(coded.bitstream)
    off = {"skip_below_qp": 0, "skip_above_quality": 100}
    with Restorer(told(H264), threads=2) as restorer:
        with edgecar.stream(path, restorer, **off) as frames:
            shown = [frame.frame.y for frame in frames]
            (stats,) = (camera.stats.snapshot() for camera in frames.cameras.values())
        assert stats.quantiser == round(51 * coded.quantisers[-1], 1)
        assert stats.quantiser_unknown_frames == 0
        for frame, y in zip(coded.frames, shown, strict=True):
            np.testing.assert_array_equal(restorer.restore(frame, "again").y, y)
        with pytest.raises(SettingsError, match="need a QP, 0 to 51"):
            edgecar.stream(path, restorer, quantiser=60)
