"""Streams that were cut off, hit by bit errors or cannot be read to the end."""

import random
from fractions import Fraction
from pathlib import Path

import av
import pytest

from edgecar.errors import MediaError
from edgecar.media.reader import open_reader
from tests.media.conftest import remuxed

FRAMES = 30
WITH_BFRAMES = {"bf": "2", "preset": "veryfast"}
GROUPS = {
    "none": {"bf": "0"},
    "closed": {"bf": "3", "g": "10", "preset": "veryfast"},
    "open": {"bf": "3", "g": "10", "preset": "veryfast", "x264-params": "open-gop=1"},
}
"""Options of x264 for groups of pictures."""


def cut(path: Path, share: float) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def read(path):
    with open_reader(path) as reader:
        return [frame.pts * frame.time_base for frame in reader], reader.warnings


def packets_in(path):
    """Where every packet ends in the file, read without decoding."""
    with av.open(str(path)) as container:
        return [(p.pos or 0) + p.size for p in container.demux(video=0) if p.size]


def decoded_one_by_one(path):
    """Times of the frames that a decoder without threads gives for the sound packets."""
    pictures = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for packet in container.demux(stream):
            if not packet.is_corrupt:
                pictures += packet.decode()
    return [picture.pts * picture.time_base for picture in pictures]


@pytest.mark.parametrize("kind", ["closed", "open", "none"])
@pytest.mark.parametrize(
    ("suffix", "muxing"), [(".mp4", {"movflags": "faststart"}), (".mkv", {}), (".avi", {})]
)
def test_a_cut_file_is_read_up_to_the_cut_and_all_losses_counted(make_clip, suffix, muxing, kind):
    """Cut behind packets and within them: frames read, damaged and missing make up the whole."""
    path = make_clip(f"a{suffix}", frames=FRAMES, options=GROUPS[kind], muxing=muxing)
    whole, ends = path.read_bytes(), packets_in(path)
    for number, end in enumerate(ends[4:-1], 5):
        path.write_bytes(whole[: end + number % 3 * 5])
        seconds, warnings = read(path)
        if suffix != ".avi":  # which tells no times of showing
            assert seconds == decoded_one_by_one(path)
        damaged = warnings["damaged packets skipped"] + warnings["packets without a picture"]
        missing = warnings["frames missing from the file"]
        assert len(seconds) + damaged + missing == FRAMES
        assert missing == FRAMES - len(packets_in(path))
        assert FRAMES - missing >= number - 1


@pytest.mark.parametrize("kind", ["closed", "open", "none"])
@pytest.mark.parametrize(
    ("name", "container", "muxing"),
    [
        ("a.mp4", None, {"movflags": "frag_keyframe+empty_moov"}),
        ("a.ts", None, {}),
        ("a.264", "h264", {}),
    ],
)
def test_streams_that_promise_no_length_lose_only_what_is_damaged(
    make_clip, name, container, muxing, kind
):
    options = GROUPS[kind]
    path = make_clip(name, frames=FRAMES, options=options, container=container, muxing=muxing)
    whole = path.read_bytes()
    for share in (0.5, 0.7, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        seconds, warnings = read(path)
        damaged = warnings["damaged packets skipped"] + warnings["packets without a picture"]
        assert "frames missing from the file" not in warnings
        assert len(seconds) + damaged == len(packets_in(path))


def test_an_mp4_cut_before_its_index_is_refused(make_clip):
    path = make_clip("a.mp4", frames=FRAMES)
    with pytest.raises(MediaError, match=r"has no index \(moov\)"):
        read(cut(path, 0.6))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_uneven_times_are_no_losses(make_clip, suffix):
    """A last frame that is shown long, gaps, and frames that are decoded in another order."""
    times = [0, 1, 2, 3, 30, 31, 32, 90, 91, 92, 93, 94, 95, 250]
    path = make_clip(f"a{suffix}", frames=14, pts=times, options={"bf": "2"})
    seconds, warnings = read(path)
    assert len(seconds) == 14
    assert not warnings


def test_empty_places_in_avi_are_no_losses(make_clip):
    """Frames at 25 a second in AVI at 600 leave 23 of 24 places empty."""
    times, tick = [24 * n for n in range(FRAMES)], Fraction(1, 600)
    path = make_clip("a.avi", frames=FRAMES, rate=Fraction(600), time_base=tick, pts=times)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames > 10 * FRAMES
    seconds, warnings = read(path)
    assert len(seconds) == FRAMES
    assert not warnings


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".264", ".avi"])
@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_cost_no_frame_before_them_and_are_counted(make_clip, suffix, seed):
    container = "h264" if suffix == ".264" else None
    path = make_clip(
        f"a{suffix}", frames=FRAMES, size=(96, 160), options=WITH_BFRAMES, container=container
    )
    data, rng = bytearray(path.read_bytes()), random.Random(seed)
    with av.open(str(path)) as container:
        ends = sorted(packet.pos + packet.size for packet in container.demux(video=0) if packet.pos)
    first, last = ends[8], ends[24]  # behind the key frame, before the index of MP4
    for _ in range(40):  # a single one can turn a picture into another valid one
        data[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    seconds, warnings = read(path)
    assert len(seconds) >= 8
    warnings.pop("timestamps missing, taken from 25 frames a second", None)
    assert warnings.total() > 0


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize("spoilt", [10, FRAMES - 1])
def test_a_packet_of_rubbish_is_skipped_and_all_losses_counted(
    make_clip, tmp_path, spoilt, bframes
):
    path = make_clip("a.mp4", frames=FRAMES, options={"bf": str(bframes)})

    def spoil(_, number, packet):
        return [rubbish_like(packet) if number == spoilt else packet]

    seconds, warnings = read(remuxed(path, tmp_path / "spoilt.mp4", spoil))
    lost = warnings["damaged packets skipped"] + warnings["packets without a picture"]
    # The last for Python 3.10, PyAV 17, says nothing of a picture held back by the last packet.
    unsaid = spoilt == FRAMES - 1 and av.__version__ < "18"
    assert len(seconds) + lost == FRAMES or (unsaid and len(seconds) + lost == FRAMES - 1)
    # PyAV drops what a threaded decoder still holds when the very last packet is rubbish.
    assert lost == 1 or (spoilt == FRAMES - 1 and lost <= 4)


def rubbish_like(packet):
    rubbish = av.Packet(b"\xff" * packet.size)
    rubbish.pts, rubbish.dts, rubbish.time_base = packet.pts, packet.dts, packet.time_base
    return rubbish


def test_frames_before_the_first_key_frame_are_counted(make_clip, tmp_path):
    """As when a recorder joins a running camera."""
    path = make_clip("a.mp4", frames=FRAMES, options={"g": "10"})

    def late(_, number, packet):
        return [packet] if number >= 4 else []

    seconds, warnings = read(remuxed(path, tmp_path / "late.mp4", late))
    assert len(seconds) == FRAMES - 10
    assert warnings == {"packets without a picture": 6}


def test_a_stream_of_nothing_but_damage_is_explained(make_clip):
    path = make_clip("a.mp4", muxing={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = b"\xff" * (len(data) - start)
    path.write_bytes(data)
    with pytest.raises(MediaError, match="holds no frame that can be decoded"):
        open_reader(path)
