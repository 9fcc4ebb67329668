"""Recordings that outlive a kill, a stream that is pushed, frames for a detector."""

import os
import threading
from dataclasses import replace
from fractions import Fraction
from itertools import count

import av
import numpy as np
import pytest

from benchmarks.run import service_checks
from edgecar.errors import MediaError
from edgecar.media.color import array_of
from edgecar.media.frame import Colour, Frame
from edgecar.runtime.camera import StreamFrame
from edgecar.runtime.stats import RunStats
from edgecar.serve.outputs import Coder, Output
from edgecar.serve.publishing import Publisher, received_frames
from edgecar.serve.settings import Publish, Push, Record, Video
from edgecar.serve.writers import Pusher, Recorder
from tests.serve.conftest import until

SIZE = (48, 64)


def frame(number: int, size=SIZE, fps: int = 25) -> Frame:
    y = np.full(size, 30 + number % 200, np.uint8)
    y[:, number % size[1]] = 255
    chroma = np.full((size[0] // 2, size[1] // 2), 128, np.uint8)
    return Frame(y, chroma, chroma.copy(), number, Fraction(1, fps))


def stream_frame(number: int, camera="gate", size=SIZE) -> StreamFrame:
    return StreamFrame(frame(number, size), camera, RunStats(), 0.0)


def luma(picture: av.VideoFrame) -> np.ndarray:
    return array_of(picture.planes[0]).copy()


def pictures(path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [luma(picture) for picture in container.decode(video=0)]


def recorded(record: Record, frames, video=None) -> list[list[np.ndarray]]:
    """Pictures of every file of a recording of frames."""
    recorder = Recorder("gate", record)
    coder = Coder("gate", video or Video(keyframe_seconds=1, crf=10), [recorder])
    coder.start()
    for number, each in enumerate(frames, 1):
        coder.offer(each)
        until(lambda number=number: coder.status.frames + coder.status.dropped >= number)
    coder.close()
    assert recorder.status.dropped == 0
    return [pictures(path) for path in sorted((record.folder / "gate").iterdir())]


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_a_recording_is_cut_at_keyframes_into_files_that_play(tmp_path, kind):
    record = Record(folder=tmp_path, segment_seconds=2, format=kind)
    files = recorded(record, [frame(n) for n in range(125)])
    assert [len(each) for each in files] == [50, 50, 25]
    shown = np.concatenate(files)
    for number in (0, 49, 50, 124):  # near the luma that was given: coded, but the same picture
        assert abs(int(shown[number][5, (number + 30) % 64]) - 30 - number % 200) < 12


def test_another_size_begins_another_file_and_odd_sides_are_made_even(tmp_path):
    y, chroma = np.full((49, 65), 90, np.uint8), np.full((25, 33), 128, np.uint8)
    odd = [Frame(y, chroma, chroma, n, Fraction(1, 25)) for n in range(10, 20)]
    files = recorded(Record(folder=tmp_path), [*(frame(n) for n in range(10)), *odd])
    assert sorted((len(f), f[0].shape) for f in files) == [(10, (48, 64)), (10, (50, 66))]


def test_keyframes_go_by_time_though_frames_are_missing(tmp_path):
    frames = [frame(n) for n in range(0, 250, 25)]  # one a second
    record = Record(folder=tmp_path, segment_seconds=3)
    assert [len(f) for f in recorded(record, frames)] == [3, 3, 3, 1]


@pytest.mark.parametrize(
    ("limit", "kept"),
    [({"keep_hours": 1}, []), ({"keep_gib": 2.5 / 1024}, ["20200103T", "20200104T"])],
)
def test_the_oldest_files_go_and_others_stay(tmp_path, limit, kept):
    folder = tmp_path / "gate"
    folder.mkdir()
    for name in (*(f"2020010{n}T000000.000Z.mp4" for n in range(1, 5)), "notes.txt"):
        (folder / name).write_bytes(b"x" * (1 << 20))
        os.utime(folder / name, (0, 0))
    recorder = Recorder("gate", Record(folder=tmp_path, **limit))
    coder = Coder("gate", Video(), [recorder])
    coder.start()
    coder.offer(frame(0))
    until(lambda: recorder.status.frames)
    coder.close()
    *old, _new, notes = sorted(path.name for path in folder.iterdir())
    assert notes == "notes.txt"
    assert [name[:9] for name in old] == kept


def test_a_folder_that_cannot_be_written_is_said_and_tried_again(tmp_path):
    (tmp_path / "gate").write_text("a file where a folder should be")
    recorder = Recorder("gate", Record(folder=tmp_path))
    coder = Coder("gate", Video(keyframe_seconds=0.2), [recorder])
    coder.start()
    coder.offer(frame(0))
    until(lambda: recorder.status.state == "waiting")
    assert "cannot be written" in recorder.status.error
    (tmp_path / "gate").unlink()

    def works():
        coder.offer(frame(until.number))
        until.number += 10
        return recorder.status.frames

    until.number = 10
    until(works)
    assert recorder.status.state == "running"
    assert recorder.status.dropped >= 1
    coder.close()


@pytest.mark.slow  # kills a process
@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_a_recording_plays_to_within_a_fragment_of_a_kill(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(service_checks, "FRAMES_BEFORE_A_KILL", (60, 90))
    row = service_checks.killed(1, kind, tmp_path)
    assert (row["tries"], row["failures"]) == (1, 0)


def listening_server(port: int) -> tuple[threading.Thread, list]:
    """FFmpeg as an RTSP server that is pushed to; takes one stream and ends."""
    shown: list[np.ndarray] = []

    def take() -> None:
        options = {"rtsp_flags": "listen", "listen_timeout": "60", "analyzeduration": "100000"}
        try:
            with av.open(f"rtsp://127.0.0.1:{port}/live", options=options) as container:
                for picture in container.decode(video=0):
                    shown.append(luma(picture))
                    if len(shown) == 10:
                        return
        except av.FFmpegError:
            return

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    return thread, shown


def test_a_stream_is_pushed_and_pushed_again_when_the_server_comes_back(free_port):
    pusher = Pusher(Push(url=f"rtsp://user:hunter22@127.0.0.1:{free_port}/live"))
    coder = Coder("gate", Video(keyframe_seconds=0.2, crf=10), [pusher])
    coder.start()
    number = 0

    def fed_until(true) -> None:
        def fed():
            nonlocal number
            coder.offer(frame(number))
            number += 1
            return true()

        until(fed, 40)

    fed_until(lambda: pusher.status.state == "waiting")  # nobody is there yet
    assert "hunter22" not in pusher.status.error + pusher.status.target
    for _ in range(2):
        thread, shown = listening_server(free_port)
        fed_until(lambda shown=shown: len(shown) == 10)
        assert shown[-1].shape == SIZE
        thread.join(20)
        fed_until(lambda: pusher.status.state == "waiting")  # it went away
    coder.close()


class Publishing:
    """A service's socket at which two cameras publish while the block runs."""

    def __init__(self, settings: Publish):
        self.publisher = Publisher(settings, cameras=2)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.feed)

    def feed(self) -> None:
        for number in count():
            self.publisher.offer(stream_frame(number, ("gate", "gate-2")[number % 2]))
            if self.over.wait(0.005):
                return

    def __enter__(self):
        self.publisher.start()
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.publisher.close()


@pytest.mark.parametrize("pixels", ["bgr", "i420"])
def test_frames_are_published_to_whoever_listens(tmp_path, pixels):
    address = f"ipc://{tmp_path}/frames"
    with pytest.raises(MediaError, match="no frame at"):
        next(received_frames(address, timeout_seconds=0.1))
    with Publishing(Publish(address=address, pixels=pixels)):
        received = received_frames(address, "gate", timeout_seconds=20)
        first, second = next(received), next(received)
    assert first.camera == second.camera == "gate"  # not that of another which begins like it
    assert second.metadata["pts_seconds"] > first.metadata["pts_seconds"]
    expected = stream_frame(round(first.metadata["pts_seconds"] * 25))
    if pixels == "bgr":
        np.testing.assert_array_equal(first.bgr, expected.bgr)
    else:
        np.testing.assert_array_equal(first.i420[:48], expected.frame.y)
        np.testing.assert_array_equal(first.i420[48:].reshape(2, 24, 32)[0], expected.frame.u)


class Slow(Output[int]):
    """Writes when it is let, and fails when told to."""

    def __init__(self, depth=3):
        super().__init__("record", "slow", depth)
        self.gate, self.written, self.resets = threading.Event(), [], 0
        self.failures = []

    def _write(self, item):
        self.gate.wait(20)
        if self.failures:
            raise self.failures.pop()
        self.written.append(item)
        return True

    def _reset(self):
        self.resets += 1


def test_who_is_too_slow_gets_the_newest_and_nobody_waits():
    output = Slow()
    output.start()
    output.offer(0)
    until(lambda: not output._items)  # in hand
    for item in range(1, 10):
        output.offer(item)
    output.gate.set()
    output.close()
    assert output.written == [0, 7, 8, 9]
    assert output.status.dropped == 6
    assert output.status.frames == 4
    assert output.status.state == "stopped"


def test_an_output_that_fails_lets_go_and_tries_again():
    output = Slow()
    output.gate.set()
    output.failures = [MediaError("disk full"), RuntimeError("a mistake of ours")]
    output.start()
    output.offer(1)
    until(lambda: output.status.state == "waiting")
    assert output.status.error == "a mistake of ours"
    until(lambda: (output.offer(2), output.status.error == "disk full")[1])
    until(lambda: (output.offer(3), output.status.state == "running")[1])
    assert output.resets >= 2
    output.close()
    assert output.status.error is None


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
@pytest.mark.parametrize("segment_seconds", [1, 3600])
def test_gaps_jumps_and_wrong_times_lose_no_frame_of_a_recording(tmp_path, kind, segment_seconds):
    """A camera that is away for days, goes back in time, or repeats one."""
    times = [0, 1, 2, 3000, 3001, 500_000, 500_001, 500_000.5, 500_002, 400_000, 400_001, 2e7]
    frames = [replace(frame(n), pts=round(t * 25)) for n, t in enumerate(times)]
    record = Record(folder=tmp_path, format=kind, segment_seconds=segment_seconds)
    files = recorded(record, frames)
    seen = [picture for each in files for picture in each]
    assert len(seen) == len(frames)
    for picture, sent in zip(seen, frames, strict=True):
        assert np.abs(picture.astype(int) - sent.y).mean() < 3
    first, *_ = sorted((tmp_path / "gate").iterdir())
    with av.open(str(first)) as container:
        shown = [p.pts * p.time_base for p in container.demux(video=0) if p.size]
    expected = times[:5] if segment_seconds == 3600 else times[:1]
    assert [float(each - shown[0]) for each in shown] == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize("full", [True, False])
def test_a_range_that_changes_on_the_way_looks_the_same_in_a_recording(tmp_path, full):
    """The file states the range of its first frame."""
    y, chroma = np.full(SIZE, 60, np.uint8), np.full((24, 32), 128, np.uint8)
    one = Frame(y, chroma, chroma, 0, Fraction(1, 25), Colour(full, 6, 6, 6))
    other = replace(one, pts=1, colour=Colour(not full, 6, 6, 6))
    ((first, second),) = recorded(Record(folder=tmp_path), [one, other])
    expected = (60 * 219 / 255 + 16) if not full else (60 - 16) * 255 / 219
    assert first.mean() == pytest.approx(60, abs=2)
    assert second.mean() == pytest.approx(expected, abs=2)
