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
from edgecar.media.quantiser import SlowQuantiser
from edgecar.media.video_codec import VideoCoding, video_coded

SIZE = (64, 96)
CHROMA_STEP = 10  # from frame to frame: coarse enough to tell frames apart after coding

each_codec = pytest.mark.parametrize("codec", ["h264", "hevc"])


def moving(count, size=SIZE, colour=Colour()):  # noqa: B008  # frozen
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


def quality(clip, source=SOURCE):
    return np.mean([psnr(a.y, b.y) for a, b in zip(source, clip.frames, strict=True)])


def picture_types(clip):
    with av.open(BytesIO(clip.bitstream)) as container:
        return [PictureType(picture.pict_type).name for picture in container.decode(video=0)]


@each_codec
def test_same_frames_give_the_same_bits(codec):
    coding = VideoCoding(codec, 32)
    first, second = video_coded(SOURCE, coding), video_coded(iter(SOURCE), coding)
    assert first.bitstream == second.bitstream
    for one, other in zip(first.frames, second.frames, strict=True):
        assert np.array_equal(one.y, other.y)
        assert np.array_equal(one.v, other.v)


@each_codec
def test_settings_do_what_they_say(codec):
    clips = [video_coded(SOURCE, VideoCoding(codec, quantiser)) for quantiser in (20, 30, 40, 50)]
    sizes, scores = [clip.coded_bytes for clip in clips], [quality(clip) for clip in clips]
    assert sizes == sorted(sizes, reverse=True)
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] + 10
    unfiltered = video_coded(SOURCE, VideoCoding(codec, 40, in_loop_filters=False))
    assert any((a.y != b.y).any() for a, b in zip(clips[2].frames, unfiltered.frames, strict=True))


@each_codec
@pytest.mark.parametrize("b_frames", [0, 3])
def test_frames_come_back_in_order(codec, b_frames):
    clip = video_coded(SOURCE, VideoCoding(codec, 28, b_frames=b_frames))
    assert ("B" in picture_types(clip)) == (b_frames > 0)
    for index, coded in enumerate(clip.frames):
        assert int(np.argmax([psnr(clean.y, coded.y) for clean in SOURCE])) == index
        assert abs(float(np.median(coded.v)) - SOURCE[index].v[0, 0]) < CHROMA_STEP / 2


def test_key_frames_come_as_often_as_asked_for():
    kinds = picture_types(video_coded(SOURCE, VideoCoding("h264", 30, gop=5, b_frames=0)))
    assert [index for index, kind in enumerate(kinds) if kind == "I"] == [0, 5, 10]


def test_a_rate_limit_takes_bytes_away():
    free = video_coded(SOURCE, VideoCoding("h264", 18))
    # A buffer of a second holds all of these 0.56 s, so the limit must be far below the free rate.
    limited = video_coded(SOURCE, VideoCoding("h264", 18, max_kbps=round(free.kbps / 8)))
    assert limited.coded_bytes < 0.8 * free.coded_bytes
    assert quality(limited) < quality(free)
    with av.open(BytesIO(free.bitstream)) as container:
        packets = sum(packet.size for packet in container.demux(video=0))
    assert free.coded_bytes == packets < len(free.bitstream)
    assert free.kbps == pytest.approx(packets * 8 / 1000 / (len(SOURCE) / 25))


@each_codec
@pytest.mark.parametrize("colour", [Colour(True, 1, 1, 1), Colour(False, 1, 1, 1)])
def test_range_and_matrix_pass_through(codec, colour):
    source = moving(3, colour=colour)
    assert source[0].y.min() < 16  # what a conversion to limited range would lose
    clip = video_coded(source, VideoCoding(codec, 4))
    assert {frame.colour for frame in clip.frames} == {colour}
    # Near lossless: a conversion of range would move black by 16 codes, 24 dB.
    assert quality(clip, source) > 45


def test_a_clip_tells_the_quantisers_that_its_camera_would_have_at_run_time():
    clip = video_coded(SOURCE, VideoCoding("h264", 32))
    slow = SlowQuantiser()
    assert clip.quantisers == [slow.after(frame.coding.qp) for frame in clip.frames]
    coarser = video_coded(SOURCE, VideoCoding("h264", 47))
    assert 0 < clip.quantisers[-1] < coarser.quantisers[-1] <= 1
    finer, coarser = (video_coded(SOURCE, VideoCoding("hevc", qp)) for qp in (22, 47))
    assert 0 < max(finer.quantisers) < min(coarser.quantisers) <= 1  # by key frames


def test_crf_0_of_h264_loses_nothing():
    for clean, coded in zip(
        SOURCE, video_coded(SOURCE, VideoCoding("h264", 0)).frames, strict=True
    ):
        assert np.array_equal(clean.y, coded.y)
        assert np.array_equal(clean.u, coded.u)


@each_codec
@pytest.mark.parametrize(
    ("frames", "preset", "words"),
    [
        ([], "medium", "has no frame; give at least one"),
        (moving(2, (63, 96)), "medium", "clip is 96x63; 4:2:0 needs even sides: crop or scale it"),
        (
            [*SOURCE[:2], *moving(1, (48, 64))],
            "medium",
            "frame 2 is 64x48, the first is 96x64; give frames of one size",
        ),
        (SOURCE, "leisurely", "cannot code the clip .* change its set"),
    ],
)
def test_what_cannot_be_coded_is_explained_in_one_line(codec, frames, preset, words):
    with pytest.raises(MediaError, match=words) as caught:
        video_coded(frames, VideoCoding(codec, 30, preset=preset))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quantiser": 52}, "quantiser 52 is not in 0 to 51"),
        ({"quantiser": -1}, "quantiser -1 is not in 0 to 51"),
        ({"codec": "hevc", "max_kbps": 500}, "hevc got a limit of 500 kbit/s"),
        ({"max_kbps": 0}, "at least 1 kbit/s"),
    ],
)
def test_unfit_settings_are_explained(settings, words):
    with pytest.raises(MediaError, match=words):
        VideoCoding(**{"codec": "h264", "quantiser": 30, **settings})
