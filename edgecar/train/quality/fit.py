"""Training of the deep multi-scale IQA scorer: from a recipe and pictures to weights and ONNX."""

import json
import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch.nn import functional

from edgecar.artifact import compact
from edgecar.errors import CheckpointError, DataError, ExportError, GateError
from edgecar.evaluate.agreement import Agreement, agreement
from edgecar.evaluate.scorer import (
    PATCH_PX,
    PLANES,
    Patches,
    Scorer,
    ScorerMetadata,
    picture_score,
)
from edgecar.exporter.recipe import recipe_for
from edgecar.files import atomic_write
from edgecar.train.loop import SAVE_SECONDS, Optimiser, Run, cosine, train
from edgecar.train.quality.rated import NONE, RatedSet, patch_draws
from edgecar.train.quality.sources import QualityRecipe
from edgecar.train.recipe import table_of
from edgecar.train.weights import write_metadata
from edgecar.zoo.checkpoints import rounded
from edgecar.zoo.multiscale_iqa import MultiscaleIqa, network_from_state, rescaled_

if TYPE_CHECKING:
    from onnx import ModelProto

MODEL = "multiscale-iqa"
MOMENTUM = 0.9
PARITY = 1e-3  # share of the range of scores: sums over thousands of float32 products
EXAMPLES = 4


def new_quality_run(recipe: QualityRecipe, rated: RatedSet) -> Run:
    """Return a run at step 0 that learns the scores of a set.

    Raises:
        DataError: All scores are the same.
    """
    scores = [picture.score for picture in rated.pictures]
    low, high = min(scores), max(scores)
    if not low < high:
        raise DataError(f"all scores are {low}; a network learns nothing from that")
    torch.manual_seed(recipe.seed)
    network = MultiscaleIqa(recipe.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights, decay = network.parameters(), recipe.weight_decay
    optimiser: torch.optim.Optimizer = (
        torch.optim.Adam(weights, recipe.rate, weight_decay=decay)
        if recipe.optimiser == "adam"
        else torch.optim.SGD(weights, recipe.rate, MOMENTUM, weight_decay=decay)
    )
    unscaled = torch.amp.GradScaler("cpu", enabled=False)
    parts = Optimiser([(optimiser, recipe.rate)], [], clip=math.inf)
    return Run(recipe, network, None, parts, unscaled, torch.device("cpu"), scale=(low, high))


def fit_quality(
    run: Run,
    rated: RatedSet,
    checkpoint: Path,
    report: Callable[[int, int, float], None],
    *,
    stop_after_seconds: float = math.inf,
) -> bool:
    """Train until the recipe's epochs are done, as `edgecar.train.loop.train` does.

    ``report`` is called every few seconds with steps done, steps in all, and the root of the mean
    squared error in the unit of the scores.
    """
    recipe: QualityRecipe = run.recipe
    assert run.scale is not None
    low, high = run.scale
    steps = max(1, math.ceil(recipe.epochs * rated.patches() / recipe.batch))

    def step(run: Run, batch: tuple[NDArray[np.uint8], NDArray[np.float32]]) -> tuple[float]:
        run.network.train()
        planes = torch.from_numpy(batch[0]).contiguous(memory_format=torch.channels_last)
        target = torch.from_numpy((batch[1] - low) / (high - low)).float()
        loss = functional.mse_loss(run.network(planes.float() / 255)[:, 0], target)  # Eq. 3
        run.descend(loss, cosine(math.pi * run.step / steps, recipe.final_share))
        return (float(loss.detach()),)

    return train(
        run,
        patch_draws(rated, recipe.batch, recipe.seed, run.step),
        step,
        steps,
        checkpoint,
        lambda means: report(run.step, steps, math.sqrt(means[0]) * (high - low)),
        save_seconds=SAVE_SECONDS,
        stop_after_seconds=stop_after_seconds,
    )


def agreement_of(predicted: NDArray[np.float64], rated: RatedSet) -> Agreement:
    """Compare predictions with the scores of a set; fails as `agreement` does."""
    return agreement(
        predicted,
        np.array([picture.score for picture in rated.pictures]),
        references=len({picture.reference for picture in rated.pictures}),
        pairs=[(r.before, n) for n, r in enumerate(rated.pictures) if r.before != NONE],
    )


def predictions(network: MultiscaleIqa, rated: RatedSet) -> NDArray[np.float64]:
    """Score every picture, 0 to 1; the network is left in evaluation mode."""
    network.eval()

    def scores_of(patches: Patches) -> NDArray[np.float32]:
        with torch.inference_mode():
            given = torch.from_numpy(patches).contiguous(memory_format=torch.channels_last)
            found: NDArray[np.float32] = network(given).numpy()
        return found

    return np.array(
        [picture_score(rated.references[p.reference], p.picture, scores_of) for p in rated.pictures]
    )


def save_scorer(run: Run, path: Path, target: str, trained_on: str) -> dict[str, Any]:
    """Write the rounded weights, their metadata and the ONNX file made of them, side by side.

    Args:
        run: Finished, or stopped.
        path: The ``.safetensors`` file; the others have its stem.
        target: Meaning of the scores.
        trained_on: Description of the training pictures.

    Returns:
        The metadata, as written to the ``.json`` file.

    Raises:
        ExportError: torch cannot export the network.
        GateError: The scores of the ONNX file differ from torch; it is not written.
    """
    assert run.scale is not None
    table = table_of(run.recipe)
    metadata: dict[str, Any] = {
        "network": table["network"],
        "target": target,
        "trained_on": trained_on,
        "low": run.scale[0],
        "high": run.scale[1],
        "lower_is_better": run.recipe.lower_is_better,
        "recipe": table,
        "steps": run.step,
        "seconds": round(run.seconds),
        "torch": torch.__version__,
    }
    state = {name: t.contiguous() for name, t in run.network.state_dict().items()}
    content = save(rounded(state))
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    write_metadata(metadata, path)
    _export(path)
    return metadata


def load_scorer_network(weights: Path) -> tuple[MultiscaleIqa, dict[str, Any]]:
    """Load the network of a ``.safetensors`` file, which scores 0 to 1, and its metadata."""
    try:
        metadata: dict[str, Any] = json.loads(weights.with_suffix(".json").read_text())
        state, config = load_file(weights), metadata["network"]
    except Exception as error:  # errors of damaged files have no common base
        raise CheckpointError(
            f"{weights} or the .json file beside it cannot be read ({type(error).__name__}); keep "
            "what a training run wrote together"
        ) from error
    return network_from_state(state, config), metadata


def _export(weights: Path) -> None:
    """Write the ONNX file of weights, which scores in the unit of the target, beside them."""
    network, metadata = load_scorer_network(weights)
    low, span = metadata["low"], metadata["high"] - metadata["low"]
    rescaled_(network, low, span)
    model = _graph(network)
    compact(model, weights)
    keys = ("target", "low", "high", "lower_is_better", "trained_on")
    stored = ScorerMetadata(MODEL, parity_max_error=0.0, **{key: metadata[key] for key in keys})
    path = weights.with_suffix(".onnx")
    # Beside a copy of the weights, which the graph finds by their name.
    with TemporaryDirectory(dir=weights.parent) as folder:
        trial = Path(folder) / path.name
        (Path(folder) / weights.name).write_bytes(weights.read_bytes())
        stored.write(model)
        trial.write_bytes(model.SerializeToString())
        error = _parity_error(network, trial)
    if not error <= PARITY * span:  # also refuses NaN
        raise GateError(
            f"ONNX differs from torch by {error:.2e}, allowed {PARITY * span:.2e}; not written"
        )
    replace(stored, parity_max_error=error).write(model)
    with atomic_write(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def _parity_error(network: MultiscaleIqa, trial: Path) -> float:
    """Largest difference in scores of random patches."""
    rng = np.random.default_rng(0)
    patches = rng.random((EXAMPLES, PLANES, PATCH_PX, PATCH_PX), np.float32)
    patches[:, 1] *= np.linspace(0, 0.5, EXAMPLES, dtype=np.float32)[:, None, None]
    with torch.inference_mode():
        expected = network(torch.from_numpy(patches)).numpy()
    with Scorer(trial, "onnxruntime", threads=1) as scorer:
        return float(np.abs(scorer.engine.run(patches) - expected).max())


def _graph(network: MultiscaleIqa) -> "ModelProto":
    """Return the ONNX graph with a dynamic number of patches."""
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
