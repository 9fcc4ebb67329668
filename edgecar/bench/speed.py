"""Speed and memory of restoring frames, each row measured in a process of its own."""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgecar.artifact import find_artifact
from edgecar.bench.results import BenchRow
from edgecar.engines.select import resolved
from edgecar.errors import ArtifactError, EdgecarError
from edgecar.runtime.tiles import aligned_size
from edgecar.spec import Precision, Size

MIN_FRAMES = 10
MIN_SECONDS = 5.0
WARM_UP_FRAMES = 2
MIB = 1 << 20
ONNX = ".onnx"


@dataclass(frozen=True)
class Setting:
    """One thing to time.

    Attributes:
        network: Name in the zoo, or path of an artifact.
        channels: 1 luma, 3 RGB.
        size: ``(height, width)`` of the frames.
        engine: Name of an engine; ``none`` counts the cost and times nothing.
        precision: Arithmetic; None takes the engine's choice.
        tile: Size of equal windows; None takes the restorer's choice.
    """

    network: str
    channels: int
    size: Size
    engine: str
    precision: Precision | None
    tile: Size | None = None


def bench_row(setting: Setting) -> BenchRow:
    """Cost of a network and, unless the engine is ``none``, its measured speed and memory.

    Raises:
        EdgecarError: The network, engine or precision is not to be had here.
    """
    row = _cost(setting)
    if setting.engine == "none":
        return row
    with tempfile.TemporaryDirectory() as folder:
        artifact = artifact_to_time(setting.network, setting.channels, Path(folder))
        measured = in_own_process(_measure, artifact, setting)
    return cast("BenchRow", {**row, **measured})


def _cost(setting: Setting) -> BenchRow:
    """Counted from the network; unknown for an artifact of the user's, or where torch is absent."""
    is_file = setting.network.endswith(ONNX)
    if is_file or not find_spec("torch"):
        name = Path(setting.network).stem if is_file else setting.network
        height, width = setting.size
        known = {"network": name, "channels": setting.channels, "height": height, "width": width}
        return cast("BenchRow", {**dict.fromkeys(BenchRow.__annotations__), **known})
    from edgecar.bench.complexity import complexity_row
    from edgecar.zoo.registry import card_named

    counted = aligned_size(setting.size, card_named(setting.network).align_px)
    row = complexity_row(setting.network, setting.channels, counted)
    return cast("BenchRow", {**row, "height": setting.size[0], "width": setting.size[1]})


def artifact_to_time(network: str, channels: int, folder: Path) -> Path:
    """The shipped artifact of a network, or one with fresh weights: they do not change speed."""
    if network.endswith(ONNX):
        return Path(network)
    if channels == 1:
        try:
            return find_artifact(network)
        except ArtifactError:
            pass  # no weights ship for it
    from edgecar.exporter.recipe import recipe_for
    from edgecar.exporter.to_onnx import artifact_from_network
    from edgecar.zoo.checkpoints import Loaded
    from edgecar.zoo.registry import card_named

    card = card_named(network)
    built = card.build(card.config(channels)).eval()
    loaded = Loaded(card, channels, built)
    model, _ = artifact_from_network(loaded, recipe_for(network), weights_sha256="", trained_on="")
    path = folder / f"{network}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def in_own_process(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run ``work`` in a fresh interpreter, so that memory is its own and nothing is warm."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        try:
            return fresh.submit(work, *arguments).result()
        except BrokenProcessPool as error:
            raise EdgecarError(
                "the measuring process was ended; the machine may be out of memory: try a smaller "
                "--res"
            ) from error


def _measure(artifact: Path, setting: Setting) -> dict[str, Any]:
    """Time whole frames, codes in and codes out, every one computed in full."""
    from edgecar.runtime.restorer import Restorer
    from edgecar.runtime.tuning import Tuning

    rng = np.random.default_rng(0)
    shape = setting.size if setting.channels == 1 else (*setting.size, 3)
    frames = [rng.integers(0, 256, shape, np.uint8) for _ in range(2)]
    # Libraries are not what inference costs; frames are.
    with suppress(ImportError):  # opening the engine will say what to install
        import_module(resolved(setting.engine).partition(":")[0])
    imported_kib = peak_kib()
    with Restorer(
        artifact,
        setting.engine,
        setting.precision,
        reuse=False,
        tile=setting.tile,
        tuning=Tuning(),  # whatever was tuned on this machine: figures are to be compared
    ) as restorer:
        restore = restorer.luma if setting.channels == 1 else restorer
        times_ms = _timed(lambda number: restore(frames[number % 2]))
        info = restorer.engine.info
    p50, p95 = np.percentile(times_ms, [50, 95])
    return {
        "engine": info.name,
        "provider": info.provider,
        "precision": info.precision,
        "p50_ms": round(float(p50), 3),
        "p95_ms": round(float(p95), 3),
        "fps": round(1000 / float(p50), 3),
        "peak_mb": round((peak_kib() - imported_kib) * 1024 / MIB, 1),
    }


def _timed(restore: Callable[[int], Any]) -> list[float]:
    """Milliseconds per call: at least `MIN_FRAMES` calls or `MIN_SECONDS`, whichever is first."""
    for number in range(WARM_UP_FRAMES):
        if _milliseconds(restore, number) > MIN_SECONDS * 1000:
            break
    times: list[float] = []
    while len(times) < MIN_FRAMES or sum(times) < 1000:
        times.append(_milliseconds(restore, len(times)))
        if sum(times) > MIN_SECONDS * 1000:
            break
    return times


def _milliseconds(work: Callable[[int], Any], number: int) -> float:
    began = time.perf_counter()
    work(number)
    return (time.perf_counter() - began) * 1000


def peak_kib() -> int:
    """Highest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not `getrusage`: its figure starts with that of the process this one was forked from.
        (line,) = (row for row in status.read_text().splitlines() if row.startswith("VmHWM:"))
        return int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak
