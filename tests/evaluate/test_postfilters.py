"""FFmpeg's post-filters as baselines."""

import shutil
import stat
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from edgecar.errors import MediaError
from edgecar.evaluate.metrics import psnr
from edgecar.evaluate.postfilters import (
    POSTFILTERS,
    STRENGTHS,
    Postfilter,
    ffmpeg_luma,
    strength_for,
)
from edgecar.media.frame import Colour, Frame
from edgecar.media.video_codec import CodedClip, VideoCoding, video_coded


def has_filters() -> bool:
    if shutil.which("ffmpeg") is None:
        return False
    done = subprocess.run(
        ["ffmpeg", "-hide_banner", "-filters"], capture_output=True, text=True, check=False
    )
    return " spp " in done.stdout and " fspp " in done.stdout


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
needs_filters = pytest.mark.skipif(not has_filters(), reason="needs ffmpeg with spp and fspp")


def panning(count: int = 8, colour: Colour = Colour()) -> list[Frame]:  # noqa: B008  # frozen
    photo = cv2.resize(data.camera(), (256, 256), interpolation=cv2.INTER_AREA)
    chroma = np.full((48, 64), 128, np.uint8)
    return [
        Frame(
            np.ascontiguousarray(photo[60:156, 2 * i : 2 * i + 128]),
            chroma,
            chroma,
            i,
            None,
            colour,
        )
        for i in range(count)
    ]


SOURCE = panning()


def mean_psnr(planes: list[np.ndarray]) -> float:
    return float(np.mean([psnr(a.y, b) for a, b in zip(SOURCE, planes, strict=True)]))


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("full_range", [None, False, True])
def test_ffmpeg_decodes_what_we_decode(codec, full_range):
    source = panning(colour=Colour(full_range, 1, 1, 1))
    coded = video_coded(source, VideoCoding(codec, 35))
    planes = ffmpeg_luma(coded)
    assert len(planes) == len(source)
    for frame, plane in zip(coded.frames, planes, strict=True):
        assert np.array_equal(frame.y, plane)


@needs_filters
@pytest.mark.parametrize("name", POSTFILTERS)
def test_a_postfilter_filters_and_gains(name):
    coding = VideoCoding("h264", 35)
    coded = video_coded(SOURCE, coding)
    before = [frame.y for frame in coded.frames]
    after = Postfilter(name).restored(coded, coding, range(len(SOURCE)))
    assert all(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert mean_psnr(after) > mean_psnr(before)
    # A camera's QP is no strength of these filters: it blurs.
    assert mean_psnr(ffmpeg_luma(coded, f"{name}=4:qp=35")) < mean_psnr(before) - 1


@needs_filters
def test_only_the_frames_asked_for_come_out():
    coding = VideoCoding("h264", 41)
    coded = video_coded(SOURCE, coding)
    spp = Postfilter("spp")
    every, some = spp.restored(coded, coding, range(8)), spp.restored(coded, coding, [0, 3, 6])
    assert [np.array_equal(a, every[i]) for a, i in zip(some, (0, 3, 6), strict=True)] == [True] * 3


@pytest.mark.parametrize(("name", "codec"), STRENGTHS)
def test_strength_rises_with_the_quantiser_and_never_filters_nothing(name, codec):
    strengths = [strength_for(name, VideoCoding(codec, quantiser)) for quantiser in range(52)]
    assert strengths == sorted(strengths)
    assert strengths[0] >= 1
    for quantiser, strength in STRENGTHS[name, codec].items():
        assert strengths[quantiser] == strength


def test_unknown_baselines_are_explained():
    with pytest.raises(MediaError, match="no baseline is called 'pp7'; use spp or fspp"):
        Postfilter("pp7")


def fake_ffmpeg(folder: Path, script: str) -> None:
    command = folder / "ffmpeg"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)


def test_a_missing_ffmpeg_or_filter_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MediaError, match="no ffmpeg command is here; baseline spp needs one: inst"):
        Postfilter("spp")
    fake_ffmpeg(tmp_path, "echo ' T.. fspp  V->V  Fast'; echo ' ..C scale  V->V  Scale spp'")
    assert Postfilter("fspp").name == "fspp"
    with pytest.raises(MediaError, match="this ffmpeg has no filter spp, which needs a build"):
        Postfilter("spp")


def test_a_failing_ffmpeg_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    coded = CodedClip(SOURCE[:2], b"", 1)
    with pytest.raises(MediaError, match="ffmpeg does not start"):
        ffmpeg_luma(coded)
    fake_ffmpeg(tmp_path, "echo 'no such thing' >&2; echo more >&2; exit 1")
    with pytest.raises(MediaError, match=r"ffmpeg spp=4 failed \(no such thing\)"):
        ffmpeg_luma(coded, "spp=4")
    fake_ffmpeg(tmp_path, "echo abc")
    with pytest.raises(MediaError, match="ffmpeg gave 4 bytes for 2 frames of 18432"):
        ffmpeg_luma(coded)
