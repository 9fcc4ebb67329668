"""The network that an unknown checkpoint comes closest to, by the shapes of its tensors."""

from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from functools import cache
from typing import Any

import torch
from torch import Tensor

from edgecar.zoo.dncnn import DncnnConfig
from edgecar.zoo.registry import CARDS, card_named

Shapes = dict[str, tuple[int, ...]]

SHOWN = 3  # tensors that a message names
NEAR = 0.3  # share of shapes in common, below which no network is worth naming
MOST_LAYERS, MOST_FILTERS = 100, 1 << 14  # of a DnCNN to compare with


def nearest(state: Mapping[str, Tensor]) -> str:
    """Say which network has most of the shapes in common, and which tensors differ."""
    given = _shapes(state)
    best, share, differences = "", 0.0, [""]
    for name, own in _layouts(given):
        matcher = SequenceMatcher(None, list(own.values()), list(given.values()), autojunk=False)
        if matcher.ratio() > share:
            best, share = name, matcher.ratio()
            differences = _differences(own, given, matcher)
    if share < NEAR:
        return "by shapes it is near none of them"
    if not differences:
        return f"all its shapes are those of {best}, under other names; name them as {best} does"
    return f"by shapes it comes closest to {best}: {listed(differences, '; ')}"


def listed(items: list[str], between: str = ", ") -> str:
    """The first items, and how many more there are."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return between.join(items[:SHOWN]) + more


def is_counter(key: str) -> bool:
    """Batches that a normalisation has seen: no weight, and older checkpoints lack it."""
    return key.endswith("num_batches_tracked")


@cache
def layout(network: str, config: Any) -> Shapes:
    """Names and shapes of the tensors of a network of the zoo, counters left out."""
    with torch.device("meta"):
        return _shapes(card_named(network).build(config).state_dict())


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {key: tuple(tensor.shape) for key, tensor in state.items() if not is_counter(key)}


def _layouts(given: Shapes) -> Iterator[tuple[str, Shapes]]:
    """The published networks, and DnCNN of the size of the checkpoint."""
    for card in CARDS:
        for config in card.by_shape or card.configs.values():
            yield card.name, layout(card.name, config)
    kernels = [shape for shape in given.values() if len(shape) == 4]
    if 3 <= len(kernels) <= MOST_LAYERS and 0 < kernels[0][0] * kernels[0][1] <= MOST_FILTERS:
        width, channels, _, _ = kernels[0]
        for batch_norm in (True, False):
            yield "dncnn", layout("dncnn", DncnnConfig(channels, len(kernels), width, batch_norm))


def _differences(
    own: Shapes, given: Shapes, matcher: "SequenceMatcher[tuple[int, ...]]"
) -> list[str]:
    needs, has = list(own.items()), list(given.items())
    said = []
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            continue
        pairs = min(b - a, d - c)
        said += [
            f"{has[c + i][0]} is {has[c + i][1]}, need {needs[a + i][1]}" for i in range(pairs)
        ]
        said += [f"lacks {name} {shape}" for name, shape in needs[a + pairs : b]]
        said += [f"has extra {name} {shape}" for name, shape in has[c + pairs : d]]
    return said
