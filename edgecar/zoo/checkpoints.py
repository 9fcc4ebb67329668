"""Checkpoints in: safe to open, recognised by their tensors."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from edgecar.errors import CheckpointError
from edgecar.zoo.card import Card, Recognised, State
from edgecar.zoo.formats import is_safetensors
from edgecar.zoo.layouts import Group, groups
from edgecar.zoo.nearest import is_counter, layout, listed, nearest
from edgecar.zoo.reading import content_of, pickled_network
from edgecar.zoo.registry import CARDS

STATISTICS = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$")
# Tensors that tell what was done to a network, with what to do about it.
TREATED = (
    (
        re.compile(r"parametrizations\.|\.weight_(g|v|orig)$"),
        "a normalisation of its weights is stored apart; before saving, call "
        "torch.nn.utils.parametrize.remove_parametrizations (or remove_weight_norm) on its layers",
    ),
    (
        re.compile(r"\.(zero_point|activation_post_process\.\w+)$"),
        "it was quantised in torch; save the network as it was before and export it with "
        "--precision int8",
    ),
)
INT8 = "edgecar.int8"  # key in the header of a safetensors file


@dataclass(frozen=True)
class Loaded:
    """A checkpoint made into the network it was trained as, in evaluation mode.

    Attributes:
        card: Of the network.
        channels: 1 luma, 3 RGB.
        network: In float32, whatever the checkpoint holds.
        config: Where it differs from the published one: ``{"width": 16}``.
        source: Place of the weights in the file, and what else was left there; empty if the file
            is the weights.
    """

    card: Card
    channels: int
    network: nn.Module
    config: dict[str, Any] = field(default_factory=dict)
    source: str = ""


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
    if not is_safetensors(path):
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
        CheckpointError: The file is unreadable or unsafe, no network fits its tensors, or several
            are equally good.
    """
    content = content_of(path)
    try:
        return _chosen(groups(content), content)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {pickled_network(content) or error}") from error


def _chosen(found: list[Group], content: Any) -> Loaded:
    """The network of the group that is preferred among those that fit."""
    fits: list[tuple[Group, Card, Recognised]] = []
    misfits: list[tuple[Group, str]] = []
    taken: set[int] = set()
    for group in sorted(found, key=lambda group: group.rank == 0):  # averages after the weights
        tensors = {id(tensor) for tensor in group.state.values()}
        if tensors <= taken:
            continue  # the same network, under its prefix
        try:
            known = _known(_completed(group, [fit[0] for fit in fits]))
        except CheckpointError as error:
            misfits.append((group, str(error)))
        else:
            if known:
                fits.append((group, *known))
                taken |= tensors
    if not fits:
        raise CheckpointError(_reason(found, misfits, content))
    fits.sort(key=lambda fit: fit[0].rank)
    group, card, recognised = fits[0]
    for other, _, _ in fits[1:]:
        if other.rank == group.rank and not _same(group, other):
            raise CheckpointError(
                f"holds several networks that fit, {group.name or 'the file itself'} and "
                f"{other.name or 'the file itself'}; save the one to export alone"
            )
    network = _filled(card, recognised, group)
    source = _source(group, [fit[0] for fit in fits[1:]], found)
    config = _own_config(card, recognised)
    return Loaded(card, recognised.config.channels, network, config, source)


def _completed(group: Group, fits: list[Group]) -> dict[str, Tensor]:
    """Averaged weights with the statistics of the network that they were averaged from.

    Authors average what the optimiser changes, and run the average with the network's statistics.
    """
    names = group.state.keys()
    for fit in fits if group.rank == 0 else []:
        rest = {key for key in fit.state if key not in names}
        if names < fit.state.keys() and all(STATISTICS.search(key) for key in rest):
            return {**fit.state, **group.state}
    return group.state


def _source(group: Group, others: list[Group], found: list[Group]) -> str:
    """Return in words where the weights were in the file, and what else was left there."""
    left = [other.name for other in others if other.name]
    read = [group, *others]
    if group.rank > 0:
        left += [
            f"{other.name}, whose layout is unknown"
            for other in found
            if other.rank == 0 and len(other.state) > 1
            and not any(one.path[: len(other.path)] == other.path for one in read)
        ]  # fmt: skip
    name = group.name or "the file itself" * bool(left)
    return f"{name}, not {listed(left)}" if left else name


def _known(state: dict[str, Tensor]) -> tuple[Card, Recognised] | None:
    """The card of a group and what it recognised; None if it is another network's.

    Raises:
        CheckpointError: It is nearly a network of the zoo.
    """
    for card in CARDS:
        found = _recognised(card, state)
        if found:
            channels = found.config.channels
            if channels not in card.configs:
                raise CheckpointError(
                    f"looks like {card.name} for {channels} channels; edgecar runs networks for "
                    "luma (1) or RGB (3)"
                )
            return card, _fitting(card, found)
    for card in CARDS:
        for config in card.by_shape:
            named = _named_by_shape(card, config, state)
            if named:
                return card, Recognised(config, named)
    return None


def _recognised(card: Card, state: dict[str, Tensor]) -> Recognised | None:
    try:
        return card.recognise(state)
    except (IndexError, KeyError, ZeroDivisionError):
        return None  # names of this network, but tensors of another rank or none


def _named_by_shape(card: Card, config: Any, state: dict[str, Tensor]) -> State | None:
    """The tensors under the names of a network, if they are as many of each shape, in order."""
    own = layout(card.name, config)
    if len(own) != len(state):
        return None
    places: dict[tuple[Any, ...], list[str]] = {}
    for name, tensor in state.items():
        places.setdefault((name.rpartition(".")[2], *tensor.shape), []).append(name)
    named: dict[str, Tensor] = {}
    for name, shape in own.items():
        fitting = places.get((name.rpartition(".")[2], *shape))
        if not fitting:
            return None
        named[name] = state[fitting.pop(0)]
    return named


def _own_config(card: Card, found: Recognised) -> dict[str, Any]:
    published = asdict(card.config(found.config.channels))
    return {key: value for key, value in asdict(found.config).items() if value != published[key]}


def _fitting(card: Card, found: Recognised) -> Recognised:
    """Return the recognised network with every tensor that it needs and no other.

    Raises:
        CheckpointError: A tensor is missing, is one too many, or has another shape.
    """
    with torch.device("meta"):
        network = card.build(found.config)
    own = network.state_dict()
    state = {key: t for key, t in found.state.items() if key in own or "." in key or t.numel() > 1}
    lacking = [key for key in own if key not in state and not is_counter(key)]
    convs = (nn.Conv2d, nn.ConvTranspose2d)
    biases = [
        f"{name}.bias"
        for name, layer in network.named_modules()
        if isinstance(layer, convs) and layer.bias is not None
    ]
    if lacking == biases and len(biases) > 1:  # trained without any
        state |= {key: torch.zeros(own[key].shape) for key in biases}
        lacking = []
    for key, tensor in state.items():
        if key in own and own[key].shape != tensor.shape:
            raise CheckpointError(
                f"looks like {card.name} but {key} is {tuple(tensor.shape)}, "
                f"need {tuple(own[key].shape)}"
            )
    extra = [key for key in state if key not in own]
    if lacking or extra:
        wrong = f"lacks {listed(lacking)}" if lacking else f"has extra {listed(extra)}"
        raise CheckpointError(f"looks like {card.name} but {wrong}")
    return Recognised(found.config, state)


def _filled(card: Card, found: Recognised, group: Group) -> nn.Module:
    names = {id(tensor): name for name, tensor in group.state.items()}
    network = card.build(found.config)
    state = {
        key: tensor if is_counter(key) else weights_of(names.get(id(tensor), key), tensor)
        for key, tensor in found.state.items()
    }
    network.load_state_dict(state, strict=False)  # counters may be missing
    return network.eval()


def weights_of(name: str, tensor: Tensor) -> Tensor:
    """A tensor as float32 in memory of its own, however it is stored.

    Raises:
        CheckpointError: It has no values, or not only finite real ones.
    """
    if tensor.is_meta:
        raise CheckpointError(
            f"{name} has no values (it is on the meta device); save it after the weights are loaded"
        )
    if tensor.is_nested or tensor.is_complex():
        raise CheckpointError(
            f"{name} is {tensor.dtype}, of no rectangular shape; need real numbers"
        )
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if not tensor.is_floating_point():
        raise CheckpointError(
            f"{name} holds whole numbers ({tensor.dtype}), need weights as they were trained; "
            "export those with --precision int8"
        )
    dense = tensor.to_dense() if tensor.layout != torch.strided else tensor
    weights = dense.to(torch.float32, copy=True).contiguous()
    wrong = int((~weights.isfinite()).sum())
    if wrong:
        raise CheckpointError(
            f"{name} has {wrong} of {weights.numel()} values that are NaN or infinite; its "
            "training failed: give an earlier checkpoint"
        )
    return weights


def _same(one: Group, other: Group) -> bool:
    """Tell equal weights in two places from different ones."""
    pairs = zip(one.state.values(), other.state.values(), strict=False)
    return len(one.state) == len(other.state) and all(
        a.shape == b.shape and a.layout == b.layout == torch.strided and torch.equal(a, b)
        for a, b in pairs
    )


def _reason(found: list[Group], misfits: list[tuple[Group, str]], content: Any) -> str:
    """Why none fits: what the likeliest group lacks, or the network that is nearest by shapes."""
    if not found:
        if isinstance(content, Mapping):
            return "holds no tensors; save network.state_dict()"
        return (
            f"holds a {type(content).__name__}, need a state dict; "
            "save torch.save(network.state_dict(), path)"
        )
    for pattern, what in TREATED:
        treated = [key for group in found for key in group.state if pattern.search(key)]
        if treated:
            return f"holds {treated[0]}: {what}"
    if misfits:
        return min(misfits, key=lambda misfit: misfit[0].rank)[1]
    likeliest = min(found, key=lambda group: (group.rank, -len(group.state)))
    inside = f" in {likeliest.name}" if likeliest.name else ""
    return (
        f"no network of the zoo fits; it has {listed(list(likeliest.state))}{inside}; "
        f"{nearest(likeliest.state)}"
    )
