"""A network to a checked ONNX artifact."""

import json
import logging
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto
from torch import nn

from edgecar.artifact import Artifact, weights_stem
from edgecar.engines.trt_lint import refuse_unsupported
from edgecar.errors import ExportError, GateError
from edgecar.exporter.calibrate import ranges_from_reaches
from edgecar.exporter.checks import known_answer, parity_error
from edgecar.exporter.lower import Lowering, Report, Trained, lowered_artifact
from edgecar.exporter.receptive import reception_of
from edgecar.exporter.recipe import Recipe, recipe_for
from edgecar.exporter.restoring import Restored, restoration
from edgecar.exporter.upsampling import convolve_upsampling
from edgecar.files import atomic_write, is_bare_name, sha256_of
from edgecar.metadata import Metadata, write_metadata
from edgecar.spec import (
    QUANTISER,
    WEIGHTS_FOR,
    Precision,
    Purpose,
    WeightsFor,
    coder_and_purpose,
)
from edgecar.zoo.card import Card, takes_quantiser
from edgecar.zoo.checkpoints import Loaded, int8_training_of, load_network
from edgecar.zoo.registry import CARDS
from edgecar.zoo.shipped import shipped_checkpoint

INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True)
class Exported:
    """Outcome of an export.

    Attributes:
        path: The ONNX file.
        metadata: Its metadata.
        params: Trainable scalars of the deployed network.
        shipped: True if the weights were edgecar's own rather than a file of the user's.
        restored: Measured gain on degraded photographs; None for shipped weights, which were
            measured before they shipped, and where it was not asked for.
        source: Place of the weights in the checkpoint; empty if the file is the weights.
    """

    path: Path
    metadata: Metadata
    params: int
    shipped: bool
    restored: Restored | None = None
    source: str = ""


def export(
    checkpoint: str | Path,
    output: str | Path | None = None,
    *,
    codec: WeightsFor = "jpeg",
    recipe: Path | None = None,
    trained_on: str = "",
    lowering: Lowering | None = None,
    restores: bool = True,
    report: Report = lambda _what: None,
) -> Exported:
    """Turn a checkpoint into an ONNX artifact that was checked against torch.

    Args:
        checkpoint: A ``.pt``, ``.pth``, ``.pkl`` or ``.safetensors`` file; or the name of a network
            of the zoo, with a suffix or without, for its shipped weights. A name that has a folder
            in it always means a file.
        output: Where to write; if not given, beside the checkpoint, or for shipped weights
            ``<network>.<codec>.onnx`` in the current folder.
        codec: Which shipped weights: what the input will be coded with, and the purpose if it is
            not to view, as in ``h264:detect``.
        recipe: Settings to use instead of the network's own.
        trained_on: Degradation that the weights undo, the coder first, for the record; known for
            shipped ones, and for those that ``edgecar train`` left its metadata beside.
        lowering: A precision below FP32, if wanted.
        restores: Refuse a network that makes coded and noisy photographs worse. False exports
            whatever it is, for its speed or as a stand-in: one that is made by hand, say. Weights
            that look untrained need no False: they are exported, and it is noted.
        report: Told what takes long.

    Returns:
        The written file and its metadata.

    Raises:
        CheckpointError: The checkpoint is unreadable, unsafe or unknown.
        ExportError: The graph has an operator that TensorRT does not take.
        GateError: The network makes pictures worse, the ONNX file differs from torch by more than
            the recipe allows, or a lower precision loses too much; nothing is written.
        DataError: The frames to calibrate on are too few or too small.
    """
    source = source_of(
        checkpoint, codec=codec, recipe=recipe, trained_on=trained_on, restores=restores
    )
    path = source.output(lowering.precision if lowering else "fp32", output)
    model, metadata = source.graph()
    if lowering:
        trained = source.trained(model) if lowering.precision == "int8" else None
        model, metadata = lowered_artifact(
            model, metadata, lowering, source.recipe, report, trained
        )
    return source.written(Artifact(metadata, model.SerializeToString()), path)


@dataclass(frozen=True)
class Source:
    """A checkpoint that was found and read, and how it is to be exported."""

    checkpoint: Path
    stem: str
    folder: Path
    loaded: Loaded
    trained_on: str
    purpose: Purpose
    recipe: Recipe
    shipped: bool
    restored: Restored | None = None

    def output(self, precision: Precision, given: str | Path | None = None) -> Path:
        """Return the path to write a precision to: the one given, or a name by the precision."""
        # Named by weights and precision, because several may be exported side by side.
        name = f"{self.stem}{'' if precision == 'fp32' else f'.{precision}'}.onnx"
        path = Path(given) if given else self.folder / name
        if path.suffix != ".onnx":
            better = path / name if path.is_dir() else path.with_suffix(".onnx")
            raise ExportError(f"output {path} has no .onnx suffix; write to {better}")
        return path

    def graph(self) -> tuple[ModelProto, Metadata]:
        """Return the checked FP32 graph; raises what `artifact_from_network` does."""
        sha256 = sha256_of(self.checkpoint)
        return artifact_from_network(
            self.loaded, self.recipe, sha256, self.trained_on, self.purpose
        )

    def trained(self, model: ModelProto) -> Trained | None:
        """Return the result of its training in eight bits; None if there was none.

        Raises:
            ExportError: The weights that it was fine-tuned from are gone: the gate compares with
                those, and not with what fine-tuning made of them in FP32.
        """
        training = int8_training_of(self.checkpoint)
        if training is None:
            return None
        ranges = ranges_from_reaches(model, training.reaches)
        name, start = self.loaded.card.name, training.start
        if not start:
            return Trained(ranges, model)
        path = shipped_checkpoint(name, start).path if start in WEIGHTS_FOR else Path(start)
        if not path.is_file() or sha256_of(path) != training.start_sha256:
            raise ExportError(
                f"{self.checkpoint} was fine-tuned from {start!r}, which is not here as it was, "
                "and the gate must compare with it; put it back, or train again"
            )
        before = load_network(path)
        reference = onnx_from_network(before.network, before.card, before.channels, self.recipe)
        return Trained(ranges, reference)

    def written(self, artifact: Artifact, path: Path) -> Exported:
        """Write what was made of it, whole or not at all."""
        with atomic_write(path) as temporary:
            temporary.write_bytes(artifact.onnx)
        params = sum(p.numel() for p in self.loaded.network.parameters())
        return Exported(
            path, artifact.metadata, params, self.shipped, self.restored, self.loaded.source
        )


def source_of(
    checkpoint: str | Path,
    *,
    codec: WeightsFor,
    recipe: Path | None = None,
    trained_on: str = "",
    restores: bool = True,
) -> Source:
    """Find, read and judge what is to be exported; arguments and failures as of `export`."""
    path, own = Path(checkpoint), None
    # Only a bare name of a network means our weights, and only if there is no such file.
    if is_bare_name(checkpoint) and not path.exists() and path.stem in [c.name for c in CARDS]:
        own = shipped_checkpoint(path.stem, codec)
        path, trained_on = own.path, own.trained_on
    loaded = load_network(path)
    noted = _noted_beside(path)
    purpose: Purpose = "detect" if noted.get("purpose") == "detect" else "view"
    if own:
        purpose = coder_and_purpose(own.codec)[1]
    trained_on = trained_on or str(noted.get("trained_on", ""))
    return Source(
        path,
        stem=weights_stem(own.network, own.codec) if own else path.stem,
        folder=Path() if own else path.parent,
        loaded=loaded,
        trained_on=trained_on,
        purpose=purpose,
        recipe=recipe_for(loaded.card.name, recipe),
        shipped=own is not None,
        restored=restoration(loaded, trained_on, path) if restores and not own else None,
    )


def _noted_beside(path: Path) -> dict[str, Any]:
    """Return what `edgecar train` notes beside its weights; nothing for other tools' files."""
    try:
        noted = json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def artifact_from_network(
    loaded: Loaded,
    recipe: Recipe,
    weights_sha256: str,
    trained_on: str,
    purpose: Purpose = "view",
) -> tuple[ModelProto, Metadata]:
    """Export, check and annotate a network; nothing is written.

    Raises:
        ExportError: An operator is unknown to TensorRT, or the file fails ONNX's own checks.
        GateError: Parity with torch is worse than the recipe allows.
    """
    model = onnx_from_network(loaded.network, loaded.card, loaded.channels, recipe)
    refuse_unsupported(model)
    reception = reception_of(model)
    error = parity_error(
        loaded.network, model.SerializeToString(), loaded.channels, reception.align_px
    )
    if not error <= recipe.parity_max_error:  # also refuses NaN
        raise GateError(
            f"ONNX differs from torch by {error:.2e} of 1.0, allowed {recipe.parity_max_error}; "
            "nothing written: raise parity_max_error in the recipe only if you know why"
        )
    metadata = Metadata(
        model=loaded.card.name,
        channels=loaded.channels,
        **vars(reception),
        precision="fp32",
        trained_on=trained_on,
        weights_sha256=weights_sha256,
        parity_max_error=error,
        parity_budget=recipe.parity_max_error,
        takes_quantiser=takes_quantiser(loaded.network),
        purpose=purpose,
    )
    metadata = replace(metadata, known_answer=known_answer(model, metadata))
    write_metadata(model, metadata)
    return model, metadata


def onnx_from_network(network: nn.Module, card: Card, channels: int, recipe: Recipe) -> ModelProto:
    """Return the ONNX graph of a network with dynamic batch and size, past ONNX's checks."""
    dim, align = torch.export.Dim, card.align_px
    height, width = (dim(side) for side in ("height", "width"))
    sides = {2: align * height, 3: align * width} if align > 1 else {2: height, 3: width}
    # Sizes above 1 in every dynamic axis, or the tracer takes 1 for a constant.
    examples = [torch.rand(2, channels, 3 * align, 5 * align)]
    dynamic: list[dict[int, object]] = [{0: dim("batch"), **sides}]
    if takes_quantiser(network):
        examples.append(torch.rand(2))
        dynamic.append({0: dim("batch")})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                network.eval(),
                tuple(examples),
                dynamo=True,
                verbose=False,
                input_names=[INPUT, QUANTISER][: len(examples)],
                output_names=[OUTPUT],
                dynamic_shapes=tuple(dynamic),
                opset_version=recipe.opset,
            )
        except Exception as error:  # its classes share no base and are many pages long
            cause = next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)
            raise ExportError(f"torch cannot export this {card.name}: {cause}") from error
    if program is None:
        raise ExportError(f"torch did not export {card.name}")
    model = program.model_proto
    made = next(entry.version for entry in model.opset_import if entry.domain == "")
    if made != recipe.opset:
        raise ExportError(
            f"the recipe asks for opset {recipe.opset}, torch could only make {made}; set opset "
            f"to {made} or one near it"
        )
    model.ir_version = recipe.ir_version
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]  # tracer notes, paths of this machine included
        node.doc_string = ""
    try:
        return convolve_upsampling(model)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{card.name}: not valid ONNX: {str(error).splitlines()[0]}") from error
