"""``edgecar inspect``: what is in an artifact."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from edgecar.cli.output import Json, next_step, print_json, quality_line, stdout
from edgecar.errors import AnswerError
from edgecar.files import quoted
from edgecar.metadata import Quality

UNKNOWN = "–"


def command(
    file: Annotated[Path, typer.Argument(help="An exported .onnx file.")],
    as_json: Json = False,
) -> None:
    """Print an artifact's metadata: layers by precision, halo, quality gate and hashes.

    Runs its known answer on this machine, too; exit code 3 says that it came out wrong.

    Example: edgecar inspect edgecar-s.jpeg.int8.onnx
    """
    from edgecar.exporter.inspection import inspection

    found = inspection(file)
    if as_json:
        print_json(found)
    else:
        for name, text in _lines(found):
            stdout.print(f"{name:<10}{text}")
    if found["known_answer"]["passed"] is False:
        raise typer.Exit(AnswerError.exit_code)
    if not as_json:
        next_step(f"edgecar run INPUT -o OUTPUT --network {quoted(file)}")


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    colour = "luma" if found["channels"] == 1 else "RGB"
    counts = Counter(found["layers"].values())
    layers = ", ".join(f"{count} in {kind}" for kind, count in sorted(counts.items()))
    quality = found["quality"]
    purpose = ", for detectors" if found["purpose"] == "detect" else ""
    lines = [
        ("network", f"{found['model']}, {colour}, {found['params']:,} parameters"),
        ("precision", f"{found['precision']}; convolutions: {layers or 'none'}"),
        ("halo", f"{found['halo_px']} px, windows at multiples of {found['align_px']} px, "
                 f"{found['context']}"),
        ("memory", f"{found['bytes_per_px']} bytes of activations per pixel in float32"),
        ("trained", f"{found['trained_on'] or UNKNOWN}{purpose}"),
        ("parity", f"max {found['parity_max_error']:.1e} of 1.0 against torch, allowed "
                   f"{found['parity_budget']:.0e}"),
        ("answer", found["known_answer"]["words"]),
    ]  # fmt: skip
    if quality:
        gate = Quality(**quality)
        lines += [
            ("gate", quality_line(gate)),
            ("ranges", f"{gate.method or UNKNOWN}; {gate.pictures} pictures of: {gate.data}"),
            ("made for", " and ".join(gate.engines)),
            ("kept", ", ".join(gate.kept) or "nothing"),
        ]
    operators = ", ".join(f"{count} {kind}" for kind, count in found["operators"].items())
    lines += [
        ("graph", f"opset {found['opset']}, IR {found['ir_version']}: {operators}"),
        ("file", f"{found['bytes']:,} bytes, sha256 {found['sha256']}"),
        ("weights", f"sha256 {found['weights_sha256']}"),
    ]
    if quality:
        lines += [
            ("from fp32", f"sha256 {quality['fp32_sha256']}"),
            ("pictures", f"sha256 {quality['data_sha256']}"),
        ]
    return lines
