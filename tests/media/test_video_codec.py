"""Clips there and back through x264 and x265."""

from io import BytesIO

import av
import cv2
import numpy as np
import pytest
from av.video.frame import PictureType

from edgecar.errors import MediaError
from edgecar.evaluate.metrics import psnr
from edgecar.media.frame import Colour, Frame, chroma_size
from edgecar.media.video_codec import CodedClip, VideoCoding, video_coded

SIZE = (64, 96)
CODECS = ["h264", "hevc"]
CHROMA_STEP = 10  # from frame to frame: coarse enough to tell frames apart after coding


def moving(count: int, size: tuple[int, int] = SIZE, colour: Colour = Colour()) -> list[Frame]:  # noqa: B008  # frozen
    """A soft texture over the whole range of codes that moves by 1 row and 3 columns a frame."""
    noise = np.random.default_rng(0).integers(0, 256, (size[0] + count, size[1] + 3 * count))
    soft = cv2.GaussianBlur(noise.astype(np.float32), (0, 0), 2)
    texture = cv2.normalize(soft, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    chroma = chroma_size(size)
    return [
        Frame(
            np.ascontiguousarray(texture[i : i + size[0], 3 * i : 3 * i + size[1]]),
            np.full(chroma, 100, np.uint8),
            np.full(chroma, 90 + CHROMA_STEP * i, np.uint8),
            colour=colour,
        )
        for i in range(count)
    ]


SOURCE = moving(14)


def quality(clip: CodedClip, source: list[Frame] = SOURCE) -> float:
    pairs = zip(source, clip.frames, strict=True)
    return float(np.mean([psnr(clean.y, coded.y) for clean, coded in pairs]))


def picture_types(clip: CodedClip) -> list[str]:
    with av.open(BytesIO(clip.bitstream)) as container:
        return [PictureType(picture.pict_type).name for picture in container.decode(video=0)]


@pytest.mark.parametrize("codec", CODECS)
def test_same_frames_give_the_same_bits(codec):
    coding = VideoCoding(codec, 32)
    first, second = video_coded(SOURCE, coding), video_coded(iter(SOURCE), coding)
    assert first.bitstream == second.bitstream
    for one, other in zip(first.frames, second.frames, strict=True):
        assert np.array_equal(one.y, other.y)
        assert np.array_equal(one.v, other.v)


@pytest.mark.parametrize("codec", CODECS)
def test_a_higher_quantiser_is_smaller_and_worse(codec):
    clips = [video_coded(SOURCE, VideoCoding(codec, quantiser)) for quantiser in (20, 30, 40, 50)]
    sizes, scores = [clip.coded_bytes for clip in clips], [quality(clip) for clip in clips]
    assert sizes == sorted(sizes, reverse=True)
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] + 10


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("b_frames", [0, 3])
def test_frames_come_back_in_order(codec, b_frames):
    clip = video_coded(SOURCE, VideoCoding(codec, 28, b_frames=b_frames))
    assert ("B" in picture_types(clip)) == (b_frames > 0)
    for index, coded in enumerate(clip.frames):
        scores = [psnr(clean.y, coded.y) for clean in SOURCE]
        assert int(np.argmax(scores)) == index
        assert abs(float(np.median(coded.v)) - SOURCE[index].v[0, 0]) < CHROMA_STEP / 2


def test_key_frames_come_as_often_as_asked_for():
    clip = video_coded(SOURCE, VideoCoding("h264", 30, gop=5, b_frames=0))
    keys = [index for index, kind in enumerate(picture_types(clip)) if kind == "I"]
    assert keys == [0, 5, 10]


def test_a_rate_limit_takes_bytes_away():
    free = video_coded(SOURCE, VideoCoding("h264", 18))
    # A buffer of a second holds all of these 0.56 s, so the limit must be far below the free rate.
    limited = video_coded(SOURCE, VideoCoding("h264", 18, max_kbps=round(free.kbps / 8)))
    assert limited.coded_bytes < 0.8 * free.coded_bytes
    assert quality(limited) < quality(free)


@pytest.mark.parametrize("codec", CODECS)
def test_in_loop_filters_change_the_pictures(codec):
    on, off = (
        video_coded(SOURCE, VideoCoding(codec, 40, in_loop_filters=choice))
        for choice in (True, False)
    )
    assert on.bitstream != off.bitstream
    assert any(not np.array_equal(a.y, b.y) for a, b in zip(on.frames, off.frames, strict=True))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("full_range", [True, False])
def test_samples_and_colour_pass_through(codec, full_range):
    colour = Colour(full_range, 1, 1, 1)
    source = moving(3, colour=colour)
    assert source[0].y.min() < 16  # what a conversion to limited range would lose
    clip = video_coded(source, VideoCoding(codec, 4))
    assert {frame.colour for frame in clip.frames} == {colour}
    # Near lossless: a conversion of range would move black by 16 codes, 24 dB.
    assert quality(clip, source) > 45


def test_crf_0_of_h264_loses_nothing():
    clip = video_coded(SOURCE, VideoCoding("h264", 0))
    for clean, coded in zip(SOURCE, clip.frames, strict=True):
        assert np.array_equal(clean.y, coded.y)
        assert np.array_equal(clean.u, coded.u)


def test_rate_is_that_of_the_packets_at_25_frames_a_second():
    clip = video_coded(SOURCE, VideoCoding("h264", 30))
    with av.open(BytesIO(clip.bitstream)) as container:
        packets = sum(packet.size for packet in container.demux(video=0))
    assert clip.coded_bytes == packets < len(clip.bitstream)
    assert clip.kbps == pytest.approx(packets * 8 / 1000 / (len(SOURCE) / 25))


@pytest.mark.parametrize("codec", CODECS)
def test_unfit_clips_are_explained_in_one_line(codec):
    coding = VideoCoding(codec, 30)
    small = moving(1, (48, 64))
    for frames, message in (
        ([], "has no frame; give at least one"),
        (moving(2, (63, 96)), "clip is 96x63; 4:2:0 needs even sides: crop or scale it"),
        (moving(2, (64, 95)), "clip is 95x64; 4:2:0 needs even sides"),
        ([*SOURCE[:2], *small], "frame 2 is 64x48, the first is 96x64; give frames of one size"),
    ):
        with pytest.raises(MediaError, match=message) as caught:
            video_coded(frames, coding)
        assert "\n" not in str(caught.value)


def test_unfit_settings_are_explained_in_one_line():
    for settings, message in (
        ({"quantiser": 52}, "quantiser 52 is not in 0 to 51"),
        ({"quantiser": -1}, "quantiser -1 is not in 0 to 51"),
        ({"codec": "hevc", "max_kbps": 500}, "hevc got a limit of 500 kbit/s"),
        ({"max_kbps": 0}, "at least 1 kbit/s"),
    ):
        with pytest.raises(MediaError, match=message):
            VideoCoding(**{"codec": "h264", "quantiser": 30, **settings})


@pytest.mark.parametrize("codec", CODECS)
def test_what_the_coder_refuses_is_explained_in_one_line(codec):
    with pytest.raises(MediaError, match=f"{codec} cannot code the clip .* change its set") as info:
        video_coded(SOURCE, VideoCoding(codec, 30, preset="leisurely"))
    assert "\n" not in str(info.value)
