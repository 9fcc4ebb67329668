import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from edgecar.errors import MediaError
from edgecar.media.frame import Colour
from edgecar.media.reader import open_reader
from tests.media.conftest import read_all, remuxed

NTSC = Fraction(30000, 1001)
VFR = [0, 512, 1000, 3000, 3100, 7000, 9000, 9500, 9600, 12000, 12001, 20000]


def decoded(path, **options):
    """The planes as PyAV's own array conversion gives them."""
    with av.open(str(path)) as container:
        return [picture.to_ndarray(**options) for picture in container.decode(video=0)]


def first_plane(path, dtype=np.uint8):
    """Luma of the first picture as it is stored."""
    with av.open(str(path)) as container:
        plane = next(container.decode(video=0)).planes[0]
    codes = np.frombuffer(plane, dtype).reshape(plane.height, -1)
    return codes[:, : plane.width].astype(int)


@pytest.mark.parametrize("size", [(48, 64), (46, 58), (130, 98), (48, 128)])
def test_planes_are_those_of_the_decoder_and_stay_as_they_are(make_clip, size):
    path = make_clip(size=size, frames=40)
    frames, _ = read_all(path)  # all are kept while the decoder goes on
    height, width = size
    for frame, expected in zip(frames, decoded(path), strict=True):
        assert np.array_equal(frame.y, expected[:height])
        chroma = expected[height:].reshape(2, height // 2, width // 2)
        assert np.array_equal([frame.u, frame.v], chroma)
        for plane in (frame.y, frame.u, frame.v):
            assert plane.flags.c_contiguous
            assert not plane.flags.writeable  # other pictures may refer to it


def test_facts_of_a_plain_clip(make_clip):
    path = make_clip(rate=NTSC, time_base=Fraction(1, 30000), pts=VFR)
    with open_reader(path) as reader:
        assert (reader.size, reader.codec, reader.frame_count) == ((48, 64), "h264", 12)
        assert (reader.colour, reader.live, reader.ended) == (Colour(), False, False)
        frames = list(reader)
        assert reader.ended
        assert not reader.warnings
    assert [(f.pts, f.time_base) for f in frames] == [(pts, Fraction(1, 30000)) for pts in VFR]
    reader.close()
    assert next(reader, None) is None


@pytest.mark.parametrize("rate", [Fraction(25), NTSC, Fraction(10), Fraction(1809, 100)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_rate_and_count(make_clip, rate, suffix):
    frames, reader = read_all(make_clip(f"a{suffix}", rate=rate))
    # Matroska, AVI and MPEG-TS note a frame's duration in ticks of their clocks.
    assert abs(reader.rate / rate - 1) < (1e-3 if suffix == ".ts" else 1e-6)
    assert abs(reader.frame_count - 12) <= (1 if suffix == ".ts" else 0)
    assert len(frames) == 12


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".avi"])
def test_times_with_and_without_bframes(make_clip, suffix, bframes):
    frames, reader = read_all(make_clip(f"a{suffix}", options={"bf": str(bframes)}))
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(n, 25) for n in range(12)]
    assert not reader.warnings


def test_mp4_that_tells_decoding_times_for_showing_is_put_right(make_clip, tmp_path):
    """As some recorders write it: the decoder reorders, but the container says pts = dts."""
    right, wrong = make_clip(options={"bf": "2"}), tmp_path / "wrong.mp4"

    def by_decoding(_, number, packet):
        packet.pts = packet.dts = number * 512
        return [packet]

    remuxed(right, wrong, by_decoding)
    assert sorted(pts := [p.pts for p in av.open(str(wrong)).decode(video=0)]) != pts
    frames, reader = read_all(wrong)
    assert [frame.pts for frame in frames] == [n * 512 for n in range(12)]
    assert reader.warnings == {"timestamps in decoding order, put in the order of showing": 1}
    assert np.array_equal(decoded(wrong), decoded(right))


@pytest.mark.parametrize(
    ("codec", "container", "options"),
    [
        ("libx264", "h264", {"bf": "2"}),
        ("libx265", "hevc", {"x265-params": "log-level=none"}),
    ],
)
@pytest.mark.parametrize("rate", [Fraction(25), NTSC, Fraction(12)])
def test_raw_streams_get_times_from_the_coded_rate(make_clip, codec, container, options, rate):
    path = make_clip("a.bin", codec=codec, container=container, rate=rate, options=options)
    frames, reader = read_all(path)
    assert (reader.codec, reader.rate, reader.frame_count) == (container, rate, None)
    assert [frame.pts * frame.time_base for frame in frames] == [n / rate for n in range(12)]
    assert list(reader.warnings.values()) == [12]


@pytest.mark.parametrize(
    ("codec", "pixels", "colour"),
    [
        ("ffv1", "yuv422p", Colour(False, 1)),
        ("ffv1", "yuv444p", Colour(True, 6)),
        ("ffv1", "yuv411p", Colour()),
        ("ffv1", "gray", Colour(False)),
        ("mjpeg", "yuvj422p", Colour(True, 5)),
    ],
)
def test_other_chroma_is_converted_and_luma_stays(make_clip, codec, pixels, colour):
    path = make_clip("a.mkv", codec=codec, pixels=pixels, colour=colour, frames=3)
    frames, reader = read_all(path)
    assert reader.colour == colour
    assert reader.warnings == {f"pixel format {pixels} converted to 8-bit 4:2:0": 1}
    assert np.array_equal(frames[0].y, first_plane(path))


def test_ten_bits_become_eight(make_clip):
    path = make_clip("a.mkv", codec="ffv1", pixels="yuv420p10le", frames=2)
    frames, reader = read_all(path)
    assert reader.warnings == {"pixel format yuv420p10le converted to 8-bit 4:2:0": 1}
    # swscale dithers: up to one code of 8 bits, which is four of 10.
    assert np.abs(frames[0].y.astype(int) * 4 - first_plane(path, np.uint16)).max() <= 4


def test_rgb_becomes_the_luma_of_jpeg(make_clip):
    path = make_clip("a.mkv", codec="ffv1", pixels="bgr0", frames=2)
    frames, reader = read_all(path)
    assert (reader.colour.full_range, reader.colour.matrix) == (True, 6)
    exact = decoded(path, format="rgb24")[0].astype(float) @ [0.299, 0.587, 0.114]
    # Rounding, and swscale's 8-bit path from RGB.
    assert np.abs(frames[0].y - exact).max() <= 1.5


def test_the_file_of_the_audio_is_named(make_clip):
    path = make_clip(audio="aac")
    with open_reader(path) as reader:
        assert reader.facts.audio_from == path


@pytest.mark.parametrize("keep_size", [True, False])
def test_frames_of_another_size_are_scaled_to_the_first_or_left_alone(
    make_clip, tmp_path, keep_size
):
    first = make_clip("1.264", container="h264")
    second = make_clip("2.264", container="h264", size=(72, 96))
    path = tmp_path / "both.264"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    frames, reader = read_all(path, keep_size=keep_size)
    later = (48, 64) if keep_size else (72, 96)
    assert [frame.size for frame in frames] == [(48, 64)] * 12 + [later] * 12
    assert reader.warnings["frames of another size scaled to 64x48"] == 12 * keep_size
    if keep_size:
        # The same photograph: scaled, it still looks like the frame of the smaller clip. The mean
        # difference to the next frame, 3 px on, is 13.
        assert np.abs(frames[12].y.astype(int) - frames[0].y).mean() < 5


def test_a_reader_can_be_left_early_and_closed_twice(make_clip):
    with open_reader(make_clip(frames=5)) as reader:
        next(reader)
    reader.close()
    assert reader.frame_count == 5  # asked by another thread that shows progress
    assert not reader.ended
    assert next(reader, None) is None


def test_names_with_colons_and_percent_signs_are_only_names(make_clip):
    assert len(read_all(make_clip("cam 1: 50% %03d.mp4"))[0]) == 12


def write_silence(path, codec):
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((2, 4000), np.float32), "fltp")
        sound.sample_rate = 16000
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))


def test_the_cover_of_a_song_is_no_video(tmp_path):
    picture = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    cover = b"\0image/jpeg\0\3\0" + picture
    tag = b"APIC" + struct.pack(">IH", len(cover), 0) + cover
    size = bytes(len(tag) >> shift & 127 for shift in (21, 14, 7, 0))
    song = tmp_path / "song.mp3"
    write_silence(song, "libmp3lame")
    song.write_bytes(b"ID3\3\0\0" + size + tag + song.read_bytes())
    with av.open(str(song)) as container:
        assert container.streams.video
    with pytest.raises(MediaError, match="has no video stream"):
        open_reader(song)


CONTENTS = {"empty": b"", "text": b"hello\n" * 99, "noise": bytes(range(256)) * 40}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("missing", "does not exist; give"),
        ("folder", "is a folder; give"),
        ("empty", r"is empty \(0 bytes\)"),
        ("text", "is a text file; give"),
        ("noise", "is not a video that FFmpeg reads"),
        ("audio only", "has no video stream, only audio; give"),
        ("matroska", r"is not a video that FFmpeg reads \(End of file\)"),
        ("mp4", "has no video stream"),
        ("no index", r"has no index \(moov\)"),
    ],
)
def test_what_is_no_video_is_explained_in_one_line(make_clip, tmp_path, fault, words):
    path = tmp_path / ("notes.txt" if fault == "text" else "bad.mp4")
    if fault == "folder":
        path.mkdir()
    elif fault == "audio only":
        write_silence(path, "aac")
    elif fault in ("matroska", "mp4"):  # without a frame
        with (
            av.open(str(make_clip("one.mp4"))) as source,
            av.open(str(path), "w", format=fault) as output,
        ):
            output.add_stream_from_template(source.streams.video[0], opaque=True)
            output.start_encoding()
    elif fault == "no index":
        whole = make_clip("whole.mp4").read_bytes()
        path.write_bytes(whole[: whole.rindex(b"moov") - 4])
    elif fault != "missing":
        path.write_bytes(CONTENTS[fault])
    with pytest.raises(MediaError, match=words) as caught:
        open_reader(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert "Errno" not in message


def test_an_absent_camera_is_explained():
    with pytest.raises(MediaError, match=r"camera 93 \(/dev/video93\) does not open .*cameras"):
        open_reader(93)
