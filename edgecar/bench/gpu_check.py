"""One command that proves on a GPU what can only be proved there: ``make gpu-check``.

It needs this tree, numpy, pycuda and nvcc; ONNX Runtime's CUDA build and TensorRT are tried where
they are. What is left out is said with the reason, and with ``EDGECAR_REQUIRE_GPU=1`` that is a
failure. The table comes last; ``--save FOLDER`` keeps it as JSON.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from edgecar.bench.gpu_parts import (
    NETWORKS,
    Facts,
    SkippedError,
    kernel_speed_part,
    kernels_part,
    tensorrt_part,
    types_part,
)
from edgecar.bench.machine import COMMIT
from edgecar.engines.gpu import find_gpu
from edgecar.engines.targets import LIBRARIES
from edgecar.errors import EdgecarError, EngineError
from edgecar.files import written_whole
from edgecar.runtime.cuda.device import Device


@dataclass(frozen=True)
class Outcome:
    """Of one part: ``passed``, ``failed`` or ``skipped``, and what was found or why."""

    part: str
    state: str
    found: Facts


def parts(device: Device, folder: Path) -> dict[str, Callable[[], Facts]]:
    """Everything there is to check, by name."""
    found: dict[str, Callable[[], Facts]] = {
        "kernels and runtime": lambda: kernels_part(device),
        "types of tiles": lambda: types_part(device),
        "kernel speed": lambda: kernel_speed_part(device),
    }
    for library in LIBRARIES:
        for network in NETWORKS:
            found[f"{library} {network}"] = lambda library=library, network=network: tensorrt_part(  # type: ignore[misc]
                device, library, network, folder
            )
    return found


def outcome(part: str, work: Callable[[], Facts]) -> Outcome:
    """Of a part; whatever goes wrong in it is its failure and not that of the rest."""
    try:
        return Outcome(part, "passed", work())
    except SkippedError as reason:
        return Outcome(part, "skipped", {"why": str(reason)})
    except (AssertionError, EdgecarError) as error:
        return Outcome(part, "failed", {"why": str(error)})
    except Exception as error:  # of libraries that were never met on this GPU: what they raise
        return Outcome(part, "failed", {"why": f"{type(error).__name__}: {error}"})


def all_outcomes() -> list[Outcome]:
    """Of every part; all are skipped where there is no GPU, or nothing to reach it with."""
    try:
        gpu = find_gpu()
        from edgecar.runtime.cuda.through_pycuda import CudaDevice

        device = CudaDevice()
    except EngineError as error:
        return [Outcome("gpu", "skipped", {"why": str(error)})]
    outcomes = [Outcome("gpu", "passed", asdict(gpu))]
    with tempfile.TemporaryDirectory() as folder:
        for name, work in parts(device, Path(folder)).items():
            sys.stderr.write(f"{name} …\n")
            outcomes.append(outcome(name, work))
    device.close()
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    """A line a part."""
    lines = []
    for each in outcomes:
        shown = {key: value for key, value in each.found.items() if not isinstance(value, dict)}
        facts = ", ".join(
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in shown.items()
        )
        lines.append(f"{each.state:<8} {each.part}: {facts}")
        lines += [
            f"         {size}: p50 {row['p50_ms']:.2f} ms, p95 {row['p95_ms']:.2f} ms, "
            f"{row['fps']:.1f} frames/s"
            for size, row in each.found.items()
            if isinstance(row, dict) and "fps" in row
        ]
    return "\n".join(lines)


def exit_code(outcomes: list[Outcome]) -> int:
    """3 if a part failed, or was skipped though a GPU is required."""
    bad = {"failed", "skipped"} if os.environ.get("EDGECAR_REQUIRE_GPU") == "1" else {"failed"}
    return 3 if bad & {each.state for each in outcomes} else 0


def main() -> None:
    """Check, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", type=Path, help="folder for the result (JSON)")
    given = parser.parse_args()
    outcomes = all_outcomes()
    if given.save:
        document = {"commit": COMMIT, "parts": [asdict(each) for each in outcomes]}
        with written_whole(given.save / "gpu-check.json") as temporary:
            temporary.write_text(json.dumps(document, indent=1) + "\n")
    sys.stdout.write(table(outcomes) + "\n")
    sys.exit(exit_code(outcomes))


if __name__ == "__main__":
    main()
