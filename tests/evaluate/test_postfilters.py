"""FFmpeg's post-filters as baselines."""

import shutil
import stat
import subprocess

import numpy as np
import pytest

from edgecar.errors import MediaError
from edgecar.evaluate.encodes import Source
from edgecar.evaluate.metrics import psnr
from edgecar.evaluate.postfilters import (
    POSTFILTERS,
    STRENGTHS,
    Postfilter,
    ffmpeg_frames,
    strength_for,
)
from edgecar.evaluate.study import Coded
from edgecar.media.frame import Colour
from edgecar.media.video_codec import CodedClip, VideoCoding, video_coded
from tests.evaluate.conftest import SOURCE, panning


def has_filters() -> bool:
    if shutil.which("ffmpeg") is None:
        return False
    asked = ["ffmpeg", "-hide_banner", "-filters"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return " spp " in done.stdout and " fspp " in done.stdout


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
needs_filters = pytest.mark.skipif(not has_filters(), reason="needs ffmpeg with spp and fspp")


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("full_range", [None, False, True])
def test_ffmpeg_decodes_what_we_decode(codec, full_range):
    source = panning(4, colour=Colour(full_range, 1, 1, 1))
    coded = video_coded(source, VideoCoding(codec, 35))
    for frame, decoded in zip(coded.frames, ffmpeg_frames(coded), strict=True):
        assert all(np.array_equal(getattr(frame, p), getattr(decoded, p)) for p in "yuv")


@needs_filters
@pytest.mark.parametrize("name", POSTFILTERS)
def test_a_postfilter_filters_and_gains(name):
    source = panning(8, 96, 128)
    coded = Coded(Source("pan", source), VideoCoding("h264", 35))

    def mean_psnr(frames):
        return np.mean([psnr(a.y, b.y) for a, b in zip(source, frames, strict=True)])

    before = coded.clip.frames
    after = list(Postfilter(name).frames(coded, range(8)))
    assert not any(np.array_equal(a.y, b.y) for a, b in zip(before, after, strict=True))
    assert mean_psnr(after) > mean_psnr(before)
    # A camera's QP is no strength of these filters: it blurs.
    assert mean_psnr(ffmpeg_frames(coded.clip, f"{name}=4:qp=35")) < mean_psnr(before) - 1
    some = list(Postfilter(name).frames(coded, [0, 3]))  # only those asked for come out
    assert [one.pts for one in some] == [before[0].pts, before[3].pts]
    assert all(np.array_equal(a.y, b.y) for a, b in zip(some, after[:4:3], strict=True))


@pytest.mark.parametrize(("name", "codec"), STRENGTHS)
def test_strength_rises_with_the_quantiser_and_never_filters_nothing(name, codec):
    strengths = [strength_for(name, VideoCoding(codec, quantiser)) for quantiser in range(52)]
    assert strengths == sorted(strengths)
    assert strengths[0] >= 1
    assert STRENGTHS[name, codec].items() <= dict(enumerate(strengths)).items()


def fake_ffmpeg(folder, script: str) -> None:
    command = folder / "ffmpeg"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)


def test_a_missing_or_failing_ffmpeg_is_explained(tmp_path, monkeypatch):
    with pytest.raises(MediaError, match="no baseline is called 'pp7'; use spp or fspp"):
        Postfilter("pp7")
    monkeypatch.setenv("PATH", str(tmp_path))
    coded = CodedClip(SOURCE[:2], b"", 1)
    with pytest.raises(MediaError, match="no ffmpeg command is here; baseline spp needs one: inst"):
        Postfilter("spp")
    with pytest.raises(MediaError, match="ffmpeg does not start"):
        ffmpeg_frames(coded)
    fake_ffmpeg(tmp_path, "echo ' T.. fspp  V->V  Fast'; echo ' ..C scale  V->V  Scale spp'")
    assert Postfilter("fspp").name == "fspp"
    with pytest.raises(MediaError, match="this ffmpeg has no filter spp, which needs a build"):
        Postfilter("spp")
    fake_ffmpeg(tmp_path, "echo 'no such thing' >&2; echo more >&2; exit 1")
    with pytest.raises(MediaError, match=r"ffmpeg spp=4 failed \(no such thing\)"):
        ffmpeg_frames(coded, "spp=4")
    fake_ffmpeg(tmp_path, "echo abc")
    with pytest.raises(MediaError, match="ffmpeg gave 4 bytes for 2 frames of 4608"):
        ffmpeg_frames(coded)
