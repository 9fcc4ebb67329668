"""Pictures that precisions are calibrated and judged on."""

import cv2
import numpy as np
import pytest
from skimage import data

from edgecar.errors import DataError, MediaError
from edgecar.exporter.frames import (
    CALIBRATED_ON,
    JUDGED_ON,
    LEAST_FRAMES,
    OWN_FRAMES,
    generated_frames,
    own_frames,
    spread_over,
)
from edgecar.media.quantiser import (
    quantiser_from_jpeg_quality,
    quantiser_from_qp,
    slow_quantisers,
)
from edgecar.media.reader import open_reader
from edgecar.media.scene import write_scene


def error(pair) -> float:
    return float(np.square(np.subtract(pair.coded, pair.clean, dtype=float)).mean())


@pytest.fixture
def folder(tmp_path):
    """Pictures of one photograph, each lighter than the one before."""
    made = tmp_path / "camera"
    made.mkdir()
    for number in range(6):
        cv2.imwrite(str(made / f"{number}.png"), data.camera()[:120, :140] // 2 + 20 * number)
    return made


@pytest.mark.parametrize("trained_on", ["jpeg 10-40", "h264 crf 29-47", "hevc qp 22-37"])
def test_generated_pictures_are_coded_like_what_the_weights_are_for(trained_on) -> None:
    frames = generated_frames(trained_on, 1, 16)
    coder, low_high = trained_on.split()[0], trained_on.split()[-1]
    assert frames.data == f"photographs of scikit-image, {coder} {low_high}"
    assert not set(CALIBRATED_ON) & set(JUDGED_ON)
    seen = [picture.codes for picture in frames.calibration]
    for picture in (*seen, *(pair.coded for pair in frames.held)):
        assert picture.dtype == np.uint8
        assert picture.shape == (1, 256, 256)
    for pair in frames.held:
        assert pair.clean.shape == pair.coded.shape
        assert 0.5 < error(pair) < 600  # coded, but the same picture at the same place


def test_coarser_coding_errs_more_and_has_another_hash() -> None:
    fine, coarse, again = (generated_frames(f"h264 crf {crf}-{crf}", 1, 2) for crf in (25, 45, 25))
    assert sum(map(error, coarse.held)) > 3 * sum(map(error, fine.held))
    assert fine.sha256 == again.sha256 != coarse.sha256


def test_rgb_networks_get_colour() -> None:
    frames = generated_frames("jpeg 10-40", 3, 2)
    assert {picture.codes.shape for picture in frames.calibration} == {(3, 256, 256)}
    astronaut = frames.held[JUDGED_ON.index("astronaut")]
    assert error(astronaut) < 200
    red, _, blue = astronaut.clean.astype(float).mean(axis=(1, 2))
    assert red > blue + 5  # her suit is orange


def test_own_pictures_are_fitted_to_as_they_are_and_judged_on_coded_once_more(folder) -> None:
    frames = own_frames(folder, "jpeg 10-40", 1, 2)
    whole = data.camera()[:120, :140] // 2
    for picture, number in zip(frames.calibration, (0, 2, 4), strict=True):
        assert picture.codes.shape == (1, 116, 136)
        np.testing.assert_array_equal(picture.codes[0], (whole + 20 * number)[4:, 4:])
    own, ordinary = frames.held[:3], frames.held[3:]
    assert all(0.5 < error(pair) < 600 for pair in own)
    assert len(ordinary) == len(JUDGED_ON)
    assert "6 frames of camera, coded once more, and photographs" in frames.data


@pytest.mark.parametrize("trained_on", ["jpeg 5-100", "h264 crf 10-51", "hevc qp 10-51"])
def test_pictures_are_spread_over_the_whole_range_of_quantisers(trained_on) -> None:
    frames = generated_frames(trained_on, 1, 2)
    for pictures in (frames.calibration, frames.held):
        told = [picture.quantiser for picture in pictures]
        # The QP of a short clip is some steps above its CRF, that of HEVC's key frames some below.
        assert min(told) < 0.35
        assert max(told) > (0.9 if trained_on.startswith("hevc") else 0.95)
        assert np.abs(np.diff(told)).max() < 0.35
    if trained_on.startswith("jpeg"):  # at the finest, coding is all but lossless
        assert min((pair.quantiser, error(pair)) for pair in frames.held) < (0.0, 1.0)


@pytest.mark.parametrize("quality", [30, 95])
def test_quantisers_are_those_that_pictures_were_coded_with(quality) -> None:
    for channels in (1, 3):
        frames = generated_frames(f"jpeg {quality}-{quality}", channels, 2)
        told = {picture.quantiser for picture in (*frames.calibration, *frames.held)}
        assert told == {quantiser_from_jpeg_quality(quality)}


def test_quantisers_of_hevc_are_those_of_key_frames_as_at_run_time() -> None:
    frames = generated_frames("hevc qp 27-27", 1, 2)
    (told,) = {picture.quantiser for picture in (*frames.calibration, *frames.held)}
    assert quantiser_from_qp(27 - 4) <= told < quantiser_from_qp(27)  # x265 codes them finer


def test_own_frames_have_the_quantiser_that_they_state(folder, tmp_path) -> None:
    for number, path in enumerate(sorted(folder.iterdir())):
        if number != 2:  # a JPEG each but for one
            quality = [cv2.IMWRITE_JPEG_QUALITY, 20 + 10 * number]
            cv2.imwrite(str(path.with_suffix(".jpg")), cv2.imread(str(path)), quality)
            path.unlink()
    told = [picture.quantiser for picture in own_frames(folder, "jpeg 10-40", 1, 2).calibration]
    assert told == [quantiser_from_jpeg_quality(20), 0.5, quantiser_from_jpeg_quality(60)]
    write_scene(tmp_path / "clip.mp4", (288, 352), 20, crf=38)
    frames = own_frames(tmp_path / "clip.mp4", "h264 crf 29-47", 1, 2)
    with open_reader(tmp_path / "clip.mp4", read_coding=True) as reader:
        slow = slow_quantisers(frame.coding.qp for frame in reader)
    assert {picture.quantiser for picture in frames.calibration} <= set(slow)
    assert min(slow) > 0.6


def test_own_clip_is_sampled_from_beginning_to_end(tmp_path) -> None:
    write_scene(tmp_path / "clip.mp4", (288, 352), 26, crf=30)
    frames = own_frames(tmp_path / "clip.mp4", "h264 crf 29-47", 1, 2)
    assert 4 <= len(frames.calibration) <= OWN_FRAMES
    assert {picture.codes.shape for picture in frames.calibration} == {(1, 256, 256)}


def test_too_few_small_or_absent_frames_are_refused(folder) -> None:
    with pytest.raises(MediaError):
        own_frames(folder / "absent.mp4", "jpeg 10-40", 1, 2)
    small = folder / "9.png"
    cv2.imwrite(str(small), np.zeros((30, 200), np.uint8))
    with pytest.raises(DataError, match="a frame is 200x30 px, calibration needs at least 36 px"):
        own_frames(folder, "jpeg 10-40", 1, 2)
    for path in sorted(folder.iterdir())[LEAST_FRAMES - 1 :]:
        path.unlink()
    with pytest.raises(DataError, match=r"holds 3 frames, calibration needs at least 4; give"):
        own_frames(folder, "jpeg 10-40", 1, 2)


@pytest.mark.parametrize("count", [1, 5, 6, 7, 12, 13, 100])
def test_samples_are_evenly_spread(count) -> None:
    kept = spread_over(iter(range(count)), 6)
    assert min(count, 3) <= len(kept) <= 6
    assert kept[0] == 0
    assert len(set(np.diff(kept))) <= 1
    assert count - kept[-1] <= max(1, *np.diff(kept)) if len(kept) > 1 else True
