"""A live stream for as long as one likes: ``python -m benchmarks.run.soak --save FILE``.

Restores an RTSP stream whose server is killed and started again every minute, and looks at what
must not grow (memory, threads), what must add up (frames) and how old frames are when they come
out. ``--detector-ms 80`` stands for a detector that takes so long with every frame. Needs
GStreamer's RTSP server.
"""

import random
import struct
import subprocess
import tempfile
import threading
import time
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import av
import psutil
import typer
from av.bitstream import BitStreamFilterContext

from benchmarks.run import rtsp_server
from benchmarks.run.study import own_command, run_study
from edgecar.allocator import keep_memory_together
from edgecar.bench.results import new_results, write_results
from edgecar.errors import SettingsError
from edgecar.media.scene import photo_scene
from edgecar.media.sources import LiveSettings
from edgecar.media.video_codec import VideoCoding, video_coded
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stats import Snapshot
from edgecar.runtime.stream import stream

PYTHON = "/usr/bin/python3"  # the system's, whose bindings of GStreamer no other one can use
SIZE = (480, 640)
INTERVAL_MS = 40
CLIP_FRAMES = 100
CODING = VideoCoding("h264", quantiser=32, preset="veryfast", gop=50, b_frames=0)
AWAY_SECONDS = 3.0
WARM_UP_SHARE = 0.1  # of the run; shapes compiled and pools filled since then count as growth
MIB = 1 << 20
SETTINGS = LiveSettings(read_seconds=5, longest_backoff_seconds=2)


class Camera:
    """An RTSP server that comes and goes on one port."""

    def __init__(self, pictures: Path) -> None:
        self._pictures, self._port = pictures, 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"rtsp://127.0.0.1:{self._port}/main"

    def start(self) -> None:
        """Listen."""
        options = ["--port", str(self._port), "--interval-ms", str(INTERVAL_MS)]
        command = [PYTHON, rtsp_server.__file__, str(self._pictures), *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        port = self._process.stdout.readline()
        if not port:
            raise SettingsError("no RTSP server; apt-get install gir1.2-gst-rtsp-server-1.0")
        self._port = int(port)

    def kill(self) -> None:
        """Vanish without a word, as cameras do; harmless when repeated."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def come_and_go(
        self, every_seconds: tuple[float, float], until: threading.Event, restarts: list[int]
    ) -> None:
        """Restart again and again, after random times between two, and count that."""
        rng = random.Random(self._port)
        while not until.wait(rng.uniform(*every_seconds)):
            self.kill()
            restarts.append(1)
            if until.wait(AWAY_SECONDS):
                return
            self.start()


def write_pictures_of(bitstream: bytes, path: Path) -> None:
    """The H.264 of a clip as the server reads it: coded pictures, each behind its length."""
    with av.open(BytesIO(bitstream), "r") as container, path.open("wb") as file:
        (video,) = container.streams.video
        annex_b = BitStreamFilterContext("h264_mp4toannexb", video)
        for packet in container.demux(video):
            for picture in annex_b.filter(packet) if packet.size else ():
                file.write(struct.pack(">I", picture.size) + bytes(picture))


def soaked(
    network: str, seconds: float, every_seconds: float, detector_ms: float, pictures: Path
) -> dict[str, Any]:
    """Restore for so long; what grew, what became of the frames, and how old they were."""
    camera, over, restarts = Camera(pictures), threading.Event(), list[int]()
    camera.start()
    when = (every_seconds, every_seconds)
    breaker = threading.Thread(target=camera.come_and_go, args=(when, over, restarts))
    process, memory_mib = psutil.Process(), list[float]()
    threads_before = threading.active_count()
    try:
        with Restorer(network, codec="h264") as restorer:
            with stream(camera.url, restorer, live=SETTINGS) as frames:
                breaker.start()
                began = sampled = time.monotonic()
                for _ in frames:
                    now = time.monotonic()
                    if now - began > seconds:
                        break
                    if now - sampled > 1 and now - began > WARM_UP_SHARE * seconds:
                        memory_mib.append(process.memory_info().rss / MIB)
                        sampled = now
                    time.sleep(1e-3 * detector_ms)
                (counted,) = frames.cameras.values()
            over.set()
            breaker.join()
        left = threads_left(threads_before, 2 * SETTINGS.read_seconds)
        return _row(network, counted.stats.snapshot(), memory_mib) | {
            "seconds": round(seconds),
            "restarts": len(restarts),
            "detector_ms": detector_ms,
            "threads_left": left,
        }
    finally:
        over.set()
        camera.kill()


def threads_left(before: int, seconds: float) -> int:
    """Wait until no more threads are left than before, at most so long; how many there are."""
    deadline = time.monotonic() + seconds
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.1)
    return threading.active_count() - before


def _row(network: str, counted: Snapshot, memory_mib: list[float]) -> dict[str, Any]:
    outcomes = {f"frames_{name}": count for name, count in counted.outcomes.items()}
    age = counted.latencies["age"]
    return {
        "network": network,
        "height": SIZE[0],
        "width": SIZE[1],
        "source_fps": 1000 / INTERVAL_MS,
        "reconnects": counted.reconnects,
        "frames_read": counted.frames_read,
        **outcomes,
        "frames_unaccounted": counted.frames_in_flight,
        "age_p50_ms": round(1e3 * age.p50_seconds, 1),
        "age_p95_ms": round(1e3 * age.p95_seconds, 1),
        "memory_mib": round(memory_mib[0], 1),
        "memory_growth_mib": round(max(memory_mib) - memory_mib[0], 1),
    }


def main(
    save: Annotated[Path, typer.Option(help="Where to write the result file (JSON).")],
    minutes: Annotated[float, typer.Option(min=0.2, help="How long.")] = 30,
    restart_seconds: Annotated[float, typer.Option(min=5, help="Between restarts.")] = 60,
    detector_ms: Annotated[float, typer.Option(min=0, help="Spent on every frame.")] = 0,
    network: Annotated[str, typer.Option(help="A shipped network.")] = "edgecar-s",
) -> None:
    """Restore a stream for a while and save what was found."""
    keep_memory_together()  # as the command does
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        write_pictures_of(video_coded(photo_scene(SIZE, CLIP_FRAMES), CODING).bitstream, pictures)
        row = soaked(network, 60 * minutes, restart_seconds, detector_ms, pictures)
    command = own_command("benchmarks.run.soak")
    write_results(save, new_results("live", [row], command))
    typer.echo(row)


if __name__ == "__main__":
    run_study(main)
