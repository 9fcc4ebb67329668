"""The networks of the zoo, and which of them the tensors of a checkpoint belong to."""

from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher, get_close_matches
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from edgecar.errors import CheckpointError, SettingsError
from edgecar.zoo import arcnn, carcnn, dncnn, edgecar_net, fastarcnn, glfusion, msfan
from edgecar.zoo.card import Card, Recognised, State

CARDS: tuple[Card, ...] = (
    arcnn.CARD,
    fastarcnn.CARD,
    dncnn.CARD,
    msfan.CARD,
    carcnn.CARD,
    glfusion.CARD,
    edgecar_net.N,
    edgecar_net.XS,
    edgecar_net.S,
    edgecar_net.M,
)

Shapes = dict[str, tuple[int, ...]]

SHOWN = 3  # tensors that a message names
NEAR = 0.3  # share of shapes in common, below which no network is worth naming
MOST_LAYERS, MOST_FILTERS = 100, 1 << 14  # of a DnCNN to compare with


def card_named(name: str) -> Card:
    """Return the card called ``name``; SettingsError gives the nearest names if there is none."""
    by_name = {card.name: card for card in CARDS}
    if name not in by_name:
        near = get_close_matches(name, by_name, n=2, cutoff=0.3) or list(by_name)
        raise SettingsError(f"no network is called {name!r}; did you mean {' or '.join(near)}?")
    return by_name[name]


def recognised_in(state: dict[str, Tensor]) -> tuple[Card, Recognised] | None:
    """Find the network that tensors belong to; None if it is not in the zoo."""
    for card in CARDS:
        try:
            found = card.recognise(state)
        except (IndexError, KeyError, ZeroDivisionError):
            continue  # names of this network, but tensors of another rank or none
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


def _named_by_shape(card: Card, config: Any, state: dict[str, Tensor]) -> State | None:
    """Rename tensors as a network does, if there are as many of each shape, in order."""
    own = layout(card.name, config)
    if len(own) != len(state):
        return None
    places: dict[tuple[Any, ...], list[Tensor]] = {}
    for name, tensor in state.items():
        places.setdefault((name.rpartition(".")[2], *tensor.shape), []).append(tensor)
    named: dict[str, Tensor] = {}
    for name, shape in own.items():
        fitting = places.get((name.rpartition(".")[2], *shape))
        if not fitting:
            return None
        named[name] = fitting.pop(0)
    return named


def _fitting(card: Card, found: Recognised) -> Recognised:
    """Return the recognised network with every tensor that it needs and no other."""
    with torch.device("meta"):
        network = card.build(found.config)
    own = network.state_dict()
    state = {key: t for key, t in found.state.items() if key in own or "." in key or t.numel() > 1}
    lacking = [key for key in own if key not in state and not is_counter(key)]
    biases = [
        f"{name}.bias"
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None
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


def nearest(state: Mapping[str, Tensor]) -> str:
    """Name the network with most of the shapes in common, and the tensors that differ."""
    given = _shapes(state)
    has = list(given.items())
    best, share, said = "", 0.0, [""]
    for name, own in _layouts(given):
        matcher = SequenceMatcher(None, list(own.values()), list(given.values()), autojunk=False)
        if matcher.ratio() <= share:
            continue
        best, share, said, needs = name, matcher.ratio(), [], list(own.items())
        for kind, a, b, c, d in matcher.get_opcodes():
            if kind != "equal":
                pairs = zip(has[c:d], needs[a:b], strict=False)
                said += [f"{key} is {got}, need {need}" for (key, got), (_, need) in pairs]
                said += [f"lacks {key} {shape}" for key, shape in needs[a + d - c : b]]
                said += [f"has extra {key} {shape}" for key, shape in has[c + b - a : d]]
    if share < NEAR:
        return "by shapes it is near none of them"
    if not said:
        return f"all its shapes are those of {best}, under other names; name them as {best} does"
    return f"by shapes it comes closest to {best}: {listed(said, '; ')}"


def listed(items: list[str], between: str = ", ") -> str:
    """Return the first items, and the number of the others."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return between.join(items[:SHOWN]) + more


def is_counter(key: str) -> bool:
    """Tell counters of batches from weights; older checkpoints lack them."""
    return key.endswith("num_batches_tracked")


@cache
def layout(network: str, config: Any) -> Shapes:
    """Return names and shapes of the tensors of a network of the zoo, counters left out."""
    with torch.device("meta"):
        return _shapes(card_named(network).build(config).state_dict())


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {key: tuple(tensor.shape) for key, tensor in state.items() if not is_counter(key)}


def _layouts(given: Shapes) -> Iterator[tuple[str, Shapes]]:
    """Yield the published networks, and DnCNN of the size of the checkpoint."""
    for card in CARDS:
        for config in card.by_shape or card.configs.values():
            yield card.name, layout(card.name, config)
    kernels = [shape for shape in given.values() if len(shape) == 4]
    if 3 <= len(kernels) <= MOST_LAYERS and 0 < kernels[0][0] * kernels[0][1] <= MOST_FILTERS:
        width, channels, _, _ = kernels[0]
        for batch_norm in (True, False):
            config = dncnn.DncnnConfig(channels, len(kernels), width, batch_norm)
            yield "dncnn", layout("dncnn", config)
