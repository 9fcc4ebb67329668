"""The ``edgecar`` command: one module a verb."""

import sys

import typer

from edgecar.allocator import keep_memory_together
from edgecar.cli import (
    batch,
    bench,
    build,
    detect,
    doctor,
    evaluate,
    export,
    inspect,
    models,
    run,
    score,
    serve,
    train,
    train_scorer,
    tune,
)
from edgecar.errors import EdgecarError

app = typer.Typer(
    name="edgecar",
    help="Clean compression artifacts from camera pictures, in real time, beside the camera.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
app.command("export")(export.command)
app.command("build")(build.command)
app.command("inspect")(inspect.command)
app.command("run")(run.command)
app.command("batch")(batch.command)
app.command("serve")(serve.command)
app.command("bench")(bench.command)
app.command("tune")(tune.command)
app.command("models")(models.command)
app.command("train")(train.command)
app.command("score")(score.command)
app.command("train-scorer")(train_scorer.command)
app.command("doctor")(doctor.command)
evaluate.app.command("detect")(detect.command)
app.add_typer(evaluate.app, name="eval")

INTERRUPTED = 130  # what shells report for Ctrl-C


def main() -> None:
    """Run the command line; failures that edgecar understands end in one line, not a traceback."""
    keep_memory_together()
    try:
        app()
    except EdgecarError as error:
        sys.stderr.write(f"edgecar: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("edgecar: interrupted; unfinished files were removed\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(1)  # the reader of our output went away
