"""What a finished run leaves behind: weights, the metadata of how they were made, and a scorer."""

import json
import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save

from edgecar.compact import compact
from edgecar.errors import CheckpointError, ExportError, GateError
from edgecar.evaluate.patches import PATCH_PX, PLANES
from edgecar.evaluate.scorer import Scorer, ScorerMetadata, write_scorer_metadata
from edgecar.exporter.recipe import recipe_for
from edgecar.files import atomic_write
from edgecar.train.quality.fit import QualityRun
from edgecar.train.quality.recipe import table_of
from edgecar.zoo.multiscale_iqa import MultiscaleIqa, network_from_state, rescaled_
from edgecar.zoo.rounding import rounded

if TYPE_CHECKING:
    from onnx import ModelProto

MODEL = "multiscale-iqa"
PARITY = 1e-3  # of the range of scores: sums over thousands of float32 products
EXAMPLES = 4


def save_scorer(run: QualityRun, path: Path, target: str, trained_on: str) -> dict[str, Any]:
    """Write the rounded weights, their metadata and the ONNX file made of them, side by side.

    Args:
        run: Finished, or stopped.
        path: Of the ``.safetensors`` file; the others have its stem.
        target: What the scores are, for the record.
        trained_on: Which pictures.

    Returns:
        The metadata, as written to the ``.json`` file.

    Raises:
        ExportError: torch cannot export the network.
        GateError: The ONNX file scores otherwise than torch; it is not written.
    """
    metadata: dict[str, Any] = {
        "network": table_of(run.recipe)["network"],
        "target": target,
        "trained_on": trained_on,
        "low": run.low,
        "high": run.high,
        "lower_is_better": run.recipe.lower_is_better,
        "recipe": table_of(run.recipe),
        "steps": run.step,
        "seconds": round(run.seconds),
        "torch": torch.__version__,
    }
    state = {name: t.contiguous() for name, t in run.network.state_dict().items()}
    content = save(rounded(state))
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    write_metadata(metadata, path)
    export_scorer(path)
    return metadata


def write_metadata(metadata: dict[str, Any], weights: Path) -> None:
    """Keep the metadata beside the weights."""
    with atomic_write(weights.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(metadata, indent=2) + "\n")


def load_scorer_network(weights: Path) -> tuple[MultiscaleIqa, dict[str, Any]]:
    """The network of a ``.safetensors`` file, which scores 0 to 1, and its metadata.

    Raises:
        CheckpointError: A file is missing or damaged, or they do not fit each other.
    """
    try:
        metadata: dict[str, Any] = json.loads(weights.with_suffix(".json").read_text())
        state, config = load_file(weights), metadata["network"]
    except Exception as error:  # what damaged files raise shares no base
        raise CheckpointError(
            f"{weights} or the .json file beside it cannot be read ({type(error).__name__}); keep "
            "what a training run wrote together"
        ) from error
    return network_from_state(state, config), metadata


def export_scorer(weights: Path) -> Path:
    """The ONNX file of weights, which scores in the unit of the target; beside them.

    Raises:
        CheckpointError: As of `load_scorer_network`.
        ExportError: torch cannot export the network.
        GateError: The file scores otherwise than torch; it is not written.
    """
    network, metadata = load_scorer_network(weights)
    span = metadata["high"] - metadata["low"]
    rescaled_(network, metadata["low"], span)
    model = _graph(network)
    compact(model, weights)
    path = weights.with_suffix(".onnx")
    # Where it will lie: its weights are found by the name of the file beside it.
    with TemporaryDirectory(dir=weights.parent) as folder:
        trial = Path(folder) / path.name
        (Path(folder) / weights.name).write_bytes(weights.read_bytes())
        error = _parity_error(network, model, metadata, trial)
        if not error <= PARITY * span:  # also refuses NaN
            raise GateError(
                f"ONNX differs from torch by {error:.2e}, allowed {PARITY * span:.2e}; not written"
            )
        with atomic_write(path) as temporary:
            temporary.write_bytes(_annotated(model, metadata, error))
    return path


def _annotated(model: "ModelProto", metadata: dict[str, Any], error: float) -> bytes:
    keys = ("target", "low", "high", "lower_is_better", "trained_on")
    del model.metadata_props[:]
    write_scorer_metadata(
        model,
        ScorerMetadata(MODEL, parity_max_error=error, **{key: metadata[key] for key in keys}),
    )
    annotated: bytes = model.SerializeToString()
    return annotated


def _parity_error(
    network: MultiscaleIqa, model: "ModelProto", metadata: dict[str, Any], trial: Path
) -> float:
    """Largest difference in scores of random patches."""
    trial.write_bytes(_annotated(model, metadata, 0.0))
    rng = np.random.default_rng(0)
    patches = rng.random((EXAMPLES, PLANES, PATCH_PX, PATCH_PX), np.float32)
    patches[:, 1] *= np.linspace(0, 0.5, EXAMPLES, dtype=np.float32)[:, None, None]
    with torch.inference_mode():
        expected = network(torch.from_numpy(patches)).numpy()
    with Scorer(trial, "onnxruntime", threads=1) as scorer:
        return float(np.abs(scorer.engine.run(patches) - expected).max())


def _graph(network: MultiscaleIqa) -> "ModelProto":
    """The ONNX graph with a dynamic number of patches.

    Raises:
        ExportError: torch cannot make it, or it is not valid.
    """
    import onnx

    settings = recipe_for(MODEL)
    example = torch.rand(2, PLANES, PATCH_PX, PATCH_PX)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                network.eval().to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
                (example,),
                dynamo=True,
                verbose=False,
                input_names=["patches"],
                output_names=["scores"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=settings.opset,
            )
            assert program is not None
            model = program.model_proto
            model.ir_version = settings.ir_version
            for node in model.graph.node:
                del node.metadata_props[:]  # tracer notes, paths of this machine included
                node.doc_string = ""
            onnx.checker.check_model(model, full_check=True)
        except Exception as error:  # its classes share no base and are many pages long
            cause = next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)
            raise ExportError(f"torch cannot export the scorer: {cause}") from error
    return model
