"""Streams that were cut off, hit by bit errors or cannot be read to the end."""

import random
import struct
from fractions import Fraction

import av
import pytest

from edgecar.errors import MediaError
from edgecar.media.reader import CROP_NOT_APPLIED, open_reader
from tests.media.conftest import packets_of, read_all, remuxed

FRAMES = 30
GROUPS = {
    "none": {"bf": "0"},
    "closed": {"bf": "3", "g": "10", "preset": "veryfast"},
    "open": {"bf": "3", "g": "10", "preset": "veryfast", "x264-params": "open-gop=1"},
}
"""Options of x264 for groups of pictures."""

every_group = pytest.mark.parametrize("options", GROUPS.values(), ids=GROUPS)


def read(path):
    """Times of the frames, warnings, and how many packets of pictures gave none."""
    frames, reader = read_all(path)
    damaged = (
        reader.warnings["damaged packets skipped"] + reader.warnings["packets without a picture"]
    )
    return [frame.pts * frame.time_base for frame in frames], +reader.warnings, damaged


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


@every_group
@pytest.mark.parametrize(
    ("suffix", "muxing"), [(".mp4", {"movflags": "faststart"}), (".mkv", {}), (".avi", {})]
)
def test_a_cut_file_is_read_up_to_the_cut_and_all_losses_counted(
    make_clip, suffix, muxing, options
):
    """Cut behind packets and within them: frames read, damaged and missing make up the whole."""
    path = make_clip(f"a{suffix}", frames=FRAMES, options=options, muxing=muxing)
    whole, ends = path.read_bytes(), [(p.pos or 0) + p.size for p in packets_of(path, video=0)]
    for number, end in enumerate(ends[4:-1], 5):
        path.write_bytes(whole[: end + number % 3 * 5])
        seconds, warnings, damaged = read(path)
        if suffix != ".avi":  # which tells no times of showing
            assert seconds == decoded_one_by_one(path)
        missing = warnings["frames missing from the file"]
        assert len(seconds) + damaged + missing == FRAMES
        assert missing == FRAMES - len(packets_of(path, video=0))
        assert FRAMES - missing >= number - 1


@every_group
@pytest.mark.parametrize(
    ("name", "container", "muxing"),
    [
        ("a.mp4", None, {"movflags": "frag_keyframe+empty_moov"}),
        ("a.ts", None, {}),
        ("a.264", "h264", {}),
    ],
)
def test_streams_that_promise_no_length_lose_only_what_is_damaged(
    make_clip, name, container, muxing, options
):
    path = make_clip(name, frames=FRAMES, options=options, container=container, muxing=muxing)
    whole = path.read_bytes()
    for share in (0.5, 0.7, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        seconds, warnings, damaged = read(path)
        assert "frames missing from the file" not in warnings
        assert len(seconds) + damaged == len(packets_of(path, video=0))


UNEVEN = [0, 1, 2, 3, 30, 31, 32, 90, 91, 92, 93, 94, 95, 250]


@pytest.mark.parametrize(
    ("suffix", "settings"),
    [
        (".mp4", {"pts": UNEVEN, "options": {"bf": "2"}}),
        (".mkv", {"pts": UNEVEN, "options": {"bf": "2"}}),
        # Frames at 25 a second in AVI at 600 leave 23 of 24 places empty.
        (".avi", {"rate": Fraction(600), "pts": [24 * n for n in range(14)]}),
    ],
)
def test_uneven_times_and_empty_places_are_no_losses(make_clip, suffix, settings):
    """A last frame that is shown long, gaps, and frames that are decoded in another order."""
    seconds, warnings, _ = read(make_clip(f"a{suffix}", frames=14, **settings))
    assert len(seconds) == 14
    assert not warnings


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".264", ".avi"])
@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_cost_no_frame_before_them_and_are_counted(make_clip, suffix, seed):
    options = {"bf": "2", "preset": "veryfast"}
    path = make_clip(
        f"a{suffix}",
        frames=FRAMES,
        size=(96, 160),
        options=options,
        container="h264" if suffix == ".264" else None,
    )
    data, rng = bytearray(path.read_bytes()), random.Random(seed)
    ends = sorted(packet.pos + packet.size for packet in packets_of(path, video=0) if packet.pos)
    first, last = ends[8], ends[24]  # behind the key frame, before the index of MP4
    for _ in range(40):  # a single one can turn a picture into another valid one
        data[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    seconds, warnings, _ = read(path)
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
        if number != spoilt:
            return [packet]
        rubbish = av.Packet(b"\xff" * packet.size)
        rubbish.pts, rubbish.dts, rubbish.time_base = packet.pts, packet.dts, packet.time_base
        return [rubbish]

    seconds, _, lost = read(remuxed(path, tmp_path / "spoilt.mp4", spoil))
    # The last for Python 3.10, PyAV 17, says nothing of a picture held back by the last packet.
    unsaid = spoilt == FRAMES - 1 and av.__version__ < "18"
    assert len(seconds) + lost == FRAMES or (unsaid and len(seconds) + lost == FRAMES - 1)
    # PyAV drops what a threaded decoder still holds when the very last packet is rubbish.
    assert lost == 1 or (spoilt == FRAMES - 1 and lost <= 4)


def test_frames_before_the_first_key_frame_are_counted(make_clip, tmp_path):
    """As when a recorder joins a running camera."""
    path = make_clip("a.mp4", frames=FRAMES, options={"g": "10"})
    late = remuxed(path, tmp_path / "late.mp4", lambda _, number, packet: [packet] * (number >= 4))
    seconds, warnings, _ = read(late)
    assert len(seconds) == FRAMES - 10
    assert warnings == {"packets without a picture": 6}


def test_what_holds_nothing_but_damage_or_no_index_is_explained(make_clip):
    path = make_clip("a.mp4", muxing={"movflags": "faststart"})
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + b"\xff" * (len(data) - start))
    with pytest.raises(MediaError, match="holds no frame that can be decoded"):
        open_reader(path)
    path = make_clip("b.mp4", frames=FRAMES)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with pytest.raises(MediaError, match=r"has no index \(moov\)"):
        open_reader(path)


def with_clap(code):
    """Put a clean aperture of 56 x 40 into the description of the coding of an MP4 file."""
    clap = struct.pack(">I4s8I", 40, b"clap", 56, 1, 40, 1, 0, 1, 0, 1)
    entry = code.index(b"avc1", code.index(b"stsd")) - 4
    end = entry + int.from_bytes(code[entry : entry + 4], "big")
    code[end:end] = clap
    boxes = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    for at in [*(code.index(name) - 4 for name in boxes), entry]:
        code[at : at + 4] = struct.pack(">I", int.from_bytes(code[at : at + 4], "big") + len(clap))


def with_pixel_crop(code):
    """Turn Matroska's unit of the display size, which says nothing here, into a crop of the top."""
    at = code.index(b"\x54\xb2\x81")
    code[at : at + 4] = b"\x54\xbb\x81\x08"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_crop_that_only_the_container_states_is_named(make_clip, suffix):
    """What is hidden by it shows in the output."""
    path = make_clip(f"a{suffix}", audio="aac")
    seconds, warnings, _ = read(path)
    assert CROP_NOT_APPLIED not in warnings
    code = bytearray(path.read_bytes())
    (with_pixel_crop if suffix == ".mkv" else with_clap)(code)
    path.write_bytes(code)
    again, warnings, _ = read(path)
    assert again == seconds
    assert warnings[CROP_NOT_APPLIED] == 1
