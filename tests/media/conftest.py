"""Clips made on the spot from a real photograph: small, short, every kind that cameras send."""

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from skimage import data

from edgecar.media.frame import Colour, Frame, chroma_size
from edgecar.media.reader import open_reader
from edgecar.media.writer import open_writer

PHOTO = cv2.resize(data.astronaut(), (256, 256), interpolation=cv2.INTER_AREA)
SAMPLES_A_SECOND = 16000


def photo(index: int, size: tuple[int, int]) -> np.ndarray:
    """RGB ``(H, W, 3)``: a window of the photograph that moves 3 px a frame."""
    moved = np.roll(PHOTO, 3 * index, axis=1)
    return np.ascontiguousarray(cv2.resize(moved, size[::-1], interpolation=cv2.INTER_AREA))


def copied(source, target: Path, frames: int | None = None, **settings) -> Counter[str]:
    """Write what is read, all or the first ``frames``; return all warnings."""
    with open_reader(source) as reader, open_writer(target, like=reader, **settings) as writer:
        for frame in islice(reader, frames):
            writer.write(frame)
    return reader.warnings + writer.warnings


def write_all(path: Path, facts, frames, **settings):
    """Write frames; return the writer."""
    with open_writer(path, like=facts, **settings) as writer:
        for frame in frames:
            writer.write(frame)
    return writer


def read_all(path, **settings):
    """Frames of a file, and the reader that gave them."""
    with open_reader(path, **settings) as reader:
        return list(reader), reader


def packets_of(path: Path, **stream: int) -> list[av.Packet]:
    """Packets of one stream (``video=0``). Their file is closed: `Packet.stream` is invalid."""
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(**stream) if packet.size]


def seconds(path: Path, kind: str = "video") -> list[Fraction]:
    """Times of a stream's packets in display order, read with PyAV alone."""
    return sorted(packet.pts * packet.time_base for packet in packets_of(path, **{kind: 0}))


def remuxed(source: Path, target: Path, change=None, kind: str | None = None) -> Path:
    """Copy the packets of a clip; ``change`` returns those to write in place of a packet.

    It takes the kind of the stream, the number of the packet in it, and the packet.
    """
    with av.open(str(source)) as read, av.open(str(target), "w", format=kind) as output:
        copies = {s.index: output.add_stream_from_template(s, opaque=True) for s in read.streams}
        numbers = Counter()
        for packet in [packet for packet in read.demux() if packet.size]:
            index, of = packet.stream.index, packet.stream.type
            for each in change(of, numbers[index], packet) if change else [packet]:
                each.stream = copies[index]
                output.mux(each)
            numbers[index] += 1
    return target


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """Encode a clip into the test's folder; the suffix chooses the container."""

    def make(
        name: str = "clip.mp4",
        *,
        frames: int = 12,
        size: tuple[int, int] = (48, 64),
        rate: Fraction = Fraction(25),
        codec: str = "libx264",
        options: dict[str, str] | None = None,
        pixels: str = "yuv420p",
        pts: list[int] | None = None,
        time_base: Fraction | None = None,
        colour: Colour = Colour(),  # noqa: B008  # frozen
        aspect: Fraction | None = None,
        rotation: int = 0,
        mirrored: bool = False,
        audio: str | None = None,
        container: str | None = None,
        muxing: dict[str, str] | None = None,
    ) -> Path:
        path = tmp_path / name
        defaults = {"preset": "ultrafast", "bf": "0"} if codec == "libx264" else {}
        with av.open(str(path), "w", format=container, container_options=muxing or {}) as output:
            stream = output.add_stream(
                codec,
                rate=rate,
                width=size[1],
                height=size[0],
                options=defaults | (options or {}),
            )
            context = stream.codec_context
            context.pix_fmt, context.time_base = pixels, time_base or 1 / rate
            context.color_range = {None: 0, False: 1, True: 2}[colour.full_range]
            context.colorspace = colour.matrix
            context.color_primaries, context.color_trc = colour.primaries, colour.transfer
            if aspect:
                context.sample_aspect_ratio = aspect
            if rotation or mirrored:
                stream.set_display_rotation(rotation, hflip=mirrored)
            sound = output.add_stream(audio, rate=SAMPLES_A_SECOND) if audio else None
            for index in range(frames):
                picture = av.VideoFrame.from_ndarray(photo(index, size), "rgb24")
                picture = picture.reformat(format=pixels, dst_color_range=context.color_range)
                picture.pts = pts[index] if pts else index
                picture.time_base = time_base or 1 / rate
                output.mux(stream.encode(picture))
                if sound:
                    output.mux(sound.encode(hum(index, rate, sound.format.name)))
            output.mux(stream.encode(None))
            if sound:
                output.mux(sound.encode(None))
        return path

    return make


def hum(index: int, rate: Fraction, samples: str) -> av.AudioFrame:
    """The sound of one video frame, as long as the frame is shown."""
    count = int(SAMPLES_A_SECOND / rate)
    seconds = (np.arange(count) + index * count) / SAMPLES_A_SECOND
    wave = np.sin(2 * np.pi * 200 * seconds)
    if samples == "s16":
        planes = np.repeat((wave * 9000).astype(np.int16), 2)[None]
    else:
        planes = np.stack([wave, wave]).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(planes, samples, "stereo")
    frame.sample_rate, frame.pts = SAMPLES_A_SECOND, index * count
    frame.time_base = Fraction(1, SAMPLES_A_SECOND)
    return frame


@pytest.fixture
def noise_frames() -> Callable[..., list[Frame]]:
    """Frames of random samples, which no coder can make small and no copy error can survive."""

    def make(count: int, size: tuple[int, int], time_base: Fraction, step: int = 1) -> list[Frame]:
        rng = np.random.default_rng(count)
        shapes = (size, chroma_size(size), chroma_size(size))
        return [
            Frame(*(rng.integers(0, 256, s, np.uint8) for s in shapes), index * step, time_base)
            for index in range(count)
        ]

    return make


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, check=False, capture_output=True)
    except OSError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def sound_of(path: Path) -> list[bytes]:
    """Coded packets of a file's first audio stream; none without one."""
    with av.open(str(path)) as container:
        streams = container.streams.audio[:1]
        return [bytes(p) for p in container.demux(*streams) if p.size] if streams else []


@pytest.fixture
def audio_packets() -> Callable[[Path], list[bytes]]:
    return sound_of
