from dataclasses import replace
from fractions import Fraction

import av
import pytest

from edgecar.media.reader import open_reader
from edgecar.media.writer import open_writer


def copied(source, target, frames=None):
    """Restore nothing, write all or the first ``frames``; the writer's warnings."""
    with open_reader(source) as reader, open_writer(target, like=reader) as writer:
        for frame in reader:
            if writer.frames == frames:
                break
            writer.write(frame)
    return writer.warnings


def times(path):
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(audio=0) if p.size]
        return [float(p.pts * p.time_base) for p in packets]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_audio_packets_are_copied_bit_for_bit(make_clip, tmp_path, audio_packets, suffix):
    source, target = make_clip(audio="aac", frames=30), tmp_path / f"out{suffix}"
    assert not copied(source, target)
    packets = audio_packets(source)
    assert len(packets) > 15
    assert audio_packets(target) == packets
    # Matroska counts milliseconds.
    assert times(target) == pytest.approx(times(source), abs=0.0005 if suffix == ".mkv" else 0)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_audio_does_not_move_the_video(make_clip, tmp_path, suffix):
    """AAC starts before zero; Matroska writers like to move everything to make up for it."""
    source, target = make_clip(audio="aac"), tmp_path / f"out{suffix}"
    copied(source, target)
    assert times(source)[0] < 0
    with open_reader(target) as reader:
        assert [f.pts * f.time_base for f in reader] == [Fraction(n, 25) for n in range(12)]


def test_audio_is_interleaved_with_the_video(make_clip, tmp_path):
    """Over 20 s: for 10 s FFmpeg itself holds packets back until the other stream has some."""
    source, target = make_clip(audio="aac", frames=100, rate=Fraction(5)), tmp_path / "out.mp4"
    copied(source, target)
    with av.open(str(target)) as container:
        order = [packet.stream.type for packet in container.demux() if packet.size]
    # Three packets of 64 ms in every frame of 200 ms.
    assert max(len(run) for run in "".join(kind[0] for kind in order).split("a")) <= 2


def test_audio_ends_with_the_last_frame_of_a_part(make_clip, tmp_path):
    source, target = make_clip(audio="aac", frames=100), tmp_path / "out.mp4"
    copied(source, target, frames=25)
    assert times(target)[-1] < 1.0 <= times(target)[-1] + 1024 / 16000


def test_audio_that_outlasts_the_video_is_kept_whole(make_clip, tmp_path, audio_packets):
    long, short = make_clip("long.mp4", audio="aac", frames=50), tmp_path / "short.mp4"
    with av.open(str(long)) as source, av.open(str(short), "w") as output:
        copies = {s.index: output.add_stream_from_template(s, opaque=True) for s in source.streams}
        for packet in source.demux():
            late = packet.stream.type == "video" and packet.size and packet.dts >= 5 * 512
            if packet.size and not late:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    copied(short, tmp_path / "out.mp4")
    assert audio_packets(tmp_path / "out.mp4") == audio_packets(long)


def test_every_audio_stream_is_copied(make_clip, tmp_path):
    one, two = make_clip("one.mp4", audio="aac"), tmp_path / "two.mp4"
    with av.open(str(one)) as source, av.open(str(two), "w") as output:
        copies = [
            output.add_stream_from_template(source.streams[index], opaque=True)
            for index in (0, 1, 1)
        ]
        for packet in [p for p in source.demux() if p.size]:
            for copy in copies[:1] if packet.stream.type == "video" else copies[1:]:
                packet.stream = copy
                output.mux(packet)
    copied(two, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio", "audio"]


def test_audio_that_the_container_does_not_take_is_left_out_and_counted(
    make_clip, tmp_path, audio_packets
):
    """G.711, the usual sound of cameras."""
    source = make_clip("a.avi", audio="pcm_mulaw")
    warnings = copied(source, tmp_path / "out.mp4")
    assert warnings == {"audio left out: mp4 does not take pcm_mulaw, .mov may": 1}
    assert audio_packets(tmp_path / "out.mp4") == []
    assert not copied(source, tmp_path / "out.mov")
    assert b"".join(audio_packets(tmp_path / "out.mov")) == b"".join(audio_packets(source))


def test_audio_of_a_transport_stream_is_repacked(make_clip, tmp_path, audio_packets):
    """Each packet there has a header of its own (ADTS), which MP4 must not have."""
    source = make_clip("a.ts", audio="aac", frames=30)
    assert not copied(source, tmp_path / "out.mp4")
    headers = [packet[7:] for packet in audio_packets(source)]
    assert audio_packets(tmp_path / "out.mp4") == headers


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_recording_takes_the_audio_of_a_transport_stream(
    make_clip, tmp_path, audio_packets, suffix
):
    """Files that can be played before they are ended are written in another way."""
    source, target = make_clip("a.ts", audio="aac"), tmp_path / f"out{suffix}"
    with open_reader(source) as reader:
        facts = replace(reader.facts, live=True)
        with open_writer(target, like=facts) as writer:
            for frame in reader:
                writer.write(frame)
    assert audio_packets(target) == [packet[7:] for packet in audio_packets(source)]
    assert not writer.warnings
