"""Settings of a training run, read from TOML."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from edgecar.errors import SettingsError
from edgecar.files import shipped, table_from_toml
from edgecar.train.degrade import Degradation, JpegRange, degradation_from_table


@dataclass(frozen=True)
class TrainRecipe:
    """One training run.

    Attributes:
        network: Name in the zoo.
        sizes: Sizes of the network that differ from the published ones, e.g. ``{"width": 16}``.
        degradation: What the network learns to undo.
        start: Weights to begin with: a checkpoint, or ``jpeg``, ``h264`` or ``hevc`` for those of
            the same network that ship; empty: fresh ones.
        start_share: Of the weights that ship, the share of those it starts from: 0.5 is midway
            (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). A long training
            on clips made of photographs unlearns some of what holds for real ones.
        fit_last_layer: Scale the last layer of a fresh network until its output spreads like the
            residual it must predict (GL-Fusion's rule of initialisation).
        teacher: Network to learn from besides the clean pictures: a shipped name or a checkpoint.
        teacher_share: Of the loss that compares with the teacher's output, 0 to 1.
        loss: One of `edgecar.train.losses.LOSSES`.
        balanced: Divide the loss of each patch by the squared error of its coded picture. That
            makes the mean in dB small: a finely coded picture counts as much as a coarse one.
        optimiser: ``muon``, ``adam`` or ``adamw``.
        rate: Highest learning rate, after ``warmup`` steps.
        rest_rate: Under Muon, the rate of Adam for biases, slopes and the last layer.
        final_share: Learning rate of the last step, as a share of the highest.
        warmup: Steps of linear rise.
        weight_decay: L2 penalty (Adam), or decay times the rate (AdamW, Muon).
        patch_px: Side of a training patch, a multiple of 8.
        batch: Patches per step.
        steps: Optimiser steps in all; the learning rate follows a cosine over them.
        average: Decay per step of the running average that is shipped.
        clip: Largest gradient norm under Adam; Muon's updates have a fixed size.
        seed: Of weights, degradation and patches.
        qat: Train in eight bits, for INT8; ``--qat`` fits the other settings to it.
    """

    network: str
    sizes: dict[str, int] = field(default_factory=dict)
    degradation: Degradation = field(default_factory=JpegRange)
    start: str = ""
    start_share: float = 0.0
    fit_last_layer: bool = False
    teacher: str = ""
    teacher_share: float = 0.5
    loss: str = "mse"
    balanced: bool = False
    optimiser: str = "muon"
    rate: float = 0.02
    rest_rate: float = 1e-3
    final_share: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.0
    patch_px: int = 64
    batch: int = 32
    steps: int = 40_000
    average: float = 0.999
    clip: float = 1.0
    seed: int = 0
    qat: bool = False


def recipe_from_toml(path: Path) -> TrainRecipe:
    """Read a recipe; unknown keys are refused.

    Raises:
        SettingsError: The file is not TOML, or a key is unknown, missing or out of range.
    """
    try:
        table = table_from_toml(path)
    except (OSError, ValueError) as error:  # not TOML, or not even text
        raise SettingsError(f"cannot read recipe {path}: {error}") from error
    try:
        return recipe_from_table(table)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def recipe_from_table(table: dict[str, Any]) -> TrainRecipe:
    """A recipe from plain values.

    Raises:
        SettingsError: A key is unknown, missing, of another type or out of range.
    """
    known = [known.name for known in fields(TrainRecipe)]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise SettingsError(f"unknown key {unknown[0]!r}; known are {', '.join(known)}")
    if "network" not in table:
        raise SettingsError("key 'network' is missing; name a network of the zoo")
    _check_types(table)
    values = dict(table)
    if "degradation" in values:
        values["degradation"] = degradation_from_table(values["degradation"])
    recipe = TrainRecipe(**values)
    if recipe.patch_px < 16 or recipe.patch_px % 8:
        raise SettingsError(f"patch_px is {recipe.patch_px}; need a multiple of 8, at least 16")
    if not 0 <= recipe.start_share < 1 or (recipe.start_share and (recipe.qat or not recipe.start)):
        raise SettingsError(
            f"start_share is {recipe.start_share}; need 0 to below 1, weights to start from, no qat"
        )
    for key in ("batch", "steps"):
        if table.get(key, 1) < 1:
            raise SettingsError(f"{key} is {table[key]}; need at least 1")
    return recipe


def _check_types(table: dict[str, Any]) -> None:
    words = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}
    for known in fields(TrainRecipe):
        kind = known.type if known.type in words else dict
        value = table.get(known.name)
        whole = kind is float and type(value) is int
        if known.name in table and type(value) is not kind and not whole:
            need = words.get(kind, "a table")
            raise SettingsError(f"{known.name} is {value!r}; need {need}")


def find_recipe(name_or_path: str) -> Path:
    """The file of a recipe: a path, or the name of one that ships, ``edgecar-s.h264``.

    A network's name alone means its recipe for JPEG.

    Raises:
        SettingsError: There is neither; the shipped ones are listed.
    """
    path, folder = Path(name_or_path), shipped("export", "training")
    if path.suffix == ".toml":
        return path
    found = folder / f"{name_or_path}.toml"
    if not found.exists():
        found = folder / f"{name_or_path}.jpeg.toml"
    if not found.exists():
        names = ", ".join(sorted(recipe.stem for recipe in folder.glob("*.toml")))
        raise SettingsError(f"no recipe is called {name_or_path!r}; use a .toml file or {names}")
    return found


def table_of(recipe: TrainRecipe) -> dict[str, Any]:
    """The recipe as plain values, for manifests; `recipe_from_table` reads it back."""
    table = asdict(recipe)
    table["degradation"] = {"coder": recipe.degradation.coder, **table["degradation"]}
    return table
