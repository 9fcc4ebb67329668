"""Checkpoints in: safe to open, recognised by their tensors."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from edgecar.errors import CheckpointError
from edgecar.zoo.card import Card, Recognised
from edgecar.zoo.registry import CARDS

# Training scripts store the weights under one of these, best candidate first.
WRAPPERS = tuple(
    "params_ema ema average state_dict model_state_dict params model network net".split()
)
PREFIX = "module."  # left by DataParallel
MOST_WRAPPERS = 8  # a file can contain itself
SHOWN_KEYS = 3
INT8 = "edgecar.int8"  # key in the header of a safetensors file


@dataclass(frozen=True)
class Loaded:
    """A checkpoint made into the network it was trained as, in evaluation mode.

    Attributes:
        card: Of the network.
        channels: 1 luma, 3 RGB.
        network: In float32, whatever the checkpoint holds.
        config: Where it differs from the published one: ``{"width": 16}``.
    """

    card: Card
    channels: int
    network: nn.Module
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Int8Training:
    """What weights that were trained in eight bits carry besides their tensors.

    Attributes:
        reaches: Largest magnitude of what each convolution reads, by the name of its module.
        start: The weights they were fine-tuned from: a coder, for those of the same network that
            ship, or a path; empty: from fresh ones.
        start_sha256: Of that file; empty if there is none.
    """

    reaches: dict[str, float]
    start: str
    start_sha256: str


def metadata_of(training: Int8Training) -> dict[str, str]:
    """What to store in the header of a safetensors file; `int8_training_of` reads it back."""
    return {INT8: json.dumps(asdict(training))}


def int8_training_of(path: Path) -> Int8Training | None:
    """How a checkpoint was trained in eight bits; None if it was not.

    Raises:
        CheckpointError: What it says of that is not understood.
    """
    if path.suffix != ".safetensors":
        return None
    with safe_open(path, "pt") as file:
        stored = (file.metadata() or {}).get(INT8)
    if stored is None:
        return None
    try:
        return Int8Training(**json.loads(stored))
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path}: its training in eight bits is not understood ({error}); train it again"
        ) from error


def load_network(path: Path) -> Loaded:
    """Open a checkpoint, find its network in the zoo, and load it.

    Args:
        path: ``.pt``, ``.pth``, ``.pkl``, ``.ckpt`` or ``.safetensors``.

    Raises:
        CheckpointError: The file is unreadable or unsafe, or no network fits its tensors.
    """
    state = state_from_file(path)
    for card in CARDS:
        found = _recognised(card, state)
        if found is None:
            continue
        channels = found.config.channels
        if channels not in card.configs:
            raise CheckpointError(
                f"{path}: looks like {card.name} for {channels} channels; edgecar runs networks "
                "for luma (1) or RGB (3)"
            )
        return Loaded(card, channels, _filled(card, found, path), _own_config(card, found))
    raise CheckpointError(f"{path}: no network of the zoo fits; {_nearest(state)}")


def _recognised(card: Card, state: dict[str, Tensor]) -> Recognised | None:
    try:
        return card.recognise(state)
    except (IndexError, KeyError, ZeroDivisionError):
        return None  # names of this network, but tensors of another rank or none


def _own_config(card: Card, found: Recognised) -> dict[str, Any]:
    published = asdict(card.config(found.config.channels))
    return {key: value for key, value in asdict(found.config).items() if value != published[key]}


def state_from_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, without wrappers and ``module.`` prefixes.

    Raises:
        CheckpointError: The file is missing, unreadable, unsafe or holds no tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a .pt, .pth or .safetensors checkpoint")
    if path.suffix == ".safetensors":
        try:
            return _unwrapped(load_file(path), path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: not a safetensors file ({error})") from error
    return _unwrapped(_unpickled(path), path)


def _unpickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that are refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        reason = str(error)
        if "GLOBAL" in reason or "global" in reason:
            wanted = reason.partition("GLOBAL ")[2].split(" ")[0] or "Python code"
            raise CheckpointError(
                f"{path}: refused, because loading it would run code ({wanted}); "
                "save tensors only: torch.save(network.state_dict(), path)"
            ) from error
        raise CheckpointError(f"{path}: not a PyTorch checkpoint; give a state dict") from error
    except Exception as error:  # what damaged files raise shares no base
        reason = " ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise CheckpointError(
            f"{path}: damaged or not a PyTorch checkpoint ({reason[:120]})"
        ) from error


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    for _ in range(MOST_WRAPPERS):
        if not isinstance(content, Mapping):
            break
        inner = next((content[w] for w in WRAPPERS if isinstance(content.get(w), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path}: holds a {type(content).__name__}, need a state dict; "
            "save torch.save(network.state_dict(), path)"
        )
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(f"{path}: holds no tensors; save network.state_dict()")
    while all(key.startswith(PREFIX) for key in state):
        state = {key.removeprefix(PREFIX): tensor for key, tensor in state.items()}
    return state


def _filled(card: Card, found: Recognised, path: Path) -> nn.Module:
    network = card.build(found.config)
    # Counters of batches seen are not weights; older checkpoints lack them.
    missing, extra = network.load_state_dict(
        _with_fitting_shapes(card, network, found, path), False
    )
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or extra:
        wrong = f"lacks {_listed(missing)}" if missing else f"has extra {_listed(extra)}"
        raise CheckpointError(f"{path}: looks like {card.name} but {wrong}")
    return network.eval()


def _with_fitting_shapes(
    card: Card, network: nn.Module, found: Recognised, path: Path
) -> dict[str, Tensor]:
    own = network.state_dict()
    for key, tensor in found.state.items():
        if key in own and own[key].shape != tensor.shape:
            raise CheckpointError(
                f"{path}: looks like {card.name} but {key} is {tuple(tensor.shape)}, "
                f"need {tuple(own[key].shape)}"
            )
    return dict(found.state)


def _nearest(state: Mapping[str, Tensor]) -> str:
    """The two cards that share most keys, with what the checkpoint lacks of each."""
    ranked: list[tuple[float, str, list[str]]] = []
    for card in CARDS:
        with torch.device("meta"):
            own = card.build(card.config(1)).state_dict()
        shared = len(own.keys() & state.keys()) / len(own.keys() | state.keys())
        missing = [key for key in own if key not in state]
        ranked.append((shared, card.name, missing))
    ranked.sort(key=lambda entry: -entry[0])
    near = "; ".join(
        f"{name} would need {_listed(keys) or 'other shapes'}" for _, name, keys in ranked[:2]
    )
    return f"it has {_listed(list(state))}. Nearest: {near}"


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return ", ".join(keys[:SHOWN_KEYS]) + more
