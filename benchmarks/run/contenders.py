"""Who is timed on a coded clip, and how."""

import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from benchmarks.run.overhead import ready_windows
from edgecar.engines.select import usable_cores
from edgecar.errors import MediaError
from edgecar.evaluate.postfilters import check_installed, strength_for
from edgecar.media.reader import open_reader
from edgecar.media.video_codec import CodedClip, VideoCoding
from edgecar.runtime.cameras import NULL, Job
from edgecar.runtime.job import run_job
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.tune import Pass

FFMPEG = ("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-benchmark")
FFMPEG_SECONDS = 600  # longer than this it hangs

Filters = Sequence[tuple[str, int]]
"""Post-filters of FFmpeg: name and quality, 2 to the power of which is the shifts averaged."""

OWN_STREAM_STRENGTH = 4  # ``qp`` for streams of unknown coding; it does not change what they cost

FILTERS: Filters = (("spp", 3), ("spp", 4), ("fspp", 4))


@dataclass(frozen=True)
class Case:
    """A clip in one coding, decoded, and in a file; None is a camera's own coding."""

    clip: str
    coding: VideoCoding | None
    coded: CodedClip
    path: Path


@dataclass(frozen=True)
class Ways:
    """edgecar with reuse and without; each has an engine of its own, as compiled shapes differ."""

    reuse: Restorer
    dense: Restorer


def contenders_for(case: Case, ways: Ways, filters: Filters) -> dict[str, Pass]:
    """Whatever is compared, by name."""
    windows = ready_windows(ways.dense, case.coded.frames[0].y)
    frames = len(case.coded.frames)

    def bare() -> float:
        began = time.perf_counter()
        for _ in range(frames):
            for window in windows:
                ways.dense.engine.run(window)
        return frames / (time.perf_counter() - began)

    def decode() -> float:
        with open_reader(case.path) as reader:
            began = time.perf_counter()
            count = sum(1 for _ in reader)
            return count / (time.perf_counter() - began)

    def run(way: Restorer) -> Pass:
        return lambda: run_job(Job(str(case.path), NULL), way, lambda _done, _all: None).fps

    def filtered(name: str, quality: int) -> Pass:
        strength = strength_for(name, case.coding) if case.coding else OWN_STREAM_STRENGTH
        video_filter = f"{name}={quality}:qp={strength}"
        return lambda: frames / ffmpeg_seconds(case.path, video_filter, usable_cores())

    return {
        "reuse": run(ways.reuse),
        "dense": run(ways.dense),
        "bare": bare,
        "decode": decode,
        **{f"{name}{quality}": filtered(name, quality) for name, quality in filters},
    }


def ffmpeg_seconds(path: Path, video_filter: str, threads: int) -> float:
    """How long the ``ffmpeg`` command takes to decode and filter a file, its start not counted."""
    number = str(threads)
    source = ("-threads", number, "-i", str(path))
    filtering = ("-filter_threads", number, "-vf", video_filter)
    command = [*FFMPEG, *source, *filtering, "-f", "null", "-"]
    how: dict[str, Any] = {"capture_output": True, "text": True, "errors": "replace"}
    try:
        done = subprocess.run(command, check=False, timeout=FFMPEG_SECONDS, **how)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MediaError(
            f"ffmpeg {video_filter} does not run ({error}); install it again"
        ) from error
    found = re.search(r"rtime=([\d.]+)s", done.stderr)
    if done.returncode or found is None or not float(found[1]):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MediaError(f"ffmpeg {video_filter} gave no time ({last}); try another build of it")
    return float(found[1])


def filters_here() -> list[tuple[str, int]]:
    """Name and quality of FFmpeg's filters that can run; says which cannot."""
    found = []
    for name, quality in FILTERS:
        try:
            check_installed(name)
        except MediaError as error:
            typer.echo(f"left out  {name}={quality}: {error}", err=True)
        else:
            found.append((name, quality))
    return found
