"""``edgecar tune``: find out what is fastest on this machine, and keep it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgecar.artifact import is_artifact_path
from edgecar.cli.output import (
    EngineName,
    Json,
    PrecisionName,
    engine_line,
    next_step,
    print_json,
    size_named,
    status_line,
    stderr,
    stdout,
    warn_if_slow,
)
from edgecar.files import quoted
from edgecar.media.sources import source_from
from edgecar.spec import Size, WeightsFor

if TYPE_CHECKING:
    from edgecar.bench.select_precision import Contest
    from edgecar.runtime.tune import Setup
    from edgecar.runtime.tuning import Tuning

WORDS: dict[str, dict[Any, str]] = {"threads": {None: "all"}, "reuse": {True: "on", False: "off"}}
"""Words for values, by factor."""


def command(
    clip: Annotated[
        str | None, typer.Argument(metavar="[CLIP]", help="A video as the camera gives it.")
    ] = None,
    network: Annotated[
        str, typer.Option(help="A network that ships with weights, or an exported .onnx file.")
    ] = "edgecar-s",
    engine: EngineName = "auto",
    precision: PrecisionName = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads at most; default: all.")
    ] = None,
    weights_for: Annotated[
        WeightsFor | None,
        typer.Option("--for", help="Take shipped weights for this; default: what CLIP is."),
    ] = None,
    frames: Annotated[int, typer.Option(min=2, help="Number of frames measured per pass.")] = 100,
    seconds: Annotated[
        float, typer.Option(min=0, help="Seconds for each of up to six comparisons.")
    ] = 10,
    precisions: Annotated[
        bool,
        typer.Option(help="Make, judge and time FP16 and INT8 of shipped weights, too."),
    ] = True,
    target: Annotated[
        str | None,
        typer.Option(help="Box to predict for instead of measuring on a clip (engines/targets)."),
    ] = None,
    fps: Annotated[float, typer.Option(min=0.1, help="Frame rate wanted, for --target.")] = 30,
    res: Annotated[
        str, typer.Option(help="Frame size for --target: 480p, 720p, 1080p, 4k or WIDTHxHEIGHT.")
    ] = "1080p",
    as_json: Json = False,
) -> None:
    """Measure ways to restore CLIP on this machine, and keep the fastest for `edgecar run`.

    It is kept for this network, engine, precision, number of threads, processor and frame size, and
    only if it is at least 3 % faster than the defaults. The restored video is the same bytes. Lower
    precisions change the picture: of shipped weights they are judged and timed, but not kept; the
    command that exports the fastest is printed.

    With --target nothing is measured: which networks may fit a box is predicted from the ceilings
    that are published for it.

    Example: edgecar tune clip.mp4
    """
    from edgecar.errors import MediaError, SettingsError
    from edgecar.media.reader import open_reader
    from edgecar.runtime.choice import choose_weights
    from edgecar.runtime.restorer import Restorer
    from edgecar.runtime.tune import Setup, Speeds, search
    from edgecar.runtime.tuning import Tuning, store_tuning

    if (clip is None) == (target is None):
        raise SettingsError("need a CLIP to measure on, or --target with a box to predict for")
    if target is not None:
        _predict(target, size_named(res), fps, as_json)
        return
    assert clip is not None
    with open_reader(clip) as reader:
        if reader.live:
            raise MediaError(f"{clip} is live and cannot be read again; record a clip of it first")
        size, codec = reader.size, reader.codec
    choice = choose_weights(network, codec, weights_for)
    with Restorer(choice.artifact, engine, precision, threads=threads) as restorer:
        info, key = restorer.engine.info, restorer.tunings.key(size)

    def say(factor: str, speeds: Speeds) -> None:
        values = {getattr(tuning, factor): fps for tuning, fps in speeds.items()}
        words = WORDS.get(factor, {})
        tried = "; ".join(f"{words.get(value, value)}: {fps:.1f}" for value, fps in values.items())
        stderr.print(f"{factor:<12}{tried} frames/s")

    if not as_json:
        stderr.print(f"network     {choice.reason}")
        stderr.print(f"engine      {engine_line(info)}")
    warn_if_slow(choice.artifact.metadata, info)
    setup = Setup(clip, choice.artifact, engine, precision, threads, frames)
    found = search(setup.factors(size), setup.contender, seconds, say)
    lower = None
    if precisions and precision is None and not is_artifact_path(network):
        lower = _precisions(setup, network, found.tuning, size, seconds)
    path = None
    if found.tuning == Tuning():
        key.path.unlink(missing_ok=True)  # what was kept before is no faster now
    else:
        path = store_tuning(key, found.tuning, found.gain)
    if as_json:
        trials = {
            factor: [{"tuning": asdict(tuning), "fps": fps} for tuning, fps in speeds.items()]
            for factor, speeds in found.trials.items()
        }
        kept = None if path is None else str(path)
        table = {"tuning": asdict(found.tuning), "gain": found.gain, "path": kept}
        print_json({**table, "trials": trials, "precisions": lower and asdict(lower)})
        return
    if path is None:
        stdout.print("chosen      the defaults: nothing is 3 % faster here; nothing was kept")
    else:
        stdout.print(f"chosen      {found.tuning}: {found.gain:.2f} times as fast as the defaults")
        stdout.print(f"wrote       {path}")
    if lower:
        from edgecar.bench.tables import contest_table

        stdout.print(contest_table(lower))
        if lower.taken != "fp32":
            coder = choice.artifact.metadata.coder
            form = " --for-engine onnxruntime" if info.name == "onnxruntime" else ""
            next_step(
                f"edgecar export {quoted(network)} --for {coder} --precision {lower.taken}{form}"
            )
            return
    next_step(f"edgecar run {quoted(source_from(clip).shown)} -o null --network {quoted(network)}")


def _precisions(
    setup: "Setup", network: str, tuning: "Tuning", size: Size, seconds: float
) -> "Contest | None":
    """Precisions of shipped weights on the clip; None where they cannot be made or run."""
    try:
        from edgecar.bench.select_precision import candidates, form_for, judged, timed_on_clip
        from edgecar.exporter.lower import Lowering
        from edgecar.exporter.to_onnx import source_of
    except ImportError as error:
        stderr.print(
            f"note        lower precisions not tried: {error.name} is not installed; "
            "pip install 'edgecar[train]'"
        )
        return None
    form, weights_for = form_for(setup.engine), setup.artifact.metadata.weights_for
    if form is None or weights_for is None:
        return None
    source = source_of(network, codec=weights_for)
    with status_line("precisions") as report:
        lowering = Lowering("int8", for_engine=form)
        artifacts, refused = candidates(source, source.graph(), lowering, report)
        report("timing")
        speeds = timed_on_clip(setup, artifacts, tuning, seconds)
    return judged(artifacts, speeds, refused, size)


def _predict(target: str, size: Size, fps: float, as_json: bool) -> None:
    from edgecar.bench.predict import predictions
    from edgecar.engines.targets import target_named

    box = target_named(target)
    found = sorted(predictions(box, size), key=lambda each: -each.fps)
    if as_json:
        rows = [{**asdict(each), "fits": each.fps >= fps} for each in found]
        metadata = {"target": box.name, "size": size, "fps": fps, "source": box.source}
        print_json({"kind": "predicted", **metadata, "rows": rows})
        return
    stdout.print(
        f"predicted for {box.title}, {size[1]}x{size[0]}, every pixel computed: at most so many "
        "frames/s; not measured"
    )
    for each in found:
        word = "may fit" if each.fps >= fps else "does not fit"
        stdout.print(
            f"{each.network:<12}{each.precision:<6}{each.fps:>8.0f}   bound by {each.bound_by:<12}"
            f"{word} {fps:g}"
        )
    stdout.print(f"ceilings: {box.source}")
    next_step(f"edgecar build {found[0].network} --target {box.name}")
