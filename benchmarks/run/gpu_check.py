"""One command that proves on a GPU what can only be proved there: ``make gpu-check``.

It needs this tree, numpy, OpenCV, pycuda and nvcc; networks need onnx besides, and one of ONNX
Runtime's CUDA build, TensorRT and TensorRT-RTX. Graphs in FP16 and INT8 come from ``make
gpu-files``, made where torch is. What is left out is said with the reason, and with
``EDGECAR_REQUIRE_GPU=1`` that is a failure. The table comes last; ``--save FOLDER`` keeps it as
JSON, part by part.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.run.gpu_networks import network_parts
from benchmarks.run.gpu_parts import Part, SkippedError, kernels_part, types_part
from benchmarks.run.gpu_speed import SIZES, Bench, Metadata, kernel_speed
from edgecar.bench.machine import COMMIT
from edgecar.engines.gpu import find_gpu
from edgecar.errors import EdgecarError, EngineError
from edgecar.files import atomic_write

RESULT_KEYS = (
    *("p50_ms", "p95_ms", "fps", "upload_ms", "compute_ms", "download_ms", "engine_ms"),
    *("overhead_share", "floor_ms"),
)
"""Keys of a result row that every frame size has."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of one part: ``passed``, ``failed`` or ``skipped``, and its figures or the reason."""

    part: str
    state: str
    found: Metadata


def parts(bench: Bench) -> dict[str, Part]:
    """Everything there is to check, by name."""
    return {
        "kernels and runtime": lambda: kernels_part(bench.device),
        "types of tiles": lambda: types_part(bench.device),
        "kernel speed": lambda: kernel_speed(bench),
        **network_parts(bench),
    }


def outcome(part: str, work: Part) -> Outcome:
    """Run a part; whatever goes wrong in it is its failure and not that of the rest."""
    try:
        return Outcome(part, "passed", work())
    except SkippedError as reason:
        return Outcome(part, "skipped", {"why": str(reason)})
    except (AssertionError, EdgecarError) as error:
        return Outcome(part, "failed", {"why": str(error)})
    except Exception as error:  # of libraries that were never met on this GPU: what they raise
        return Outcome(part, "failed", {"why": f"{type(error).__name__}: {error}"})


def all_outcomes(given: argparse.Namespace, keep: Callable[[list[Outcome]], None]) -> list[Outcome]:
    """Run every part; all are skipped where there is no GPU, or nothing to reach it with.

    What there is goes to ``keep`` after every part, so that a run that is cut off leaves something.
    """
    try:
        gpu = find_gpu()
        from edgecar.runtime.cuda.through_pycuda import CudaDevice

        device = CudaDevice()
    except EngineError as error:
        return [Outcome("gpu", "skipped", {"why": str(error)})]
    outcomes = [Outcome("gpu", "passed", asdict(gpu))]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(device, gpu, given.seconds, given.files, Path(folder), given.sizes)
        for name, work in parts(bench).items():
            if not given.only or any(word in name for word in given.only):
                sys.stderr.write(f"{name} …\n")
                outcomes.append(outcome(name, work))
                keep(outcomes)
    device.close()
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    """A line a part, and a line a size or kernel below it."""
    lines = []
    for each in outcomes:
        shown = {key: value for key, value in each.found.items() if not isinstance(value, dict)}
        metadata = ", ".join(f"{key} {_short(value)}" for key, value in shown.items())
        lines.append(f"{each.state:<8} {each.part}: {metadata}")
        lines += [
            f"         {name}: {_row(row)}"
            for name, row in each.found.items()
            if isinstance(row, dict) and ("fps" in row or "gb_s" in row)
        ]
    return "\n".join(lines)


def _row(row: Metadata) -> str:
    if "gb_s" in row:
        judged = "reaches the aim" if row["reaches_aim"] else "short of the aim"
        return f"{row['gb_s']:.1f} GB/s, {row['share_of_copy']:.0%} of a copy, {judged}"
    floor = f", floor {row['floor_ms']:.3f} ms ({row['bound_by']})" if "floor_ms" in row else ""
    return (
        f"p50 {row['p50_ms']:.2f} ms, p95 {row['p95_ms']:.2f} ms, {row['fps']:.1f} frames/s; "
        f"up {row['upload_ms']:.2f}, compute {row['compute_ms']:.2f}, down "
        f"{row['download_ms']:.2f} ms; engine {row['engine_ms']:.3f} ms, runtime "
        f"{row['overhead_share']:.1%} of it{floor}"
    )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def exit_code(outcomes: list[Outcome]) -> int:
    """3 if a part failed, or was skipped though a GPU is required."""
    bad = {"failed", "skipped"} if os.environ.get("EDGECAR_REQUIRE_GPU") == "1" else {"failed"}
    return 3 if bad & {each.state for each in outcomes} else 0


def result_rows(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """Rows of a ``gpu`` result file: what passed, a row a size."""
    gpu = outcomes[0].found
    rows = []
    for each in outcomes:
        found = each.found
        if each.state != "passed" or "network" not in found:
            continue
        for label in SIZES:
            if label not in found:
                continue
            height, width = SIZES[label]
            rows.append(
                {
                    "gpu": gpu["name"],
                    "compute_capability": gpu["compute_capability"],
                    **{key: found[key] for key in ("network", "engine", "provider", "precision")},
                    **{"height": height, "width": width, "batch": found["batch"]},
                    **{"tile_height": found["tile"][0], "tile_width": found["tile"][1]},
                    **{key: found[label].get(key) for key in RESULT_KEYS},
                    "peak_mib": found["peak_mib"],
                    "max_code_difference": found.get("max_code_difference"),
                }
            )
    return rows


def write_result(outcomes: list[Outcome], path: Path) -> str:
    """A result file for ``benchmarks/results``, where there is something to put into it."""
    rows = result_rows(outcomes)
    if not rows:
        return "no network was timed: no result file"
    try:
        from edgecar.bench.results import new_results, write_results

        results = new_results("gpu", rows, "make gpu-check")
    except ImportError as error:
        return f"{error.name} is not installed, which describes the machine: no result file"
    write_results(path, results)
    return f"copy {path} to benchmarks/results/ and run make tables"


def options() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", type=Path, help="Folder for the result (JSON).")
    parser.add_argument(
        "--files", type=Path, default=Path("gpu-files"), help="Folder that make gpu-files made."
    )
    parser.add_argument(
        "--only", nargs="+", default=[], help="Words; run parts with one in their name."
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="Seconds for each figure.")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    return parser


def main() -> None:
    """Check, keep, print."""
    given = options().parse_args()

    def keep(outcomes: list[Outcome]) -> None:
        if given.save:
            document = {"commit": COMMIT, "parts": [asdict(each) for each in outcomes]}
            with atomic_write(given.save / "gpu-check.json") as temporary:
                temporary.write_text(json.dumps(document, indent=1) + "\n")

    outcomes = all_outcomes(given, keep)
    keep(outcomes)
    if given.save:
        sys.stderr.write(f"{write_result(outcomes, given.save / 'gpu.json')}\n")
    sys.stdout.write(table(outcomes) + "\n")
    sys.exit(exit_code(outcomes))


if __name__ == "__main__":
    main()
