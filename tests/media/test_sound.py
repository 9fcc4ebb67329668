"""Sound never decides whether there is a video: it is copied, or left out with one warning."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from av.codec.codec import Codec

from edgecar.media.audio import UNASKED_BYTES, Sound
from edgecar.media.reader import open_reader
from tests.media.conftest import copied, packets_of, read_all, remuxed, sound_of, write_all

FRAMES = 12
RATE = 25
OUTPUTS = [
    (".mp4", "h264"),
    (".mkv", "h264"),
    (".mov", "h264"),
    (".mkv", "ffv1"),
    (".avi", "ffv1"),
]
SPECIAL_RATES = {
    "adpcm_swf": 44100,
    "comfortnoise": 8000,
    "g722": 16000,
    "libopencore_amrnb": 8000,
    "nellymoser": 8000,
    "real_144": 8000,
}


def times(path):
    return [float(packet.pts * packet.time_base) for packet in packets_of(path, audio=0)]


def pictures(path):
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_audio_packets_are_copied_bit_for_bit(make_clip, tmp_path, suffix):
    """AAC starts before zero; Matroska writers like to move the video to make up for it."""
    source, target = make_clip(audio="aac", frames=30), tmp_path / f"out{suffix}"
    assert not copied(source, target)
    assert len(sound_of(source)) > 15
    assert sound_of(target) == sound_of(source)
    assert times(source)[0] < 0
    # Matroska counts milliseconds.
    assert times(target) == pytest.approx(times(source), abs=0.0005 if suffix == ".mkv" else 0)
    assert [f.pts * f.time_base for f in read_all(target)[0]] == [
        Fraction(n, 25) for n in range(30)
    ]


def test_audio_is_interleaved_with_the_video(make_clip, tmp_path):
    """Over 20 s: for 10 s FFmpeg itself holds packets back until the other stream has some."""
    source, target = make_clip(audio="aac", frames=100, rate=Fraction(5)), tmp_path / "out.mp4"
    copied(source, target)
    with av.open(str(target)) as container:
        order = "".join(packet.stream.type[0] for packet in container.demux() if packet.size)
    # Three packets of 64 ms in every frame of 200 ms.
    assert max(len(run) for run in order.split("a")) <= 2


def test_audio_ends_with_the_last_frame_of_a_part_and_goes_on_behind_that_of_the_whole(
    make_clip, tmp_path
):
    long = make_clip("long.mp4", audio="aac", frames=50)
    copied(long, tmp_path / "part.mp4", frames=25)
    end = times(tmp_path / "part.mp4")[-1]
    assert end < 1.0 <= end + 1024 / 16000
    cut = remuxed(long, tmp_path / "cut.mp4", lambda kind, n, p: [p] * (kind == "audio" or n < 5))
    copied(cut, tmp_path / "out.mp4")
    assert sound_of(tmp_path / "out.mp4") == sound_of(long)


def test_every_audio_stream_is_copied(make_clip, tmp_path):
    one, two = make_clip("one.mp4", audio="aac"), tmp_path / "two.mp4"
    with av.open(str(one)) as source, av.open(str(two), "w") as output:
        video, *sounds = (
            output.add_stream_from_template(source.streams[n], opaque=True) for n in (0, 1, 1)
        )
        for packet in [p for p in source.demux() if p.size]:
            for copy in [video] if packet.stream.type == "video" else sounds:
                packet.stream = copy
                output.mux(packet)
    copied(two, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio", "audio"]


def test_audio_that_the_container_does_not_take_is_left_out_and_counted(make_clip, tmp_path):
    """G.711, the usual sound of cameras."""
    source = make_clip("a.avi", audio="pcm_mulaw")
    warnings = copied(source, tmp_path / "out.mp4")
    assert warnings == {"audio left out: mp4 does not take pcm_mulaw, .mov may": 1}
    assert sound_of(tmp_path / "out.mp4") == []
    assert not copied(source, tmp_path / "out.mov")
    assert b"".join(sound_of(tmp_path / "out.mov")) == b"".join(sound_of(source))


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_audio_of_a_transport_stream_is_repacked(make_clip, tmp_path, suffix, live):
    """Each packet there has a header of its own (ADTS), which MP4 must not have.

    Recordings can be played before they are ended, and are written in another way.
    """
    source, target = make_clip("a.ts", audio="aac"), tmp_path / f"out{suffix}"
    with open_reader(source) as reader:
        writer = write_all(target, replace(reader.facts, live=live), reader)
    assert sound_of(target) == [packet[7:] for packet in sound_of(source)]
    assert not [words for words in writer.warnings if "audio" in words]


def encoders():
    """Names of all audio codecs that this FFmpeg encodes."""
    for name in sorted(av.codecs_available):
        try:
            if Codec(name, "w").type == "audio":
                yield name
        except ValueError:
            continue


def clip(path, audio, kind):
    """A clip with any sound, in a container that FFmpeg writes without asking what is usual."""
    with av.open(f"[f={kind}:strict=experimental]{path}", "w", format="tee") as output:
        video = output.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.flags |= av.codec.context.Flags.global_header
        rate = SPECIAL_RATES.get(audio) or 48000
        rates = Codec(audio, "w").audio_rates
        rate = rate if not rates or rate in rates else rates[0]
        sound = output.add_stream(audio, rate=rate, options={"strict": "experimental"})
        sound.layout = layout = "stereo" if rate >= 44100 else "mono"
        samples = rate // RATE
        for index in range(FRAMES):
            grey = np.full((72, 64), 20 * index, np.uint8)
            picture = av.VideoFrame.from_ndarray(grey, "yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, RATE)
            output.mux(video.encode(picture))
            count = samples * (2 if layout == "stereo" else 1)
            wave = (np.sin(np.arange(count) / 9) * 9000).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(wave, "s16", layout)
            frame.sample_rate, frame.pts = rate, index * samples
            frame.time_base = Fraction(1, rate)
            output.mux(sound.encode(frame))
        output.mux(video.encode(None))
        output.mux(sound.encode(None))
    return path


def any_clip(folder, audio):
    """A clip in the first container that gives the sound back."""
    kinds = {"matroska": "mkv", "nut": "nut", "mov": "mov", "avi": "avi", "mpegts": "ts"}
    for kind, suffix in kinds.items():
        try:
            path = clip(folder / f"{audio}.{suffix}", audio, kind)
            if pictures(path) == FRAMES and sound_of(path):
                return path
        except (av.FFmpegError, ValueError):
            continue
    return None


def check(source, target, codec):
    """All pictures are there, and the sound is the source's or one warning names it."""
    warnings = copied(source, target, codec=codec)
    assert pictures(target) == FRAMES
    about_sound = [each for each in warnings if "audio" in each]
    # Containers cut PCM in packets of other sizes.
    if b"".join(sound_of(target)) == b"".join(sound_of(source)):
        assert not about_sound
    else:
        assert not sound_of(target)
        assert [warnings[each] for each in about_sound] == [1]


@pytest.mark.parametrize(("suffix", "codec"), OUTPUTS)
@pytest.mark.parametrize("audio", ["pcm_alaw", "eac3", "libopus", "tta"])
def test_the_video_is_whole_whatever_its_sound(tmp_path, audio, suffix, codec):
    check(any_clip(tmp_path, audio), tmp_path / f"out{suffix}", codec)


@pytest.mark.slow
@pytest.mark.parametrize("audio", list(encoders()))
def test_the_video_is_whole_with_any_sound(tmp_path, audio):
    source = any_clip(tmp_path, audio)
    if source is None:
        return  # FFmpeg encodes it and writes it into none of these
    for number, (suffix, codec) in enumerate(OUTPUTS):
        check(source, tmp_path / f"{number}{suffix}", codec)


@pytest.mark.parametrize("audio", ["pcm_alaw", "pcm_mulaw"])
def test_matroska_takes_g711(tmp_path, audio):
    source = any_clip(tmp_path, audio)
    target = tmp_path / "a [b]|'c' \\d.mkv"
    assert not copied(source, target)
    assert b"".join(sound_of(target)) == b"".join(sound_of(source)) != b""
    with av.open(str(target)) as container:
        assert container.streams.audio[0].codec_context.name == audio


def shifted(seconds, which="audio", at=None):
    """Move all packets of a kind, or one."""

    def change(kind, number, packet):
        if kind == which and at in (None, number):
            ticks = round(Fraction(seconds) / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        return [packet]

    return change


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("change", [shifted(3), shifted(40), shifted(40, "video")])
def test_sound_may_start_earlier_or_later_than_the_picture(make_clip, tmp_path, change, suffix):
    source = remuxed(make_clip(audio="aac", frames=FRAMES), tmp_path / "moved.mkv", change)
    target = tmp_path / f"out{suffix}"
    warnings = copied(source, target)
    assert pictures(target) == FRAMES
    assert sound_of(target) == sound_of(source) or sum(warnings.values())


def garbage(kind, number, packet):
    """Every third packet of the sound is noise in place of what was coded."""
    if kind != "audio" or number % 3 != 1:
        return [packet]
    noise = av.Packet(b"\xff\xf1" + bytes(range(60)))
    noise.pts, noise.dts, noise.time_base = packet.pts, packet.dts, packet.time_base
    return [noise]


@pytest.mark.parametrize(("suffix", "codec"), [OUTPUTS[0], OUTPUTS[1], OUTPUTS[4]])
@pytest.mark.parametrize("audio", ["aac", "eac3"])
def test_corrupt_sound_costs_no_picture(tmp_path, audio, suffix, codec):
    whole = clip(tmp_path / "whole.ts", audio, "mpegts")
    source = remuxed(whole, tmp_path / "bad.nut", garbage)
    copied(source, tmp_path / f"out{suffix}", codec=codec)
    assert pictures(tmp_path / f"out{suffix}") == FRAMES


class Disordered:
    """A reader's sound with the times of some packets changed, as no muxer would write them."""

    broken_off = False

    def __init__(self, sound, change):
        self._sound, self._change, self._number = sound, change, 0
        self.streams, self.lacking = sound.streams, sound.lacking

    def take(self):
        packet = self._sound.take()
        if packet is not None:
            self._change("audio", self._number, packet)
            self._number += 1
        return packet


def equal_times(_, number, packet):
    if number % 2:
        packet.pts -= packet.duration
        packet.dts -= packet.duration


def no_times(_, number, packet):
    if number:
        packet.pts = packet.dts = None


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("change", "lost"),
    [(equal_times, 0), (no_times, 0), (shifted(1000, at=5), 1), (shifted(-1000, at=5), 1)],
)
def test_sound_with_wrong_times_is_kept(make_clip, tmp_path, change, lost, suffix):
    source, target = make_clip(audio="aac", frames=FRAMES), tmp_path / f"out{suffix}"
    with open_reader(source) as reader:
        facts = replace(reader.facts, sound=Disordered(reader.facts.sound, change))
        writer = write_all(target, facts, reader)
    assert pictures(target) == FRAMES
    assert len(sound_of(source)) - len(sound_of(target)) == lost
    assert writer.warnings.total() == lost


def test_sound_is_kept_until_its_pictures_come(make_clip, tmp_path):
    """Sound that lies in the file long before its pictures, as some recorders write it."""
    source, apart = make_clip(audio="aac", frames=50), tmp_path / "apart.nut"
    with av.open(str(source)) as read, av.open(str(apart), "w") as output:
        copies = {s.index: output.add_stream_from_template(s, opaque=True) for s in read.streams}
        packets = [packet for packet in read.demux() if packet.size]
        for packet in sorted(packets, key=lambda each: each.stream.type):
            packet.stream = copies[packet.stream.index]
            output.mux(packet)
    assert not copied(apart, tmp_path / "out.mp4")
    assert sound_of(tmp_path / "out.mp4") == sound_of(source)


def test_sound_that_nobody_writes_is_let_go(make_clip):
    """A program that only looks at frames must not keep hours of sound."""
    with open_reader(make_clip(audio="aac", frames=50)) as reader:
        packet = reader.facts.sound.take()
    unasked = Sound([], Counter())
    for _ in range(UNASKED_BYTES // packet.size + 2):
        unasked.put(packet)
    assert unasked.take() is None
