"""``edgecar eval``: picture quality, measured like the papers."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgecar.cli.output import (
    Codec,
    EngineName,
    Json,
    PrecisionName,
    engine_line,
    next_step,
    print_json,
    progress_bar,
    stderr,
    stdout,
)

app = typer.Typer(help="Measure picture quality like the papers.", no_args_is_help=True)
QUALITIES = [10, 20, 30, 40]


@app.callback()
def studies() -> None:
    """Measure picture quality like the papers."""


@app.command("jpeg")
def jpeg(
    data: Annotated[Path, typer.Option(help="Folder of lossless pictures, e.g. classic5.")],
    quality: Annotated[
        list[int] | None, typer.Option(help="JPEG qualities: --quality 10 20 30 40.")
    ] = None,
    more: Annotated[list[int] | None, typer.Argument(hidden=True)] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="Shipped network or .onnx file; repeat for several.")
    ] = None,
    engine: EngineName = "auto",
    precision: PrecisionName = None,
    weights_for: Codec = "jpeg",
    save: Annotated[Path | None, typer.Option(help="Write a result file (JSON) there.")] = None,
    as_json: Json = False,
) -> None:
    """Code pictures as JPEG, restore them, and print PSNR, SSIM and PSNR-B before and after.

    Published rows of the same set stand beside ours.

    Example: edgecar eval jpeg --data classic5 --quality 10 20 30 40
    """
    from edgecar.bench.report import jpeg_table
    from edgecar.bench.results import new_results, write_results
    from edgecar.evaluate.stills import evaluate_jpeg, load_pictures
    from edgecar.runtime.restorer import Restorer

    pictures = load_pictures(data)
    # Options take one value each; numbers after the first arrive as arguments.
    qualities = [*(quality or []), *(more or [])] or QUALITIES
    rows = []
    with progress_bar("measuring") as progress:
        names = network or ["edgecar-s"]
        for done, name in enumerate(names):
            progress(done, len(names))
            with Restorer(name, engine, precision, codec=weights_for) as restorer:
                used = engine_line(restorer.engine.info)
                stderr.print(f"engine    {restorer.facts.model}: {used}")
                rows += evaluate_jpeg(
                    restorer.luma,
                    pictures,
                    qualities,
                    network=restorer.facts.model,
                    set_name=data.name,
                )
    if save:
        command = " ".join(["edgecar", *sys.argv[1:]])
        write_results(save, new_results("jpeg", rows, command=command))
    if as_json:
        print_json({"rows": rows})
        return
    stdout.print(jpeg_table(rows))
    if save:
        stdout.print(f"wrote     {save}")
    next_step("edgecar bench --res 1080p")
