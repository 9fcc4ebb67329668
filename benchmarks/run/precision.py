"""Loss and speed of precisions: ``python -m benchmarks.run.precision --data DIR --save FILE``.

Every network that ships, in FP32, in bfloat16 where the engine computes it, in FP16 and in INT8:
whether the gate lets it pass, PSNR on test sets or coded clips, size of the file, and frames a
second on whole frames, every pixel computed, all in turn in one process. Where the gate refuses
INT8 of the weights that ship, those of ``edgecar train --qat`` are taken, if they are at hand. Rows
that the file has already are kept: what was broken off goes on.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from benchmarks.run.int8_losses import MADE_FOR, int8_row
from benchmarks.run.study import own_command, run_study
from edgecar.artifact import Artifact, read_artifact, weights_stem
from edgecar.bench.results import new_results, resumed, write_results
from edgecar.bench.select_precision import ROUNDS, RUN_BY, Speed, dense_restorer, native_form, timed
from edgecar.errors import GateError, SettingsError
from edgecar.evaluate.clips import ClipSet, Pictures, load_clips, load_pictures
from edgecar.evaluate.quality import evaluate_jpeg, evaluate_video
from edgecar.evaluate.study import NetworkMethod
from edgecar.exporter.lower import Lowering
from edgecar.exporter.recipe import ForEngine, Lower
from edgecar.exporter.to_onnx import export
from edgecar.media.video_codec import VideoCodec
from edgecar.metadata import Quality
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.tune import MIN_ROUNDS, median_ratio
from edgecar.spec import Precision, Size, WeightsFor
from edgecar.zoo.shipped import ShippedWeights, shipped_weights

QUALITY = 10  # of JPEG, as the papers' tables have it first
STILLS = ("classic5", "live1")
QUANTISERS: dict[VideoCodec, tuple[int, ...]] = {"h264": (29, 35, 41, 47), "hevc": (22, 27, 32, 37)}
FRAMES = 150  # of a clip: two and a half GOPs
SIZE: Size = (1080, 1920)
ROUNDED_BY = "onnxruntime"  # which computes halves as the graph says where the engine does not
Row = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """An artifact, or why there is none.

    Attributes:
        artifact: Artifact that passed; None if none did.
        bytes: Size of its file.
        why: Reason of the gate.
    """

    artifact: Artifact | None
    bytes: int | None = None
    why: str = ""


@dataclass(frozen=True)
class Study:
    """Data and settings of the study.

    Attributes:
        stills: Pictures of each test set, by its name in the rows.
        clips: Sources of the video study; none are coded where no weights are for it.
        every: Frames of a clip of which one counts.
        size: ``(height, width)`` of the frames that are timed.
        seconds: To time a network for.
        rounds: To time it for at least.
        for_engine: The engine that INT8 is written down for, which runs all.
        qat: Where weights of ``edgecar train --qat`` lie, as ``<network>.<coder>.qat.safetensors``.
    """

    stills: Mapping[str, Pictures]
    clips: ClipSet
    every: int
    size: Size
    seconds: float
    rounds: int
    for_engine: ForEngine
    qat: Path | None = None

    @property
    def engine(self) -> str:
        """Name of the engine that runs all."""
        return RUN_BY[self.for_engine]


def measure(
    save: Annotated[Path, typer.Option(help="Result file; what it has already is kept.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with classic5, live1 and the files of the video suite."),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Only weights whose name contains this: edgecar-s.jpeg.")
    ] = None,
    arithmetics: Annotated[
        bool,
        typer.Option(
            "--arithmetics",
            help="Only INT8: its loss by every engine here on the gate's pictures, nothing timed.",
        ),
    ] = False,
    qat: Annotated[
        Path | None, typer.Option(help="Folder of weights that edgecar train --qat made.")
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, help="Frames of a clip of which one counts; they are much alike.")
    ] = 25,
    frames: Annotated[int, typer.Option(min=2, help="Frames of a clip, at most.")] = FRAMES,
    width: Annotated[int, typer.Option(min=16, help="Width of timed frames.")] = SIZE[1],
    height: Annotated[int, typer.Option(min=16, help="Height of timed frames.")] = SIZE[0],
    seconds: Annotated[float, typer.Option(min=0, help="To time a network for, at least.")] = 20,
    rounds: Annotated[
        int, typer.Option(min=MIN_ROUNDS, help="To time it for at least; deep networks take long.")
    ] = ROUNDS,
) -> None:
    """Measure and save."""
    if arithmetics:
        _measure_arithmetics(save, only)
        return
    if data is None:
        raise SettingsError("got no --data, which all but --arithmetics measures on; give it")
    study = Study(
        {f"{name}_db": load_pictures(data / name) for name in STILLS},
        load_clips(data, frames=frames),
        every,
        (height, width),
        seconds,
        rounds,
        native_form(),
        qat,
    )
    rows, command = resumed(save, own_command("benchmarks.run.precision"))
    done = {(row["network"], row["weights"]) for row in rows}
    for weights in shipped_weights():
        stem = weights_stem(weights.network, weights.codec)
        if (only or "") not in stem or (weights.network, weights.codec) in done:
            continue
        for row in measured(weights, study):
            typer.echo(line(row))
            rows.append(row)
        write_results(save, new_results("precision", rows, command))
    typer.echo(f"wrote     {save}; next: make tables")


def _measure_arithmetics(save: Path, only: str | None) -> None:
    """Measure INT8 by every arithmetic, and save; rows that the file has are kept."""
    rows, command = resumed(save, own_command("benchmarks.run.precision"))
    done = {(row["network"], row["weights"], row["made_for"]) for row in rows}
    for made_for, weights in product(MADE_FOR, shipped_weights()):
        wanted = (only or "") in weights_stem(weights.network, weights.codec)
        if wanted and (weights.network, weights.codec, made_for) not in done:
            rows.append(int8_row(weights, made_for))
            typer.echo(" ".join(f"{key}={value}" for key, value in rows[-1].items()))
            write_results(save, new_results("int8", rows, command))
    typer.echo(f"wrote     {save}; next: make tables")


def measured(weights: ShippedWeights, study: Study) -> Iterator[Row]:
    """The rows of one network's weights, FP32 first."""
    with TemporaryDirectory() as folder:
        made = artifacts_of(weights, study, Path(folder))
    found = {name: m.artifact for name, m in made.items() if m.artifact}
    forced: dict[Precision, Precision] = {name: name for name in ("fp32", "bf16") if name in found}
    speeds = timed(found, study.engine, study.size, study.seconds, forced, least=study.rounds)
    engines = {name: study.engine if speeds[name].rates else ROUNDED_BY for name in found}
    decibels = quality_of(found, engines, forced, weights.codec, study)
    for name, each in made.items():
        yield _row(weights, study, name, each, speeds, decibels.get(name, {}))


def artifacts_of(weights: ShippedWeights, study: Study, folder: Path) -> dict[Precision, Made]:
    """The network in every arithmetic, as far as the gate lets it pass and the engine knows it."""
    plain = folder / "fp32.onnx"
    export(weights.network, plain, codec=weights.codec)
    base = read_artifact(plain)
    made: dict[Precision, Made] = {"fp32": Made(base, plain.stat().st_size)}
    if _computes_bf16(base, study.engine):
        made["bf16"] = made["fp32"]
    made["fp16"] = _lowered(weights.network, weights.codec, "fp16", study, folder)
    made["int8"] = _lowered(weights.network, weights.codec, "int8", study, folder)
    stem = weights_stem(weights.network, weights.codec)
    tuned = study.qat and study.qat / f"{stem}.qat.safetensors"
    if made["int8"].artifact is None and tuned and tuned.is_file():
        made["int8"] = _lowered(str(tuned), weights.codec, "int8", study, folder)
    return made


def _lowered(
    checkpoint: str, codec: WeightsFor, precision: Lower, study: Study, folder: Path
) -> Made:
    path = folder / f"{precision}.onnx"
    lowering = Lowering(precision, for_engine=study.for_engine)
    try:
        export(checkpoint, path, codec=codec, lowering=lowering)
    except GateError as error:
        return Made(None, why=str(error).partition(";")[0])
    return Made(read_artifact(path), path.stat().st_size)


def _computes_bf16(artifact: Artifact, engine: str) -> bool:
    """Tell if an engine chooses bfloat16 for an FP32 graph: where it does, that is faster."""
    with dense_restorer(artifact, engine) as restorer:
        return restorer.engine.info.precision == "bf16"


def quality_of(
    artifacts: Mapping[Precision, Artifact],
    engines: Mapping[Precision, str],
    forced: Mapping[Precision, Precision],
    codec: WeightsFor,
    study: Study,
) -> dict[Precision, dict[str, float]]:
    """Mean PSNR in dB by arithmetic and column."""
    with ExitStack() as opened:
        restorers = {
            name: opened.enter_context(dense_restorer(artifact, engines[name], forced.get(name)))
            for name, artifact in artifacts.items()
        }
        if codec == "jpeg":
            return {name: _stills_db(restorer, study) for name, restorer in restorers.items()}
        methods = [NetworkMethod(restorer, name) for name, restorer in restorers.items()]
        coder: VideoCodec = "hevc" if codec == "hevc" else "h264"
        clips = study.clips.clips
        rows = list(evaluate_video(clips, coder, QUANTISERS[coder], methods, study.every))
    return {
        name: {"video_db": fmean(row["psnr_out"] for row in rows if row["network"] == name)}
        for name in artifacts
    }


def _stills_db(restorer: Restorer, study: Study) -> dict[str, float]:
    found: dict[str, float] = {}
    for column, pictures in study.stills.items():
        (row,) = evaluate_jpeg(pictures, column, (QUALITY,), [NetworkMethod(restorer)])
        found[column] = row["psnr_out"]
    return found


def _row(
    weights: ShippedWeights,
    study: Study,
    name: Precision,
    made: Made,
    speeds: Mapping[Precision, Speed],
    decibels: Mapping[str, float],
) -> Row:
    base, speed = speeds["fp32"], speeds.get(name)
    rates: Sequence[float] = speed.rates if speed else ()
    why = made.why
    if speed and not rates:
        why = f"{speed.provider} computes it in {speed.computed} here"
    quality = made.artifact.metadata.quality if made.artifact else None
    outcome = "passed" if rates else "not run" if speed else "refused"
    return {
        "network": weights.network,
        "weights": weights.codec,
        "precision": name,
        "outcome": outcome,
        "why": why,
        "engine": study.engine,
        "provider": base.provider,
        "computed": speed.computed if speed else None,
        **gate_figures(quality),
        "bytes": made.bytes,
        **{key: _rounded(decibels.get(key), 3) for key in ("classic5_db", "live1_db", "video_db")},
        "height": study.size[0],
        "width": study.size[1],
        "rounds": len(rates) or None,
        "fps": _rounded(median(rates), 3) if rates else None,
        "to_fp32": _rounded(median_ratio(rates, base.rates), 4) if rates else None,
    }


def gate_figures(quality: Quality | None) -> Row:
    """Return the gate's part of a row; None where nothing passed it."""
    return {
        "method": quality.method if quality else "",
        "layers": quality.layers if quality else None,
        "kept": len(quality.kept) if quality else None,
        "loss_db": _rounded(quality.loss_db, 4) if quality else None,
        "worst_db": _rounded(quality.worst_db, 4) if quality else None,
        "shift_codes": _rounded(quality.shift_codes, 3) if quality else None,
        "budget_db": quality.budget_db if quality else None,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def line(row: Row) -> str:
    """A row in words."""
    head = f"{row['network']} for {row['weights']}, {row['precision']}: {row['outcome']}"
    if row["fps"] is None or row["to_fp32"] is None:
        return f"{head}; {row['why']}"
    measured_db = (row["classic5_db"], row["live1_db"], row["video_db"])
    decibels = [f"{value:.3f}" for value in measured_db if value is not None]
    return (
        f"{head}; {' and '.join(decibels)} dB, {row['fps']:.2f} frames/s in {row['computed']}, "
        f"{row['to_fp32']:.2f} times FP32"
    )


if __name__ == "__main__":
    run_study(measure)
