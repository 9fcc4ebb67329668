"""The networks that a checkpoint may hold: every dictionary of tensors, under every prefix.

Training scripts nest weights in dictionaries, keep averaged copies and other networks beside them,
and put names of wrappers before those of the layers. All of it is the same thing: a group of
tensors under a common path. Each group is offered in turn, and shapes decide which is a network.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgecar.errors import CheckpointError
from edgecar.zoo.reading import mappings

# Names that wrappers of PyTorch leave before or between those of layers: DataParallel and
# AveragedModel, torch.compile, FSDP, activation checkpoints, DeepSpeed, quantisation's stubs.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module",
            "_forward_module", "_fw_module"}  # fmt: skip
# Words in the name of a moving average of the weights, which authors publish and evaluate.
AVERAGED = {"ema", "ewa", "swa", "average", "averaged", "avg", "shadow", "polyak"}
# Words in the name of what stands beside a network and is none, or not the one to deploy.
ASIDE = {"netd", "disc", "discr", "discriminator", "critic", "teacher", "online", "loss",
         "losses", "criterion", "lpips", "vgg", "perceptual", "percep", "metric", "metrics", "psnr",
         "ssim", "optim", "optimizer", "optimizers", "optimiser", "scheduler", "schedulers",
         "scaler", "amp", "rng"}  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Tensors under one path of a checkpoint.

    Attributes:
        path: Keys of dictionaries and prefixes of names that lead to them; wrappers are left out.
        state: The tensors by the rest of their names.
    """

    path: tuple[str, ...]
    state: dict[str, Tensor]

    @property
    def name(self) -> str:
        """The path in one word; empty for the file itself."""
        return ".".join(self.path)

    @property
    def rank(self) -> int:
        """Order of preference: averaged weights, weights, what stands aside."""
        words = {word for key in self.path for word in _words(key)}
        if any(key.lower() in ("d", "net_d") for key in self.path):
            return 2
        return 2 if words & ASIDE else 0 if words & AVERAGED else 1


def groups(content: Any) -> list[Group]:
    """Every group of tensors of a checkpoint that may be a network, outer ones first.

    Args:
        content: Content of a checkpoint, as `edgecar.zoo.reading.content_of` returns it.
    """
    found: list[Group] = []
    for path, mapping in mappings(content):
        if any({"optimizer", "optim", "optimizers", "optimiser"} & set(_words(k)) for k in path):
            continue  # its tensors have the shapes of the weights
        state = _without_wrappers(mapping)
        if state:
            found += _under_prefixes(Group(path, state))
    return found


def _words(name: str) -> list[str]:
    """Words of a name in any writing: ``netG_ema`` is ``netg`` and ``ema``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name).lower().replace("-", "_").split("_")


def _without_wrappers(mapping: Any) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for key, value in mapping.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            value = torch.from_numpy(np.ascontiguousarray(value))
        if not isinstance(value, Tensor):
            continue
        name = ".".join(part for part in str(key).split(".") if part not in WRAPPERS)
        if name in state:
            raise CheckpointError(f"holds {name} twice, under different wrappers; save one network")
        state[name] = value
    return state


def _under_prefixes(group: Group) -> Iterator[Group]:
    """A group, then those under the first part of its names, as deep as one of them is a network.

    What stands beside a prefix must be known to be no part of the network: otherwise a part of a
    larger network would be taken for a small one.
    """
    yield group
    heads: dict[str, dict[str, Tensor]] = {}
    for name, tensor in group.state.items():
        head, _, rest = name.partition(".")
        if rest or tensor.numel() > 1:  # single numbers count batches, steps and the like
            heads.setdefault(head, {})[rest] = tensor
    aside = {head for head in heads if Group((head,), {}).rank != 1}
    if aside and len(heads) - len(aside) > 1:
        kept = [f"{head}." for head in heads if head not in aside]
        state = {name: t for name, t in group.state.items() if name.startswith(tuple(kept))}
        yield Group(group.path, state)
    for head, state in heads.items():
        alone = all(other in aside for other in heads if other != head)
        if "" not in state and (alone or head in aside):
            yield from _under_prefixes(Group((*group.path, head), state))
