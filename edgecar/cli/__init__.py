"""The ``edgecar`` command: one module a verb."""

import sys
from contextlib import suppress

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
from edgecar.cli.process import (
    Ending,
    check_written,
    ended_by_signals,
    one_line,
    open_streams,
)
from edgecar.errors import EdgecarError, SettingsError
from edgecar.files import REMEDIES

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

INTERRUPTED = 130  # what click exits with after Ctrl-C


def main() -> None:
    """Run the command line; failures that edgecar understands end in one line, not a traceback."""
    open_streams()
    keep_memory_together()
    with ended_by_signals() as ending:
        code = check_written(_exit_code(ending))
    sys.exit(code)


def _exit_code(ending: Ending) -> int:
    """Run the command and return its exit code; say on stderr why it failed."""
    try:
        app(prog_name="edgecar")
    except SystemExit as end:
        if end.code != INTERRUPTED or ending.number is None:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
    except EdgecarError as error:
        # A file of settings may have several mistakes, each told on a line of its own.
        several = isinstance(error, SettingsError)
        return _failed(str(error), error.exit_code, several=several)
    except OSError as error:
        why, remedy = error.strerror or str(error), REMEDIES.get(error.errno or 0)
        if error.filename is None and remedy:  # what is written piece by piece has no name
            return _failed(f"results cannot be written ({why}); {remedy}", 1)
        return _failed(f"{error.filename or 'the system'} refused: {why}", 1)
    except KeyboardInterrupt:
        pass
    else:
        return 0
    return _failed("interrupted; unfinished files were removed", ending.exit_code)


def _failed(why: str, code: int, *, several: bool = False) -> int:
    told = "\n".join(map(one_line, why.splitlines())) if several else one_line(why)
    with suppress(OSError):
        sys.stderr.write(f"edgecar: {told}\n")
    return code
