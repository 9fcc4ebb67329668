"""``edgecar export``: a checkpoint to a checked ONNX artifact."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgecar.cli.output import Codec, Json, next_step, print_json, stderr, stdout
from edgecar.errors import EdgecarError


def command(
    checkpoint: Annotated[
        str, typer.Argument(help="A .pt, .pth, .pkl or .safetensors file, or a network's name.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write the .onnx file.")
    ] = None,
    codec: Codec = "jpeg",
    recipe: Annotated[
        Path | None, typer.Option(help="Settings to use instead of the network's own (TOML).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn a checkpoint into an ONNX file that was checked against torch.

    The halo that tiles need is derived from the graph and stored in the file.

    Example: edgecar export msfan.pt
    """
    try:
        from edgecar.exporter.to_onnx import export
    except ImportError as error:
        raise EdgecarError(
            f"export needs {error.name}, which is not installed; pip install 'edgecar[train]'"
        ) from error
    done = export(checkpoint, output, codec=codec, recipe=recipe)
    facts = done.facts
    if as_json:
        print_json({"path": str(done.path), "params": done.params, **asdict(facts)})
        return
    if done.shipped:
        stderr.print(
            f"note      no file {checkpoint}; exporting edgecar's own {facts.model} weights for "
            f"{codec} ({facts.trained_on})"
        )
    colour = "luma" if facts.channels == 1 else "RGB"
    tiles = (
        "tiles are exact"
        if facts.context == "local"
        else "pools over the picture: tiles differ from whole frames"
    )
    stdout.print(f"{facts.model:<9} {colour}, {done.params:,} parameters")
    stdout.print(
        f"halo      {facts.halo_px} px, windows at multiples of {facts.align_px} px; {tiles}"
    )
    stdout.print(
        f"parity    max {facts.parity_max_error:.1e} of 1.0 against torch on real crops, "
        f"allowed {facts.parity_budget:.0e}"
    )
    stdout.print(
        f"wrote     {done.path} ({done.path.stat().st_size / 1e6:.2f} MB, {facts.precision})"
    )
    next_step(f"edgecar run INPUT -o OUTPUT --network {done.path}")
