"""``python -m benchmarks.run.release``: admit trained weights to those that ship.

Rounds the checkpoint to half precision, exports a compact artifact from the rounded weights,
measures it on test sets and writes the manifest entry, so that no figure there was typed by hand.
Weights that ship already can be admitted again, which measures them anew.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace as changed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import onnx
import typer
from safetensors.torch import save_file

from benchmarks.run.networks import COUNTED_SIDE
from benchmarks.run.study import run_study
from edgecar.artifact import compact, read_artifact, weights_stem
from edgecar.bench.complexity import complexity
from edgecar.bench.machine import COMMIT, machine_facts, machine_line
from edgecar.errors import CheckpointError, GateError, SettingsError
from edgecar.evaluate.clips import load_clips, load_pictures
from edgecar.evaluate.metrics import Luma, psnr
from edgecar.evaluate.quality import evaluate_jpeg, evaluate_video
from edgecar.evaluate.study import NetworkMethod
from edgecar.exporter.checks import known_answer
from edgecar.exporter.to_onnx import Exported, export
from edgecar.files import WEIGHTS, atomic_write
from edgecar.media.pictures import jpeg_coded
from edgecar.media.video_codec import VideoCodec, VideoCoding, video_coded
from edgecar.metadata import coder_of, write_metadata
from edgecar.runtime.restorer import Restorer
from edgecar.spec import CODERS, WEIGHTS_FOR, Coder, weights_for_purpose
from edgecar.zoo.checkpoints import Loaded, load_network, rounded
from edgecar.zoo.shipped import MANIFEST, WORST, codec_of, manifest

QUALITIES = (10, 20, 30, 40)
QUANTISERS: dict[VideoCodec, tuple[str, tuple[int, ...]]] = {
    "h264": ("crf", (29, 35, 41, 47)),
    "hevc": ("qp", (22, 27, 32, 37)),
}
TILING_FRAMES = 5  # coded of each clip to have one frame that is no key frame
LICENCE = "Apache-2.0"
TILE_PX = 256  # smaller than any default window, so that a pooling network is put to the test
OF_THE_ENTRY = ("trained_on", "purpose")  # of a training, what the entry itself says
NOISE_DB = 0.005  # what rounding, and the arithmetic of another machine, may change

Entry = dict[str, Any]
"""One entry of the manifest; see `edgecar.zoo.shipped.manifest`."""


def admit(
    weights: Annotated[
        Path, typer.Argument(help="Weights of edgecar train, or shipped ones (.safetensors).")
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Test sets of pictures; for video, the suite's folder."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also if they are worse than those that ship.")
    ] = False,
    every: Annotated[
        int, typer.Option(min=1, help="Frames of a clip of which one counts; they are much alike.")
    ] = 5,
    answer_only: Annotated[
        bool,
        typer.Option("--answer-only", help="Renew the known answer of shipped WEIGHTS; no more."),
    ] = False,
) -> None:
    """Ship WEIGHTS: round, export, measure, and enter them in the manifest."""
    if answer_only:
        renew_answer(weights.with_suffix(".onnx"))
        return
    if not data:
        raise SettingsError("got no test sets, need some to measure on; give --data FOLDER")
    training = training_of(weights)
    codec = coder_of(training["trained_on"])
    if codec is None:
        raise CheckpointError(
            f"weights were trained on {training['trained_on']!r}, which names no coder; need one "
            f"first: {', '.join(CODERS)}"
        )
    made_for = weights_for_purpose(codec, training.get("purpose", "view"))
    if made_for not in WEIGHTS_FOR:
        raise CheckpointError(f"weights are for {made_for}; need one of {', '.join(WEIGHTS_FOR)}")
    loaded = load_network(weights)
    with TemporaryDirectory() as folder:
        checkpoint = Path(folder) / f"{weights_stem(loaded.card.name, made_for)}.safetensors"
        save_file(rounded(loaded.network.state_dict()), checkpoint)
        checkpoint.with_suffix(".json").write_text(json.dumps(training))  # which export reads
        done = export(checkpoint)
        model = onnx.load(done.path)
        compact(model, checkpoint)
        done.path.write_bytes(model.SerializeToString())
        renew_answer(done.path)  # weights that only the graph holds are rounded now
        entry = new_entry(loaded, done, codec, training, data, every)
        old = next((e for e in manifest() if e["file"] == entry["file"]), None)
        if old is not None:
            typer.echo(comparison(entry, old))
            if not replace:
                refuse_worse(entry, old)
        place = WEIGHTS / entry["file"]
        _copy(checkpoint, place)
        _copy(done.path, place.with_suffix(".onnx"))
    _enter(entry)
    typer.echo(json.dumps(entry, indent=2))


def renew_answer(path: Path) -> None:
    """Compute the known answer of a shipped artifact again; nothing else of it changes."""
    artifact = read_artifact(path)
    answer = known_answer(onnx.load_model_from_string(artifact.onnx), artifact.metadata)
    model = onnx.load(path, load_external_data=False)  # as it lies there: weights stay outside
    write_metadata(model, changed(artifact.metadata, known_answer=answer))
    with atomic_write(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def training_of(weights: Path) -> dict[str, Any]:
    """How weights were made: from the file beside them, or from the manifest if they ship."""
    if weights.resolve().parent == WEIGHTS.resolve():
        for entry in manifest():
            if entry["file"] == weights.name:
                known = {key: entry[key] for key in ("trained_on", "purpose") if key in entry}
                return {**known, **entry["training"]}
    beside = weights.with_suffix(".json")
    if not beside.is_file():
        raise CheckpointError(f"{beside} is missing; keep what edgecar train wrote together")
    metadata: dict[str, Any] = json.loads(beside.read_text())
    return {**metadata, "seed": metadata["recipe"]["seed"]}


def new_entry(
    loaded: Loaded,
    done: Exported,
    codec: Coder,
    training: dict[str, Any],
    data: list[Path],
    every: int,
) -> Entry:
    """The manifest entry of an exported artifact, measured."""
    metadata = done.metadata
    cost = complexity(loaded.network, loaded.channels, COUNTED_SIDE, COUNTED_SIDE)
    return {
        "network": metadata.model,
        "for": codec,
        "purpose": metadata.purpose,
        "file": done.path.with_suffix(".safetensors").name,
        "sha256": metadata.weights_sha256,
        "licence": LICENCE,
        "trained_on": metadata.trained_on,
        "config": loaded.config,
        "cost": {
            "params": cost.params,
            "kmacs_per_px": round(cost.kmacs_per_px, 3),
            "halo_px": metadata.halo_px,
        },
        **measured(done.path, codec, data, every),
        "training": {key: training[key] for key in training if key not in OF_THE_ENTRY},
        "measured": {
            "commit": COMMIT,
            "machine": machine_line(machine_facts()),
            **({} if codec == "jpeg" else {"every": every}),
        },
    }


def measured(
    artifact: Path, codec: Coder, data: list[Path], every: int
) -> dict[str, dict[str, float]]:
    """Quality, and what tiles cost, as far as the manifest wants to know for a coder."""
    if codec == "jpeg":
        stills = ((clean, jpeg_coded(clean, QUALITIES[0])) for _, clean in load_pictures(data[0]))
        return {"psnr": measured_psnr(artifact, data), "tiling": tiling_cost(artifact, stills)}
    if len(data) > 1:
        raise SettingsError(f"got {len(data)} folders for {codec}, need one; give the suite's")
    return {
        "gain_db": measured_gain(artifact, codec, data[0], every),
        "tiling": tiling_cost(artifact, coarse_frames(codec, data[0])),
    }


def measured_psnr(artifact: Path, sets: list[Path]) -> dict[str, float]:
    """Mean luma PSNR in dB by set and quality, in float32."""
    figures = {}
    with Restorer(artifact, precision="fp32") as restorer:
        for folder in sets:
            methods = [NetworkMethod(restorer)]
            for row in evaluate_jpeg(load_pictures(folder), folder.name, QUALITIES, methods):
                figures[f"{folder.name} q{row['quality']}"] = round(row["psnr_out"], 3)
    return figures


def measured_gain(artifact: Path, codec: VideoCodec, data: Path, every: int) -> dict[str, float]:
    """Mean gain in luma PSNR over coded clips, in dB by quantiser, in float32."""
    label, quantisers = QUANTISERS[codec]
    clips = load_clips(data).clips
    with Restorer(artifact, precision="fp32") as restorer:
        method = NetworkMethod(restorer)
        rows = list(evaluate_video(clips, codec, quantisers, [method], every=every))
    gains = [(row["quantiser"], row["psnr_out"] - row["psnr_in"]) for row in rows]
    means = {
        f"{label} {quantiser}": float(np.mean([gain for q, gain in gains if q == quantiser]))
        for quantiser in quantisers
    }
    worst = min(gain for _, gain in gains)
    return {name: round(gain, 3) for name, gain in {**means, WORST: worst}.items()}


def coarse_frames(codec: VideoCodec, data: Path) -> Iterator[tuple[Luma, Luma]]:
    """Clean and coded luma of one frame of each clip, at the coarsest quantiser."""
    coding = VideoCoding(codec, QUANTISERS[codec][1][-1])
    for clip in load_clips(data).clips:
        frames = changed(clip, frames=TILING_FRAMES).load()
        yield frames[-1].y, video_coded(frames, coding).frames[-1].y


def tiling_cost(artifact: Path, pictures: Iterable[tuple[Luma, Luma]]) -> dict[str, float]:
    """Change of PSNR by small tiles against whole pictures, where a network pools."""
    with Restorer(artifact, precision="fp32", tile=(TILE_PX, TILE_PX), reuse=False) as restorer:
        if restorer.metadata.context == "local":
            return {}
        changes = [
            psnr(clean, restorer.luma(coded)) - psnr(clean, restorer.whole(coded))
            for clean, coded in pictures
        ]
    return {"tile_px": TILE_PX, "tiled_minus_whole_db": round(float(np.mean(changes)), 5)}


def refuse_worse(new: Entry, old: Entry) -> None:
    """Compare what was measured of both, on average."""
    shared = [name for name in figures(old) if name in figures(new) and name != WORST]
    if not shared:
        raise GateError("nothing was measured of old and new alike; give the same --data")
    change_db = float(np.mean([figures(new)[name] - figures(old)[name] for name in shared]))
    if not change_db >= -NOISE_DB:  # also refuses NaN
        raise GateError(
            f"{new['network']} for {codec_of(new)} would lose {-change_db:.3f} dB on average; "
            "nothing written: train better ones, or give --replace"
        )


def comparison(new: Entry, old: Entry) -> str:
    """A line for each measured quality: what ships, and what would."""
    names = dict.fromkeys([*figures(old), *figures(new)])
    pairs = [(name, _decibels(figures(old), name), _decibels(figures(new), name)) for name in names]
    rows = [("dB", "ships", "would ship"), *pairs]
    return "\n".join(f"{name:<14} {before:>8} {after:>12}" for name, before, after in rows)


def _decibels(measured_db: dict[str, float], name: str) -> str:
    return f"{measured_db[name]:.3f}" if name in measured_db else "–"


def figures(entry: Entry) -> dict[str, float]:
    """Measured quality in dB by name."""
    found: dict[str, float] = entry.get("psnr") or entry.get("gain_db") or {}
    return found


def _copy(made: Path, place: Path) -> None:
    with atomic_write(place) as temporary:
        temporary.write_bytes(made.read_bytes())


def _enter(entry: Entry) -> None:
    """Replace the manifest's entry for the same network and codec, or add one."""
    others = [e for e in manifest() if e["file"] != entry["file"]]
    entries = sorted([*others, entry], key=lambda e: (e["network"], codec_of(e)))
    with atomic_write(WEIGHTS / MANIFEST) as temporary:
        temporary.write_text(json.dumps(entries, indent=2) + "\n")


if __name__ == "__main__":
    run_study(admit)
