"""QP and JPEG quality that streams and files state."""

import gc
import io
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from edgecar.media.coding import StreamCoding, jpeg_quality, mean_qp, picture_coding
from edgecar.media.frame import CODING_NOT_STATED, Coding
from edgecar.media.quantiser import quantiser_from_jpeg_quality
from tests.media.conftest import read_all

NOISE = np.random.default_rng(0).integers(0, 256, (40, 56), np.uint8)
SAME_FOR_ALL = "ipratio=1:pbratio=1"  # x264's fixed QP is that of P-frames; I and B else differ
VARIED = {"crf": "30", "bf": "3", "x264-params": "b-adapt=0:aq-mode=1:aq-strength=2"}
CONCEALED = "damaged frames concealed by the decoder"


def codings(path, read_coding=True):
    return [frame.coding for frame in read_all(path, read_coding=read_coding)[0]]


def qps(path):
    return [coding.qp for coding in codings(path)]


def jpeg(quality, *, coder="opencv", **options):
    if coder == "opencv":
        return cv2.imencode(".jpg", NOISE, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    file = io.BytesIO()
    Image.fromarray(NOISE).save(file, "JPEG", quality=quality, **options)
    return file.getvalue()


def head(*tables):
    """The head of a JPEG with tables, each a byte of precision and number and the steps."""
    code = b"".join(tables)
    return b"\xff\xd8" + struct.pack(">HH", 0xFFDB, 2 + len(code)) + code


@pytest.mark.parametrize(
    ("qp", "changes", "pixels", "shown"),
    [
        ("20", {}, "yuv420p", 20),
        ("40", {"bf": "2"}, "yuv420p", 40),
        ("30", {"x264-params": f"{SAME_FOR_ALL}:tff=1"}, "yuv420p", 30),
        # x264 counts a fixed QP from the lowest there is, which is 12 below that of 8 bits.
        ("42", {}, "yuv420p10le", 30),
    ],
    ids=["P", "B", "interlaced", "ten bits"],
)
def test_a_fixed_qp_is_read_exactly(make_clip, qp, changes, pixels, shown):
    options = {"qp": qp, "bf": "0", "x264-params": SAME_FOR_ALL} | changes
    path = make_clip(pixels=pixels, options=options)
    assert codings(path) == [Coding(qp=shown, codec="h264")] * 12
    assert set(codings(path, read_coding=False)) == {Coding(codec="h264")}  # only if asked for


@pytest.mark.parametrize(
    ("suffix", "frames", "size"),
    [
        *[(suffix, 40, (480, 640)) for suffix in (".mp4", ".mkv", ".ts", ".264")],
        (".mp4", 12, (46, 58)),  # macroblocks across the edge
        (".mp4", 12, (90, 334)),
    ],
)
def test_varied_qps_are_those_of_an_unthreaded_decoder(make_clip, suffix, frames, size):
    """With frame threads FFmpeg exports B-frames' QPs too early: about one in ten is wrong."""
    path = make_clip(f"a{suffix}", frames=frames, size=size, options=VARIED)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        stream.codec_context.options = {"export_side_data": "venc_params"}
        expected = [
            picture.side_data["VIDEO_ENC_PARAMS"].qp_map().mean()  # PyAV's own, slow maps
            for picture in container.decode(stream)
        ]
    assert len(set(expected)) > frames / 2
    assert np.allclose(qps(path), expected, rtol=0, atol=1e-9)  # two orders of summation


@pytest.mark.parametrize(
    ("suffix", "codec", "options", "named"),
    [
        (".mp4", "mpeg4", {}, "mpeg4"),
        (".ts", "mpeg2video", {}, "mpeg2video"),
        (".webm", "libvpx-vp9", {}, "vp9"),
    ],
)
def test_other_scales_are_not_taken_for_that_of_h264(make_clip, suffix, codec, options, named):
    path = make_clip(f"a{suffix}", codec=codec, options=options)
    assert set(codings(path)) == {Coding(codec=named)}
    if named == "mpeg4":  # whose decoder exports some, if asked
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.options = {"export_side_data": "venc_params"}
            for picture in container.decode(stream):
                assert "VIDEO_ENC_PARAMS" in [data.type.name for data in picture.side_data]
                assert mean_qp(picture) is None


def test_damage_is_noticed_while_qps_are_read_and_such_pictures_have_none(make_clip):
    """Concealed macroblocks keep whatever QP was in the decoder's memory.

    With slice threads FFmpeg conceals them and says nothing.
    """
    path = make_clip("a.264", frames=20, size=(96, 128), options={"crf": "30", "slices": "4"})
    code = bytearray(path.read_bytes())
    for place in range(len(code) // 2, len(code) // 2 + 400):
        code[place] ^= 0x55
    path.write_bytes(code)
    plain, reader = read_all(path)
    frames, asked = read_all(path, read_coding=True)
    assert 0 < asked.warnings[CONCEALED] < len(frames)
    assert [frame.coding.qp for frame in frames].count(None) == asked.warnings[CONCEALED]
    assert (len(frames), asked.warnings) == (len(plain), reader.warnings)


def test_reading_qps_keeps_no_picture_in_memory(make_clip):
    """PyAV's own property closes a circle that only the collector opens."""
    path = make_clip()

    def pictures():
        return sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = pictures()  # of other tests, whose fixtures may hold some
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            StreamCoding(stream)
            assert all(mean_qp(picture) is not None for picture in container.decode(stream))
        kept = pictures() - before
    finally:
        gc.enable()
    assert kept <= 1  # the decoder's next one, still empty


@pytest.mark.parametrize("coder", ["opencv", "pillow"])
def test_jpeg_quality_is_exact(coder):
    qualities = list(range(1, 101))
    assert [jpeg_quality(jpeg(quality, coder=coder)) for quality in qualities] == qualities


def test_jpeg_quality_is_that_of_the_luma_table_wherever_it_is():
    code = jpeg(63, coder="pillow", progressive=True, comment=b"\xff\xdb\x00\x43\x00" + bytes(64))
    assert jpeg_quality(code) == 63
    assert jpeg_quality(code[:2] + b"\xff\xff" + code[2:]) == 63  # bytes that fill
    luma, chroma = b"\x00" + bytes([16] * 64), b"\x01" + bytes([90] * 64)
    assert jpeg_quality(head(chroma, luma)) == jpeg_quality(head(luma)) is not None
    steps = jpeg(40)
    table = steps[steps.index(b"\xff\xdb") + 5 :][:64]
    assert jpeg_quality(head(b"\x10" + b"".join(struct.pack(">H", step) for step in table))) == 40


def by_ffmpeg(scale):
    """A JPEG with the table of MPEG-1, scaled."""
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = 56, 40, "yuvj420p"
    context.time_base = Fraction(1, 25)
    context.options = {"qmin": str(scale), "qmax": str(scale)}
    picture = av.VideoFrame.from_ndarray(NOISE, "gray").reformat(format="yuvj420p")
    picture.pts = 0
    return bytes(next(iter([*context.encode(picture), *context.encode(None)])))


def test_jpeg_quality_of_a_strange_table_is_the_nearest():
    """The table of MPEG-1 is flatter: coarser steps are a lower quality."""
    found = [jpeg_quality(by_ffmpeg(scale)) for scale in (2, 4, 8, 16, 31)]
    assert found == sorted(set(found), reverse=True)
    assert len(found) == 5
    assert found[0] > 90
    assert found[-1] < 30


@pytest.mark.parametrize(
    "code",
    [
        b"",
        b"\xff\xd8\xff\xdb\x00\x20\x00" + bytes(99),  # a segment too short for its table
        b"\xff\xd8",
        b"\x89PNG\r\n\x1a\n" + bytes(99),
        b"\xff\xd8\xff\xdb\x00\x43\x00" + bytes(10),  # cut in the table
        b"\xff\xd8\xff\xdb\x00\x00" * 9,  # impossible lengths
        b"\xff\xd8\xff\xda\x00\x02\xff\xdb\x00\x43\x00" + bytes(64),  # in the scan, not the head
    ],
)
def test_no_quality_without_a_table(code):
    assert jpeg_quality(code) is None


def test_motion_jpeg_tells_the_quality_of_every_frame(tmp_path):
    qualities, path = [30, 75, 75, 40, 95, 10], tmp_path / "a.avi"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=25, width=NOISE.shape[1], height=NOISE.shape[0])
        stream.codec_context.pix_fmt = "yuvj420p"
        for index, quality in enumerate(qualities):
            packet = av.Packet(jpeg(quality))
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = index
            output.mux(packet)
    assert codings(path) == [
        Coding(None, quality, "mjpeg", quantiser_from_jpeg_quality(quality))
        for quality in qualities
    ]
    assert set(codings(path, read_coding=False)) == {Coding(codec="mjpeg")}


@pytest.mark.parametrize(
    ("coding", "expected"),
    [
        (Coding(qp=19.9), True),
        (Coding(qp=20.0), False),
        (Coding(qp=0.0), True),
        (Coding(jpeg_quality=91), True),
        (Coding(jpeg_quality=90), False),
        (CODING_NOT_STATED, False),
    ],
)
def test_finer_than_what_needs_cleaning(coding, expected):
    assert coding.is_finer(than_qp=20, than_quality=90) is expected
    assert not coding.is_finer()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp", ".jpg", ".jp2"])
def test_a_picture_tells_its_format_whatever_its_name(suffix):
    _, code = cv2.imencode(suffix, np.full((64, 64), 90, np.uint8))
    coding = picture_coding(code.tobytes())
    assert coding.codec == {".jpg": "jpeg", ".jp2": "jpeg2000"}.get(suffix, suffix[1:])
    assert (coding.jpeg_quality is not None) == (suffix == ".jpg")


@pytest.mark.parametrize("code", [b"", b"P", b"nothing of the kind", bytes(64)])
def test_what_begins_like_no_picture_has_no_format(code):
    assert picture_coding(code) == CODING_NOT_STATED
