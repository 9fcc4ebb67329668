"""Time and memory that the runtime adds to the engine: ``python -m benchmarks.run.overhead``.

Speed: a 1080p clip from file to null (decode, windows, engine, queues) against the bare engine fed
with the same windows, ready as floats, in turn in one process. Memory: a 4K frame in windows and
whole, each in a process of its own.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.run.study import own_command, run_study
from edgecar.artifact import find_artifact
from edgecar.bench.results import new_results, write_results
from edgecar.bench.speed import in_own_process, peak_kib
from edgecar.engines.base import Batch, Codes
from edgecar.engines.libraries import imported_openvino
from edgecar.media.reader import open_reader
from edgecar.media.scene import write_scene
from edgecar.runtime.cameras import NULL, Job
from edgecar.runtime.job import run_job
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.tiles import aligned_size
from edgecar.runtime.tuning import Tuning
from edgecar.spec import Precision, Size

CLIP_SIZE: Size = (1080, 1920)
MEMORY_SIZE: Size = (2160, 3840)
FRAMES = 40
CRF = 35
ROUNDS = 5
MIB = 1 << 20
PRECISIONS: tuple[Precision | None, ...] = (None, "fp32")  # the engine's choice, and the plain one


def speed_rows(network: str, precision: Precision | None, clip: Path) -> list[dict[str, Any]]:
    """Frames a second of the whole job and of the bare engine, medians of rounds in turn."""
    with Restorer(network, precision=precision, reuse=False, tuning=Tuning()) as restorer:
        with open_reader(clip) as reader:
            windows = ready_windows(restorer, next(iter(reader)).y)
        rates: dict[str, list[float]] = {"bare engine": [], "edgecar run": []}
        for _ in range(ROUNDS + 1):
            began = time.perf_counter()
            for _ in range(FRAMES):
                for window in windows:
                    restorer.engine.run(window)
            rates["bare engine"].append(FRAMES / (time.perf_counter() - began))
            report = run_job(Job(str(clip), NULL), restorer, lambda _done, _all: None)
            rates["edgecar run"].append(report.fps)
        warm = {what: values[1:] for what, values in rates.items()}
        pairs = zip(warm["edgecar run"], warm["bare engine"], strict=True)
        figures = {what: statistics.median(values) for what, values in warm.items()}
        row = _row(restorer, network, CLIP_SIZE)
    rows = [row(what, value, "frames/s") for what, value in figures.items()]
    share = statistics.median(run / bare for run, bare in pairs)
    return [*rows, row("edgecar run / bare engine, median of pairs", share, "1")]


def ready_windows(restorer: Restorer, y: Codes) -> list[Batch]:
    """The windows of a frame as the engine takes them."""
    size: Size = (y.shape[0], y.shape[1])
    height, width = aligned_size(size, restorer.metadata.align_px)
    padded = np.pad(y, ((0, height - y.shape[0]), (0, width - y.shape[1])), mode="edge")
    frame = (padded / np.float32(255))[None, None]
    return [
        np.ascontiguousarray(frame[:, :, top:bottom, left:right])
        for top, left, bottom, right in (window.read for window in restorer.plan(size))
    ]


def memory_rows(network: str, precision: Precision | None) -> list[dict[str, Any]]:
    """Peak memory of a 4K frame in windows and whole, above a process that only imported."""
    return [in_own_process(_peak, network, precision, whole)["row"] for whole in (False, True)]


def _peak(network: str, precision: Precision | None, whole: bool) -> dict[str, Any]:
    imported_openvino()  # the library is not what a frame costs
    y = np.random.default_rng(0).integers(0, 256, MEMORY_SIZE, np.uint8)
    imported = peak_kib()
    with Restorer(network, precision=precision, reuse=False, tuning=Tuning()) as restorer:
        for _ in range(3):
            restorer.whole(y) if whole else restorer.luma(y)
        row = _row(restorer, network, MEMORY_SIZE)
    what = "peak memory, whole frame" if whole else "peak memory, windows"
    return {"row": row(what, (peak_kib() - imported) * 1024 / MIB, "MiB")}


def _row(restorer: Restorer, network: str, size: Size) -> Any:
    info = restorer.engine.info

    def make(what: str, value: float, unit: str) -> dict[str, Any]:
        return {
            "network": Path(network).stem,
            "height": size[0],
            "width": size[1],
            "engine": info.name,
            "provider": info.provider,
            "precision": info.precision,
            "what": what,
            "value": round(value, 3),
            "unit": unit,
        }

    return make


def measure(
    save: Annotated[Path, typer.Option(help="Where to write the result file (JSON).")],
    network: Annotated[str, typer.Option(help="A shipped network.")] = "edgecar-s",
) -> None:
    """Measure and save."""
    rows: list[dict[str, Any]] = []
    find_artifact(network)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "camera.mp4"
        write_scene(clip, CLIP_SIZE, FRAMES, CRF)
        for precision in PRECISIONS:
            rows += speed_rows(network, precision, clip)
        for precision in PRECISIONS:
            rows += memory_rows(network, precision)
    command = own_command("benchmarks.run.overhead")
    write_results(save, new_results("overhead", rows, command))
    for row in rows:
        typer.echo(f"{row['precision']}  {row['what']}: {row['value']:.2f} {row['unit']}")


if __name__ == "__main__":
    run_study(measure)
