"""Settings of a training run of deep multi-scale IQA, read from TOML."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from edgecar.errors import SettingsError
from edgecar.files import shipped, table_from_toml
from edgecar.train.quality.distort import Distortions
from edgecar.zoo.multiscale_iqa import IqaConfig

OPTIMISERS = ("sgd", "adam")
Table = TypeVar("Table")
TABLES: dict[str, type[Distortions] | type[IqaConfig]] = {
    "network": IqaConfig,
    "distortions": Distortions,
}


@dataclass(frozen=True)
class QualityRecipe:
    """One training run.

    Attributes:
        network: Sizes and switches.
        distortions: What is made of photographs where no opinion scores are given.
        photographs: Take the first so many; 0: all.
        share: Of the references of a subjective study that are trained on; the rest are held out.
        lower_is_better: Whether opinion scores are differential (DMOS).
        optimiser: ``sgd`` with momentum 0.9, as in the paper, or ``adam``.
        rate: Learning rate of the first step; it falls as a cosine.
        final_share: Of the last step, as a share of the first; 1: it does not fall.
        weight_decay: L2 penalty.
        batch: Patches per step.
        epochs: Each draws as many patches as fit side by side into the pictures.
        seed: Of weights, distortions, split and patches.
    """

    network: IqaConfig = field(default_factory=IqaConfig)
    distortions: Distortions = field(default_factory=Distortions)
    photographs: int = 0
    share: float = 0.8
    lower_is_better: bool = False
    optimiser: str = "sgd"
    rate: float = 1e-3
    final_share: float = 0.01
    weight_decay: float = 1e-7
    batch: int = 128
    epochs: float = 100.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS:
            raise SettingsError(f"no optimiser {self.optimiser!r}; use {' or '.join(OPTIMISERS)}")
        if not 0 < self.share < 1:
            raise SettingsError(f"share is {self.share}; need a number between 0 and 1")
        if self.batch < 2:
            raise SettingsError(f"batch is {self.batch}; normalisation needs at least 2 patches")
        if self.photographs < 0 or self.weight_decay < 0:
            raise SettingsError("photographs and weight_decay must not be below 0")
        if not (self.epochs > 0 and self.rate > 0 and 0 <= self.final_share <= 1):
            raise SettingsError("epochs and rate must be above 0, final_share within 0 and 1")


def quality_recipe_from_toml(path: Path) -> QualityRecipe:
    """Read a recipe; unknown keys are refused.

    Raises:
        SettingsError: The file is not TOML, or a key is unknown or has an unfit value.
    """
    try:
        table = table_from_toml(path)
    except (OSError, ValueError) as error:  # not TOML, or not even text
        raise SettingsError(f"cannot read recipe {path}: {error}") from error
    try:
        return quality_recipe_from_table(table)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def quality_recipe_from_table(table: dict[str, Any]) -> QualityRecipe:
    """A recipe from plain values; `table_of` is the way back.

    Raises:
        SettingsError: A key is unknown or has an unfit value.
    """
    values = dict(table)
    for name, kind in TABLES.items():
        if name in values:
            if not isinstance(values[name], dict):
                raise SettingsError(f"{name} is {values[name]!r}; need a table")
            values[name] = _made(kind, values[name], f"{name}.")
    return _made(QualityRecipe, values)


def _made(kind: Callable[..., Table], values: dict[str, Any], place: str = "") -> Table:
    known = vars(kind())  # the defaults
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise SettingsError(f"unknown key '{place}{unknown[0]}'; known are {', '.join(known)}")
    return kind(**{key: _typed(place + key, value, known[key]) for key, value in values.items()})


def _typed(name: str, value: Any, like: Any) -> Any:
    """The value in the type of the default.

    Raises:
        SettingsError: It has another type.
    """
    if isinstance(like, tuple) and isinstance(value, list | tuple):
        kinds = {type(entry) for entry in like}
        if kinds == {float}:
            kinds = {int, float}
        if all(type(entry) in kinds for entry in value):
            return tuple(value)
    elif type(value) is type(like):
        return value
    elif type(like) is float and type(value) is int:
        return float(value)
    shown = list(like) if isinstance(like, tuple) else like
    raise SettingsError(f"{name} is {value!r}; need something like {shown!r}")


def find_quality_recipe(name_or_path: str) -> Path:
    """The file of a recipe: a path, or the name of one that ships.

    Raises:
        SettingsError: There is neither; the shipped ones are listed.
    """
    path, folder = Path(name_or_path), shipped("export", "scoring")
    if path.suffix == ".toml":
        return path
    found = folder / f"{name_or_path}.toml"
    if not found.exists():
        names = ", ".join(sorted(recipe.stem for recipe in folder.glob("*.toml")))
        raise SettingsError(f"no recipe is called {name_or_path!r}; use a .toml file or {names}")
    return found


def table_of(recipe: QualityRecipe) -> dict[str, Any]:
    """The recipe as plain values, lists included, as JSON and checkpoints keep it."""
    table: dict[str, Any] = _plain(asdict(recipe))
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value
