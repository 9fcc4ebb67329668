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
from edgecar.media.writer import open_writer
from tests.media.conftest import copied, read_all, write_all

NTSC = Fraction(30000, 1001)
TICK = Fraction(1, 12800)
VFR = [0, 512, 1000, 3000, 3100, 7000, 9000, 9500, 9600, 12000, 12001, 20000]
FACTS = StreamFacts(size=(48, 64), rate=Fraction(25), time_base=TICK)


def times(path):
    return [frame.pts * frame.time_base for frame in read_all(path)[0]]


@pytest.mark.parametrize(("suffix", "step"), [(".mkv", 40), (".avi", 1)])
@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1), (130, 98)])
def test_ffv1_is_exact(noise_frames, tmp_path, suffix, size, step):
    frames = noise_frames(5, size, Fraction(1, 25))
    facts = StreamFacts(size, Fraction(25), Fraction(1, 25))
    writer = write_all(tmp_path / f"a{suffix}", facts, frames, codec="ffv1")
    back, _ = read_all(tmp_path / f"a{suffix}")
    for number, (frame, other) in enumerate(zip(frames, back, strict=True)):
        assert all(np.array_equal(getattr(frame, p), getattr(other, p)) for p in "yuv")
        assert other.pts == number * step
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
    assert times(tmp_path / f"out{suffix}") == [(t - pts[0]) * time_base for t in pts]
    if pts != VFR:  # whose average depends on how long the last frame is shown
        assert read_all(tmp_path / f"out{suffix}")[1].rate == rate


def test_matroska_rounds_times_to_its_clock_and_says_so(make_clip, tmp_path):
    source = make_clip(rate=NTSC)
    assert copied(source, tmp_path / "out.mkv") == {"timestamps rounded to 1/1000 s": 11}
    back, reader = read_all(tmp_path / "out.mkv")
    assert [f.pts for f in back] == [round(t * 1000) for t in times(source)]
    assert reader.rate == NTSC


def test_frames_without_times_follow_the_rate_and_recordings_start_at_zero(noise_frames, tmp_path):
    write_all(tmp_path / "a.mp4", FACTS, noise_frames(5, (48, 64), None))
    assert times(tmp_path / "a.mp4") == [Fraction(n, 25) for n in range(5)]
    facts = StreamFacts((48, 64), Fraction(25), Fraction(1, 1000), live=True)
    frames = noise_frames(3, (48, 64), Fraction(1, 1000), 40)
    write_all(tmp_path / "a.mkv", facts, [replace(f, pts=f.pts + 10**12) for f in frames])
    assert times(tmp_path / "a.mkv") == [0, Fraction(1, 25), Fraction(2, 25)]


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
@pytest.mark.parametrize(
    "colour", [Colour(True, 1, 1, 1), Colour(False, 6, 6, 6), Colour(True, 5, 2, 13), Colour()]
)
def test_colour_is_kept(make_clip, tmp_path, codec, colour):
    assert not copied(make_clip(colour=colour, frames=3), tmp_path / "out.mkv", codec=codec)
    back, reader = read_all(tmp_path / "out.mkv")
    assert {reader.colour, *(frame.colour for frame in back)} == {colour}


@pytest.mark.parametrize("full_range", [True, False, None])
def test_luma_codes_are_kept_whatever_the_range(noise_frames, tmp_path, full_range):
    """A grey frame of every code: a wrong range anywhere would stretch or cut it."""
    (frame,) = noise_frames(1, (48, 64), TICK)
    frame.y[:] = np.arange(0, 256, 4, dtype=np.uint8)
    frame.u[:], frame.v[:] = 128, 128
    write_all(tmp_path / "a.mp4", replace(FACTS, colour=Colour(full_range)), [frame], crf=1)
    (back,), reader = read_all(tmp_path / "a.mp4")
    # CRF 1 quantises with a step of about one code.
    assert np.abs(back.y.astype(int) - frame.y).max() <= 2
    # Limited range alone is what H.264 means by nothing.
    assert reader.colour == Colour(full_range or None)


def test_lower_crf_is_closer(make_clip, tmp_path):
    errors, sizes = [], []
    source, target = make_clip(size=(96, 128)), tmp_path / "out.mp4"
    for crf in (40, 18):
        copied(source, target, crf=crf)
        pairs = zip(read_all(source)[0], read_all(target)[0], strict=True)
        errors.append(np.mean([np.abs(a.y.astype(int) - b.y).mean() for a, b in pairs]))
        sizes.append(target.stat().st_size)
    assert errors[1] < errors[0] / 2
    assert sizes[1] > sizes[0] * 2


@pytest.mark.parametrize("size", [(47, 64), (48, 63), (1, 1)])
def test_odd_sizes_are_padded_by_repetition_for_h264(noise_frames, tmp_path, size):
    (frame,) = noise_frames(1, size, TICK)
    frame.y[:] = 60
    frame.y[-1:] = frame.y[:, -1:] = 200
    writer = write_all(tmp_path / "a.mp4", replace(FACTS, size=size), [frame], crf=1)
    (back,), _ = read_all(tmp_path / "a.mp4")
    height, width = size
    assert back.size == (height + height % 2, width + width % 2)
    expected = np.pad(frame.y, ((0, height % 2), (0, width % 2)), mode="edge")
    assert np.abs(back.y.astype(int) - expected).max() <= 2  # CRF 1, as above
    assert [name.split(" padded")[0] for name in writer.warnings] == [f"odd size {width}x{height}"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_pixel_shape_is_kept(make_clip, tmp_path, suffix):
    copied(make_clip(aspect=Fraction(4, 3)), tmp_path / f"out{suffix}")
    assert read_all(tmp_path / f"out{suffix}")[1].facts.sample_aspect == Fraction(4, 3)


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
    ("name", "settings", "words"),
    [
        ("a.avi", {}, r"use \.mp4 or \.mkv or \.mov"),
        ("a.mp4", {"codec": "ffv1"}, r"use \.mkv or \.avi"),
        ("a", {}, "use"),
        ("a.mp4", {"codec": "vp9"}, "'vp9' is not known; use one of h264, ffv1"),
        ("a.mp4", {"crf": -1}, "; give"),
        ("a.mp4", {"crf": 52}, "; give"),
        ("a.mp4", {"preset": "warp"}, "; use"),
        ("a.mp4", {}, r"no frame for .*a\.mp4"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(tmp_path, name, settings, words):
    with pytest.raises(MediaError, match=words):
        write_all(tmp_path / name, FACTS, [], **settings)
    assert list(tmp_path.iterdir()) == []


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
    assert list(tmp_path.iterdir()) == [path]
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
    facts, path = replace(FACTS, size=(240, 320)), tiny_disk / f"a{suffix}"
    with pytest.raises(MediaError, match=r"the disk is full.*nothing of it was kept") as caught:
        write_all(path, facts, noise_frames(count, facts.size, TICK, 512), crf=1)
    assert str(tiny_disk) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tiny_disk.iterdir()) == []


@pytest.mark.parametrize(
    ("taken", "words"), [("a.mp4", "cannot be written"), ("a.mp4/x", "is a folder; give")]
)
def test_places_that_cannot_be_written_are_explained(noise_frames, tmp_path, taken, words):
    blocker = tmp_path / "folder" / taken
    blocker.parent.mkdir(parents=True)
    blocker.touch()
    path = tmp_path / "folder" / "a.mp4"
    with pytest.raises(MediaError, match=words):
        write_all(
            path / "b.mp4" if taken == "a.mp4" else path, FACTS, noise_frames(1, (48, 64), TICK)
        )


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
