"""``make gpu-files``: graphs in FP16 and INT8 for `benchmarks.run.gpu_check`, made where torch is.

A box with a GPU then needs neither torch nor calibration pictures: the folder is carried along with
the tree. What the gate refuses is written down with the reason, and is not made again.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from benchmarks.run.gpu_networks import NETWORKS, REFUSED
from edgecar.errors import EdgecarError
from edgecar.files import atomic_write

if TYPE_CHECKING:
    from edgecar.artifact import Artifact

LowerPrecision = Literal["fp16", "int8"]
Lower = Callable[[str, LowerPrecision], "Artifact"]


def lowered_for_gpus(network: str, precision: LowerPrecision) -> "Artifact":
    """A network that ships, in a precision, as TensorRT takes it."""
    from edgecar.artifact import Artifact
    from edgecar.exporter.lower import Lowering, lowered_artifact
    from edgecar.exporter.to_onnx import source_of

    source = source_of(network, codec="jpeg")
    model, metadata = source.graph()
    lowering = Lowering(precision, for_engine="tensorrt")
    trained = source.trained(model) if precision == "int8" else None
    made, metadata = lowered_artifact(
        model, metadata, lowering, source.recipe, lambda _what: None, trained
    )
    return Artifact(metadata, made.SerializeToString())


def prepare(
    folder: Path,
    networks: tuple[str, ...] = NETWORKS,
    lower: Lower = lowered_for_gpus,
    report: Callable[[str], None] = lambda _line: None,
) -> dict[str, str]:
    """Make what is not there yet."""
    kept = folder / REFUSED
    refused: dict[str, str] = json.loads(kept.read_text()) if kept.is_file() else {}
    for network in networks:
        for precision in get_args(LowerPrecision):
            path = folder / f"{network}.jpeg.{precision}.onnx"
            if path.is_file() or path.name in refused:
                continue
            try:
                content = lower(network, precision).onnx
            except EdgecarError as error:
                refused[path.name] = f"refused when it was made: {error}"
                report(f"refused {path.name}: {error}")
            else:
                with atomic_write(path) as temporary:
                    temporary.write_bytes(content)
                report(f"wrote {path} ({len(content) / 1e3:.0f} kB)")
            with atomic_write(kept) as temporary:
                temporary.write_text(json.dumps(refused, indent=1) + "\n")
    return refused


def main() -> None:
    """Make them, and say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("gpu-files"), help="Folder for the graphs.")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    given = parser.parse_args()
    prepare(
        given.to,
        tuple(given.networks),
        report=lambda line: print(line, file=sys.stderr),  # noqa: T201
    )
    size = sum(path.stat().st_size for path in given.to.iterdir())
    sys.stdout.write(f"{given.to}: {size / 1e6:.1f} MB; carry it along and run make gpu-check\n")


if __name__ == "__main__":
    main()
