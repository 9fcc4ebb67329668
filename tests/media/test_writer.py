import errno
import os
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from edgecar.errors import MediaError
from edgecar.media.facts import StreamFacts
from edgecar.media.frame import Colour
from edgecar.media.reader import open_reader
from edgecar.media.writer import NullWriter, open_writer
from tests.media.conftest import copied

NTSC = Fraction(30000, 1001)
TICK = Fraction(1, 12800)
VFR = [0, 512, 1000, 3000, 3100, 7000, 9000, 9500, 9600, 12000, 12001, 20000]
FACTS = StreamFacts(size=(48, 64), rate=Fraction(25), time_base=TICK)


def read(path):
    with open_reader(path) as reader:
        return list(reader), reader


def times(frames):
    return [frame.pts * frame.time_base for frame in frames]


def write_all(path, facts, frames, **settings):
    with open_writer(path, like=facts, **settings) as writer:
        for frame in frames:
            writer.write(frame)
    return writer


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1), (130, 98)])
def test_ffv1_is_exact(noise_frames, tmp_path, suffix, size):
    frames = noise_frames(5, size, Fraction(1, 25))
    facts = StreamFacts(size, Fraction(25), Fraction(1, 25))
    writer = write_all(tmp_path / f"a{suffix}", facts, frames, codec="ffv1")
    back, _ = read(tmp_path / f"a{suffix}")
    for frame, other in zip(frames, back, strict=True):
        assert np.array_equal(frame.y, other.y)
        assert np.array_equal(frame.u, other.u)
        assert np.array_equal(frame.v, other.v)
    assert [frame.pts for frame in back] == (
        [0, 40, 80, 120, 160] if suffix == ".mkv" else [*range(5)]
    )
    assert not writer.warnings


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize(
    ("rate", "time_base", "pts"),
    [
        (Fraction(25), TICK, [512 * n for n in range(12)]),
        (NTSC, Fraction(1, 30000), [1001 * n for n in range(12)]),
        (NTSC, 1 / NTSC, list(range(12))),
        (Fraction(1809, 100), 1 / Fraction(1809, 100), list(range(12))),
        (Fraction(25), TICK, VFR),
        (Fraction(25), Fraction(1, 90000), [126000 + 3600 * n for n in range(12)]),
    ],
    ids=["25", "29.97", "29.97 in frames", "18.09", "variable", "late start"],
)
def test_mp4_keeps_times_exactly(make_clip, tmp_path, suffix, rate, time_base, pts):
    source = make_clip(rate=rate, time_base=time_base, pts=pts, options={"bf": "2"})
    assert not copied(source, tmp_path / f"out{suffix}")
    back, reader = read(tmp_path / f"out{suffix}")
    assert times(back) == [(t - pts[0]) * time_base for t in pts]
    if pts != VFR:  # whose average depends on how long the last frame is shown
        assert reader.rate == rate


def test_matroska_rounds_times_to_its_clock_and_says_so(make_clip, tmp_path):
    source = make_clip(rate=NTSC)
    warnings = copied(source, tmp_path / "out.mkv")
    back, reader = read(tmp_path / "out.mkv")
    assert [f.pts for f in back] == [round(t * 1000) for t in times(read(source)[0])]
    assert reader.rate == NTSC
    assert warnings == {"timestamps rounded to 1/1000 s": 11}


def test_frames_without_times_follow_the_rate_and_recordings_start_at_zero(noise_frames, tmp_path):
    write_all(tmp_path / "a.mp4", FACTS, noise_frames(5, (48, 64), None))
    assert times(read(tmp_path / "a.mp4")[0]) == [Fraction(n, 25) for n in range(5)]
    facts = StreamFacts((48, 64), Fraction(25), Fraction(1, 1000), live=True)
    frames = noise_frames(3, (48, 64), Fraction(1, 1000), 40)
    write_all(tmp_path / "a.mkv", facts, [replace(f, pts=f.pts + 10**12) for f in frames])
    assert [frame.pts for frame in read(tmp_path / "a.mkv")[0]] == [0, 40, 80]


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
@pytest.mark.parametrize(
    "colour", [Colour(True, 1, 1, 1), Colour(False, 6, 6, 6), Colour(True, 5, 2, 13), Colour()]
)
def test_colour_is_kept(make_clip, tmp_path, codec, colour):
    warnings = copied(make_clip(colour=colour, frames=3), tmp_path / "out.mkv", codec=codec)
    back, reader = read(tmp_path / "out.mkv")
    assert reader.colour == colour
    assert {frame.colour for frame in back} == {colour}
    assert not warnings


def test_limited_range_alone_is_what_h264_means_by_nothing(noise_frames, tmp_path):
    facts = StreamFacts((48, 64), Fraction(25), TICK, Colour(False))
    write_all(tmp_path / "a.mp4", facts, noise_frames(1, (48, 64), TICK))
    assert read(tmp_path / "a.mp4")[1].colour == Colour(None)


def test_luma_codes_are_kept_whatever_the_range(noise_frames, tmp_path):
    """Grey frames of every code: a wrong range anywhere would stretch or cut them."""
    for full_range in (True, False, None):
        frame = noise_frames(1, (48, 64), TICK)[0]
        frame.y[:] = np.arange(0, 256, 4, dtype=np.uint8)
        frame.u[:], frame.v[:] = 128, 128
        facts = StreamFacts((48, 64), Fraction(25), TICK, Colour(full_range))
        write_all(tmp_path / "a.mp4", facts, [frame], crf=1)
        back, _ = read(tmp_path / "a.mp4")
        # CRF 1 quantises with a step of about one code.
        assert np.abs(back[0].y.astype(int) - frame.y).max() <= 2


def test_lower_crf_is_closer(make_clip, tmp_path):
    errors, sizes = [], []
    for crf in (40, 18):
        source, target = make_clip(size=(96, 128)), tmp_path / "out.mp4"
        copied(source, target, crf=crf)
        pairs = zip(read(source)[0], read(target)[0], strict=True)
        errors.append(np.mean([np.abs(a.y.astype(int) - b.y).mean() for a, b in pairs]))
        sizes.append(target.stat().st_size)
    assert errors[1] < errors[0] / 2
    assert sizes[1] > sizes[0] * 2


@pytest.mark.parametrize("size", [(47, 64), (48, 63), (1, 1)])
def test_odd_sizes_are_padded_by_repetition_for_h264(noise_frames, tmp_path, size):
    frame = noise_frames(1, size, TICK)[0]
    frame.y[:] = 60
    frame.y[-1:] = frame.y[:, -1:] = 200
    writer = write_all(tmp_path / "a.mp4", StreamFacts(size, Fraction(25), TICK), [frame], crf=1)
    back = read(tmp_path / "a.mp4")[0][0]
    height, width = size
    assert back.size == (height + height % 2, width + width % 2)
    expected = np.pad(frame.y, ((0, height % 2), (0, width % 2)), mode="edge")
    assert np.abs(back.y.astype(int) - expected).max() <= 2  # CRF 1, as above
    assert [name.split(" padded")[0] for name in writer.warnings] == [f"odd size {width}x{height}"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_pixel_shape_and_rotation_are_kept(make_clip, tmp_path, suffix):
    source = make_clip(aspect=Fraction(4, 3), rotation=270)
    copied(source, tmp_path / f"out{suffix}")
    facts = read(tmp_path / f"out{suffix}")[1].facts
    assert facts.sample_aspect == Fraction(4, 3)
    assert facts.rotation_degrees % 360 == 270


def test_what_a_container_cannot_store_is_said(make_clip, tmp_path):
    source = make_clip(aspect=Fraction(4, 3), rotation=90, colour=Colour(True, 1, 1, 1))
    assert set(copied(source, tmp_path / "out.avi", codec="ffv1")) == {
        "pixel shape 4/3 is not stored with FFV1",
        "range and colour space are not stored in .avi",
        "rotation is not stored in .avi",
    }


def test_h264_is_coded_without_slices(make_clip, tmp_path):
    """PyAV's default threading cuts each picture into slices, which makes files larger."""
    copied(make_clip(size=(240, 320), frames=2), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        packet = next(p for p in container.demux(video=0) if p.size)
        data, position, slices = bytes(packet), 0, 0
    while position < len(data):
        slices += data[position + 4] & 31 in (1, 5)
        position += 4 + int.from_bytes(data[position : position + 4], "big")
    assert slices == 1


@pytest.mark.parametrize(
    ("name", "codec", "words"),
    [
        ("a.avi", "h264", r"use \.mp4 or \.mkv or \.mov"),
        ("a.mp4", "ffv1", r"use \.mkv or \.avi"),
        ("a", "h264", "use"),
        ("a.mp4", "vp9", "'vp9' is not known; use one of h264, ffv1"),
    ],
)
def test_codecs_that_do_not_fit_are_refused_with_what_does(tmp_path, name, codec, words):
    with (
        pytest.raises(MediaError, match=words),
        open_writer(tmp_path / name, like=FACTS, codec=codec),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", [{"crf": -1}, {"crf": 52}, {"preset": "warp"}])
def test_unknown_settings_are_refused(tmp_path, setting):
    with (
        pytest.raises(MediaError, match=r"; (give|use)"),
        open_writer(tmp_path / "a.mp4", like=FACTS, **setting),
    ):
        pass


def test_a_frame_of_another_size_is_refused(noise_frames, tmp_path):
    frames = noise_frames(1, (48, 64), TICK) + noise_frames(1, (64, 64), TICK)
    with pytest.raises(MediaError, match=r"frame 1 is 64x64, .*a\.mp4 is 64x48; read with keep"):
        write_all(tmp_path / "a.mp4", FACTS, frames)
    assert list(tmp_path.iterdir()) == []


def test_the_input_is_not_overwritten(make_clip):
    path = make_clip()
    before = path.read_bytes()
    with pytest.raises(MediaError, match="is the input, which would be lost"):
        copied(path, path)
    assert path.read_bytes() == before


def test_no_frames_no_file(tmp_path):
    with (
        pytest.raises(MediaError, match=r"no frame for .*a\.mp4"),
        open_writer(tmp_path / "a.mp4", like=FACTS),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_any_failure_leaves_nothing_and_the_old_file(noise_frames, tmp_path, suffix, failure):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"the old one")

    def frames_until_failure():
        yield from noise_frames(30, (48, 64), TICK, 512)
        assert len(list(tmp_path.iterdir())) == 2
        raise failure

    with pytest.raises(failure):
        write_all(path, FACTS, frames_until_failure())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"the old one"


def test_the_file_appears_at_the_end_with_usual_rights(noise_frames, tmp_path):
    path = tmp_path / "new" / "folder" / "a.mp4"
    with open_writer(path, like=FACTS) as writer:
        writer.write(noise_frames(1, (48, 64), TICK)[0])
        assert not path.exists()
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("count", [3, 100])
def test_a_full_disk_is_explained_and_leaves_nothing(noise_frames, tiny_disk, suffix, count):
    """Three frames fail when the file is closed, a hundred while they are written."""
    facts = StreamFacts((240, 320), Fraction(25), TICK)
    with pytest.raises(MediaError, match=r"the disk is full.*nothing of it was kept") as caught:
        write_all(
            tiny_disk / f"a{suffix}", facts, noise_frames(count, facts.size, TICK, 512), crf=1
        )
    assert str(tiny_disk) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tiny_disk.iterdir()) == []


@pytest.mark.parametrize(
    ("blocker", "words"), [("file", "cannot be written"), ("folder", "is a folder; give")]
)
def test_places_that_cannot_be_written_are_explained(noise_frames, tmp_path, blocker, words):
    if blocker == "file":
        (tmp_path / "taken").touch()
        path = tmp_path / "taken" / "a.mp4"
    else:
        path = tmp_path / "a.mp4"
        path.mkdir()
    with pytest.raises(MediaError, match=words):
        write_all(path, FACTS, noise_frames(1, (48, 64), TICK))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, r"Permission denied.*folder you may write to"),
    ],
)
def test_refusals_of_the_system_are_explained(noise_frames, tmp_path, monkeypatch, code, words):
    """Tests may run as root, whom no rights stop, and without a small disk."""

    def refused(path):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr("edgecar.media.writer.atomic_write", refused)
    with pytest.raises(MediaError, match=words):
        write_all(tmp_path / "a.mp4", FACTS, noise_frames(1, (48, 64), TICK))


def test_a_null_writer_counts_and_keeps_nothing(noise_frames):
    writer = NullWriter()
    for frame in noise_frames(3, (48, 64), TICK):
        writer.write(frame)
    assert writer.frames == 3
    assert not writer.warnings
