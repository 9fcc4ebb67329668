"""Settings of a training run, read from TOML."""

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edgecar.errors import SettingsError
from edgecar.files import shipped


@dataclass(frozen=True)
class TrainRecipe:
    """One training run.

    Attributes:
        network: Name in the zoo.
        jpeg_quality: Lowest and highest quality, drawn anew for each picture.
        patch_px: Side of a training patch.
        batch: Patches per step.
        steps: Optimiser steps in all; the learning rate follows a cosine over them.
        rate: Highest learning rate (Adam), after ``warmup`` steps.
        final_rate: Learning rate of the last step.
        warmup: Steps of linear rise.
        weight_decay: L2 penalty on all weights.
        average: Decay per step of the running average that is shipped.
        clip: Largest gradient norm.
        seed: Of weights and patches.
    """

    network: str
    jpeg_quality: tuple[int, int] = (10, 40)
    patch_px: int = 64
    batch: int = 32
    steps: int = 40_000
    rate: float = 1e-3
    final_rate: float = 1e-6
    warmup: int = 200
    weight_decay: float = 0.0
    average: float = 0.999
    clip: float = 1.0
    seed: int = 0


def recipe_from_toml(path: Path) -> TrainRecipe:
    """Read a recipe; unknown keys are refused.

    Raises:
        SettingsError: The file is not TOML, or a key is unknown or missing.
    """
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read recipe {path}: {error}") from error
    known = [field.name for field in fields(TrainRecipe)]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise SettingsError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
    if "network" not in table:
        raise SettingsError(f"{path}: key 'network' is missing; name a network of the zoo")
    if "jpeg_quality" in table:
        table["jpeg_quality"] = tuple(table["jpeg_quality"])
    return TrainRecipe(**table)


def find_recipe(name_or_path: str) -> Path:
    """The file of a recipe: a path, or the name of one that ships.

    Raises:
        SettingsError: There is neither; the shipped ones are listed.
    """
    path, folder = Path(name_or_path), shipped("export", "training")
    if path.suffix == ".toml":
        return path
    found = folder / f"{name_or_path}.toml"
    if not found.exists():
        names = ", ".join(sorted(recipe.stem for recipe in folder.glob("*.toml")))
        raise SettingsError(f"no recipe is called {name_or_path!r}; use a .toml file or {names}")
    return found


def table_of(recipe: TrainRecipe) -> dict[str, Any]:
    """The recipe as plain values, for manifests."""
    return asdict(recipe)
