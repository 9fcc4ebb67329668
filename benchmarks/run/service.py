"""The camera service under load and under misfortune: rates, ages, CPU, memory, and what was lost.

``load``: clips of fixed cameras, coded anew as cameras code, are played at their pace by several
cameras at a time. ``soak``: the same pictures come over RTSP from servers that are killed at random
moments and come back; one camera is recorded. Soak needs GStreamer's RTSP server.
"""

import statistics
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any, Literal

import av
import psutil
import typer

from benchmarks.run.soak import MIB, Camera, threads_left, write_pictures_of
from benchmarks.run.study import own_command, run_study
from edgecar.allocator import keep_memory_together
from edgecar.bench.results import new_results, resumed, write_results
from edgecar.media.reader import open_reader
from edgecar.media.video_codec import VideoCoding, video_coded
from edgecar.runtime.stats import Snapshot
from edgecar.serve.service import Service
from edgecar.serve.settings import Settings
from edgecar.serve.status import EngineStatus

CLIPS = (
    "parkpow_tollgate_cctv_720p18.mp4",
    "sam2_blocks_720p30.mp4",
    "sam2_cups_720p30.mp4",
    "parkpow_tollgate_cctv_720p18.mp4",
)
"""720p of cameras that stand still."""

CLIP_FRAMES = 150
CODING = VideoCoding("h264", quantiser=35, preset="veryfast", gop=50, b_frames=0)
WARM_UP_SECONDS = 20.0
"""Engines compile the shapes they meet in the first seconds; those are not counted."""

SOAK_WARM_UP_SHARE = 0.1
SAMPLE_SECONDS = 1.0
KILL_SECONDS = (10.0, 40.0)
"""Between two kills of one camera, at random."""

THREADS_SECONDS = 30.0
"""For those that wait for a server to notice that nobody wants them any more."""

Policy = Literal["shed", "drop"]
"""Under load: smaller networks and then none, or fewer frames."""

SHED: dict[Policy, dict[str, Any]] = {"shed": {}, "drop": {"shed": []}}


def coded_clips(data: Path, folder: Path) -> list[Path]:
    """The clips as cameras send them, in files of raw H.264 for players and RTSP servers."""
    coded: dict[str, bytes] = {}
    for name in dict.fromkeys(CLIPS):
        with open_reader(data / "clips" / name) as reader:
            coded[name] = video_coded(list(islice(reader, CLIP_FRAMES)), CODING).bitstream
    paths = [folder / f"{number}-{Path(name).stem}.mkv" for number, name in enumerate(CLIPS)]
    for path, name in zip(paths, CLIPS, strict=True):
        path.write_bytes(coded[name])
    return paths


def settings_of(
    sources: Sequence[str], network: str, policy: Policy, state: Path, **first: object
) -> Settings:
    """A service's settings, a camera for each source."""
    cameras = [
        {"name": f"camera-{number}", "source": source, "network": network, **SHED[policy]}
        for number, source in enumerate(sources)
    ]
    cameras[0].update(first)
    return Settings.model_validate({"state": state, "camera": cameras})


def loaded(
    clips: Sequence[Path], network: str, seconds: float, folder: Path, policy: Policy
) -> dict[str, Any]:
    """Play clips for so long, and see what becomes of their frames."""
    state = folder / f"{time.monotonic_ns()}.json"
    process = psutil.Process()
    with Service(settings_of([str(clip) for clip in clips], network, policy, state)) as service:
        time.sleep(WARM_UP_SECONDS)
        before = service.snapshots()
        process.cpu_percent()
        memory = process.memory_info().rss / MIB
        began = time.monotonic()
        levels: dict[str, int] = {}
        while time.monotonic() - began < seconds:
            time.sleep(SAMPLE_SECONDS)
            for name in service.names():
                running = service.camera(name).running
                levels[running] = levels.get(running, 0) + 1
        elapsed = time.monotonic() - began
        cpu = process.cpu_percent() / (100 * (psutil.cpu_count() or 1))
        after = service.snapshots()
        engine = next(iter(service.status.engines), None)
        growth = process.memory_info().rss / MIB - memory
    return _row("load", network, before, after, elapsed) | {
        **_engine(engine),
        "policy": policy,
        "levels": {name: round(n / sum(levels.values()), 3) for name, n in levels.items()},
        "kills": 0,
        "cpu_share": round(cpu, 3),
        "memory_mib": round(memory, 1),
        "memory_growth_mib": round(growth, 1),
        "memory_tenths_mib": [],
        "frames_written": None,
        "frames_given": None,
        "frames_left_out": None,
        "threads_left": None,
    }


def soaked(
    clips: Sequence[Path], network: str, seconds: float, folder: Path, policy: Policy
) -> dict[str, Any]:
    """Restore RTSP cameras that are killed again and again; what grew and what was lost."""
    servers = [Camera(_pictures_of(clip)) for clip in clips]
    for server in servers:
        server.start()
    over, kills = threading.Event(), list[int]()
    killers = [
        threading.Thread(target=server.come_and_go, args=(KILL_SECONDS, over, kills))
        for server in servers
    ]
    recording = {"folder": str(folder), "segment_seconds": 60}
    urls = [server.url for server in servers]
    settings = settings_of(urls, network, policy, folder / "soak.json", record=recording)
    threads_before = threading.active_count()
    try:
        with Service(settings) as service:
            for killer in killers:
                killer.start()
            elapsed, cpu, memory = _watched(seconds)
            over.set()
            runs = [service.camera(name) for name in service.names()]
            pipelines = [run.place for run in runs if run.place]
            engine = next(iter(service.status.engines), None)
            coder = runs[0].coder
        snapshots = {each.name: each.stats.snapshot() for each in pipelines}
    finally:
        over.set()
        for killer in killers:
            if killer.ident is not None:
                killer.join()  # two at once cannot end one process
        for server in servers:
            server.kill()
    left = threads_left(threads_before, THREADS_SECONDS)
    written = sum(_frames_in(path) for path in sorted((folder / "camera-0").iterdir()))
    return _row("soak", network, {}, snapshots, elapsed) | {
        **_engine(engine),
        "policy": policy,
        "levels": {},
        "kills": len(kills),
        "cpu_share": round(cpu, 3),
        **memory,
        "frames_written": written,
        "frames_given": runs[0].sequence,
        "frames_left_out": coder.status.dropped if coder else None,
        "threads_left": left,
    }


def _pictures_of(clip: Path) -> Path:
    path = clip.with_suffix(".pictures")
    write_pictures_of(clip.read_bytes(), path)
    return path


def _watched(seconds: float) -> tuple[float, float, dict[str, Any]]:
    """Wait; how long it was, the share of all cores, and the row's figures of memory."""
    process, samples = psutil.Process(), list[tuple[float, float]]()
    process.cpu_percent()
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        time.sleep(SAMPLE_SECONDS)
        samples.append((passed / seconds, process.memory_info().rss / MIB))
    cpu = process.cpu_percent() / (100 * (psutil.cpu_count() or 1))
    settled = [mib for share, mib in samples if share > SOAK_WARM_UP_SHARE]
    tenths = [[mib for share, mib in samples if int(10 * share) == tenth] for tenth in range(10)]
    memory = {
        "memory_mib": round(settled[0], 1),
        "memory_growth_mib": round(max(settled) - settled[0], 1),
        "memory_tenths_mib": [round(statistics.median(each), 1) for each in tenths if each],
    }
    return time.monotonic() - began, cpu, memory


def _row(
    case: str,
    network: str,
    before: Mapping[str, Snapshot],
    after: Mapping[str, Snapshot],
    seconds: float,
) -> dict[str, Any]:
    """Count the frames of all cameras between two looks, by outcome."""
    keys = ("frames_read", "frames_restored", "frames_passed", "frames_dropped")
    counts = {
        key: sum(getattr(now, key) for now in after.values())
        - sum(getattr(then, key) for then in before.values())
        for key in keys
    }
    ages = [now.latencies["age"] for now in after.values()]
    in_flight = sum(now.frames_in_flight for now in after.values())
    return {
        "case": case,
        "network": Path(network).name,
        "cameras": len(after),
        "seconds": round(seconds),
        **counts,
        "frames_in_flight": in_flight - sum(then.frames_in_flight for then in before.values()),
        "read_fps": round(counts["frames_read"] / seconds, 2),
        "restored_fps": round(counts["frames_restored"] / seconds, 2),
        "age_p50_ms": round(1e3 * max(age.p50_seconds for age in ages), 1),
        "age_p95_ms": round(1e3 * max(age.p95_seconds for age in ages), 1),
    }


def _engine(status: EngineStatus | None) -> dict[str, str | None]:
    metadata = status.model_dump() if status else {}
    return {key: metadata.get(key) for key in ("engine", "provider", "precision")}


def _frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def main(
    data: Annotated[Path, typer.Option(help="Where the clips are.")],
    save: Annotated[Path, typer.Option(help="Where to write the result file (JSON); added to.")],
    networks: Annotated[str, typer.Option(help="Shipped names and artifacts.")] = "edgecar-xs",
    cameras: Annotated[int, typer.Option(min=1, max=64, help="At a time.")] = 4,
    seconds: Annotated[
        float, typer.Option(min=0, help="Seconds for each network; 0: only soak.")
    ] = 60,
    policy: Annotated[
        Policy, typer.Option(help="Under load: smaller networks, or fewer frames.")
    ] = "shed",
    soak_minutes: Annotated[float, typer.Option(min=0, help="Then soak so long; 0: not.")] = 0,
) -> None:
    """Measure the service and save what was found."""
    keep_memory_together()  # as the command does
    rows, command = resumed(save, own_command("benchmarks.run.service"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = list(islice(cycle(coded_clips(data, folder)), cameras))
        for network in networks.split(","):
            if seconds:
                rows.append(loaded(clips, network, seconds, folder, policy))
                typer.echo(rows[-1])
                write_results(save, new_results("service", rows, command))
            if soak_minutes:
                rows.append(soaked(clips, network, 60 * soak_minutes, folder, policy))
                typer.echo(rows[-1])
                write_results(save, new_results("service", rows, command))


if __name__ == "__main__":
    run_study(main)
