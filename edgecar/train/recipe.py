"""Settings of a training run, and how any recipe is read from TOML."""

import json
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgecar.errors import SettingsError
from edgecar.files import shipped, table_from_toml
from edgecar.spec import WEIGHTS_FOR, Purpose, WeightsFor
from edgecar.train.degrade import Degradation, H264Range, HevcRange, JpegRange
from edgecar.zoo.shipped import shipped_checkpoint

Made = TypeVar("Made")
DEGRADATIONS: dict[str, Callable[..., Degradation]] = {
    "jpeg": JpegRange,
    "h264": H264Range,
    "hevc": HevcRange,
}
DETECT: WeightsFor = "h264:detect"
KINDS = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class TrainRecipe:
    """One training run.

    Attributes:
        network: Name in the zoo.
        sizes: Sizes of the network that differ from the published ones, e.g. ``{"width": 16}``.
        degradation: Coder and settings that the network learns to undo.
        start: Weights to begin with: a checkpoint, or ``jpeg``, ``h264``, ``hevc`` or
            ``h264:detect`` for those of the same network that ship; empty: fresh ones.
        start_share: Share of the starting weights in the weights that ship: 0.5 is midway
            (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). A long training
            on clips made of photographs unlearns some of what holds for real ones.
        fit_last_layer: Scale the last layer of a fresh network until its output spreads like the
            residual it must predict (GL-Fusion's rule of initialisation).
        teacher: Network to learn from besides the clean pictures: a shipped name or a checkpoint.
        teacher_share: Share of the loss that compares with the teacher's output, 0 to 1.
        loss: One of `edgecar.train.fit.LOSSES`.
        detectors: ONNX files of detectors to train for, of different families, so that others are
            helped as well. The loss is that of `edgecar.train.features.DetectionLoss` then.
        feature_share: Weight of what the detectors see, beside the error of the pixels.
        balanced: Divide the loss of each patch by the squared error of its coded picture. That
            makes the mean in dB small: a finely coded picture counts as much as a coarse one.
            Fresh weights come to that over the first steps.
        lossless: Share of pictures that are not coded, to be left as they are.
        harm: Weight of what a restored patch is worse than the coded one, on top of its loss. For
            weights that are trained already: fresh ones learn less with it.
        optimiser: ``muon``, ``adam`` or ``adamw``.
        rate: Highest learning rate, after ``warmup`` steps.
        rest_rate: Under Muon, the rate of Adam for biases, slopes and the last layer. What a
            network learns by quantiser has ``rate``, under Adam as well.
        final_share: Learning rate of the last step, as a share of the highest.
        warmup: Steps of linear rise.
        weight_decay: L2 penalty (Adam), or decay times the rate (AdamW, Muon).
        patch_px: Side of a training patch, a multiple of 8.
        batch: Patches per step.
        steps: Optimiser steps in all; the learning rate follows a cosine over them.
        average: Decay per step of the running average that is shipped.
        clip: Largest gradient norm under Adam; Muon's updates have a fixed size.
        seed: Seed of weights, degradation and patches.
        qat: Train in eight bits, for INT8; ``--qat`` fits the other settings to it.
    """

    network: str = ""
    sizes: dict[str, int] = field(default_factory=dict)
    degradation: Degradation = field(default_factory=JpegRange)
    start: str = ""
    start_share: float = 0.0
    fit_last_layer: bool = False
    teacher: str = ""
    teacher_share: float = 0.5
    loss: str = "mse"
    detectors: tuple[str, ...] = ()
    feature_share: float = 0.0
    balanced: bool = False
    lossless: float = 0.0
    harm: float = 0.0
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

    def __post_init__(self) -> None:
        if not self.network:
            raise SettingsError("key 'network' is missing; name a network of the zoo")
        if self.patch_px < 16 or self.patch_px % 8:
            raise SettingsError(f"patch_px is {self.patch_px}; need a multiple of 8, at least 16")
        if not 0 <= self.start_share < 1 or (self.start_share and (self.qat or not self.start)):
            raise SettingsError(
                f"start_share is {self.start_share}; need 0 to below 1, weights to start from, "
                "no qat"
            )
        if not 0 <= self.lossless < 1:
            raise SettingsError(f"lossless is {self.lossless}; need a share from 0 to below 1")
        if bool(self.detectors) != (self.feature_share > 0):
            raise SettingsError(
                f"got {len(self.detectors)} detector(s) and feature_share {self.feature_share}; "
                "need both, or neither"
            )
        if self.detectors and (self.loss != "mse" or self.teacher or self.balanced):
            raise SettingsError(
                "with detectors the loss is relative to the coded picture's and has no other "
                "parts; leave out loss, teacher and balanced"
            )
        for key in ("batch", "steps"):
            if getattr(self, key) < 1:
                raise SettingsError(f"{key} is {getattr(self, key)}; need at least 1")

    @property
    def purpose(self) -> Purpose:
        """Use of the pictures that the weights will restore."""
        again = self.qat and self.start == DETECT  # in eight bits, the weights themselves teach
        return "detect" if self.detectors or again else "view"

    @property
    def start_path(self) -> Path | None:
        """File of the weights to start from; None for fresh ones.

        Raises:
            CheckpointError: None ship for the coder that ``start`` names.
        """
        if self.start in WEIGHTS_FOR:
            return shipped_checkpoint(self.network, self.start).path
        return Path(self.start) if self.start else None


def recipe_from_toml(path: Path, kind: Callable[..., Made]) -> Made:
    """Read a recipe of a kind, such as `TrainRecipe`.

    Raises:
        SettingsError: The file is not TOML, or a key is unknown, missing or out of range.
    """
    try:
        table = table_from_toml(path)
    except (OSError, ValueError) as error:  # not TOML, or not even text
        raise SettingsError(f"cannot read recipe {path}: {error}") from error
    try:
        return record_from_table(kind, table)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def recipe_from_table(table: dict[str, Any]) -> TrainRecipe:
    """Make a `TrainRecipe` from plain values; `table_of` is the inverse."""
    return record_from_table(TrainRecipe, table)


def record_from_table(kind: Callable[..., Made], table: dict[str, Any], place: str = "") -> Made:
    """Make a frozen dataclass from plain values, nested tables included.

    Args:
        kind: The dataclass. The default of a field decides the type of its values.
        table: Values by the names of the fields; a missing one keeps its default.
        place: Prefix for names in messages, e.g. ``degradation.``.

    Raises:
        SettingsError: A key is unknown, or a value is of another type or out of range.
    """
    defaults = {
        known.name: known.default if known.default_factory is MISSING else known.default_factory()
        for known in fields(kind)  # type: ignore[arg-type]
    }
    unknown = sorted(set(table) - set(defaults))
    if unknown:
        known = ", ".join(defaults)
        raise SettingsError(f"unknown key '{place}{unknown[0]}'; known are {known}")
    return kind(**{key: _typed(place + key, v, defaults[key]) for key, v in table.items()})


def _typed(name: str, value: Any, like: Any) -> Any:
    """Check the value against the type of the default."""
    if is_dataclass(like):
        if not isinstance(value, dict):
            raise SettingsError(f"{name} is {value!r}; need a table")
        if not isinstance(like, JpegRange):
            return record_from_table(type(like), value, f"{name}.")
        values = dict(value)
        coder = values.pop("coder", None)
        if coder not in DEGRADATIONS:
            raise SettingsError(f"{name}.coder is {coder!r}; use {', '.join(DEGRADATIONS)}")
        return record_from_table(DEGRADATIONS[coder], values, f"{name}.")
    if isinstance(like, tuple):
        kind = type(like[0]) if like else str
        if isinstance(value, list | tuple) and all(_is(kind, entry) for entry in value):
            return tuple(value)
        needed = f"a list such as {list(like)}"
        needed += " of whole numbers" if kind is int else ""
        raise SettingsError(f"{name} is {value!r}; need {needed}")
    if not _is(type(like), value):
        raise SettingsError(f"{name} is {value!r}; need {KINDS.get(type(like), 'a table')}")
    return value


def _is(kind: type, value: Any) -> bool:
    return type(value) is kind or (kind is float and type(value) is int)


def find_recipe(name_or_path: str, folder: str = "training") -> Path:
    """Find a recipe: a path, or the name of one that ships, such as ``edgecar-s.h264``.

    The name of a network alone means its recipe for JPEG.

    Args:
        name_or_path: A name without suffix, or a file that ends in ``.toml``.
        folder: ``training`` for networks that restore, ``scoring`` for the IQA scorer.

    Raises:
        SettingsError: There is no such recipe; the shipped ones are listed.
    """
    if Path(name_or_path).suffix == ".toml":
        return Path(name_or_path)
    place = shipped("export", folder)
    for found in (place / f"{name_or_path}.toml", place / f"{name_or_path}.jpeg.toml"):
        if found.exists():
            return found
    names = ", ".join(sorted(recipe.stem for recipe in place.glob("*.toml")))
    raise SettingsError(f"no recipe is called {name_or_path!r}; use a .toml file or {names}")


def table_of(recipe: Any) -> dict[str, Any]:
    """Return a recipe as plain values, lists included, as checkpoints and metadata keep it."""
    table: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    if isinstance(recipe, TrainRecipe):
        table["degradation"] = {"coder": recipe.degradation.coder, **table["degradation"]}
    return table
