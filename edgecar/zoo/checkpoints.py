"""Checkpoints in: safe to open, recognised by their tensors, wherever in the file they are.

Training scripts nest weights in dictionaries, keep averaged copies and other networks beside them,
and put names of wrappers before those of the layers. All of it is the same thing: a group of
tensors under a common path. Each group is offered in turn, and shapes decide which is a network.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from edgecar.errors import CheckpointError
from edgecar.zoo.card import Card, Recognised
from edgecar.zoo.reading import content_of, is_safetensors, mappings, pickled_network
from edgecar.zoo.registry import is_counter, listed, nearest, recognised_in

STATISTICS = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$")
# Tensors that tell what was done to a network, with what to do about it.
TREATED = {
    r"parametrizations\.|\.weight_(g|v|orig)$": "a normalisation of its weights is stored apart; "
    "before saving, call torch.nn.utils.parametrize.remove_parametrizations (or "
    "remove_weight_norm) on its layers",
    r"\.(zero_point|activation_post_process\.\w+)$": "it was quantised in torch; save the network "
    "as it was before and export it with --precision int8",
}
INT8 = "edgecar.int8"  # key in the header of a safetensors file
# Names that wrappers of PyTorch leave before or between those of layers: DataParallel and
# AveragedModel, torch.compile, FSDP, activation checkpoints, DeepSpeed, quantisation's stubs.
WRAPPERS = set(
    "module _orig_mod _fsdp_wrapped_module _checkpoint_wrapped_module _forward_module "
    "_fw_module".split()
)
# Words in the name of a moving average of the weights, which authors publish and evaluate.
AVERAGED = set("ema ewa swa average averaged avg shadow polyak".split())
OPTIMISERS = set("optim optimizer optimizers optimiser".split())
# Words in the name of what stands beside a network and is none, or not the one to deploy.
ASIDE = OPTIMISERS | set(
    "netd disc discr discriminator critic teacher online loss losses criterion lpips vgg "
    "perceptual percep metric metrics psnr ssim scheduler schedulers scaler amp rng".split()
)


@dataclass(frozen=True)
class Loaded:
    """A checkpoint made into the network it was trained as, in evaluation mode.

    Attributes:
        card: Card of the network.
        channels: 1 luma, 3 RGB.
        network: Network in float32, whatever the checkpoint holds.
        config: Settings that differ from the published ones: ``{"width": 16}``.
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
    """Facts that weights trained in eight bits carry besides their tensors.

    Attributes:
        reaches: Largest magnitude of what each convolution reads, by the name of its module.
        start: The weights they were fine-tuned from: a coder, for those of the same network that
            ship, or a path; empty: from fresh ones.
        start_sha256: SHA-256 of that file; empty if there is none.
    """

    reaches: dict[str, float]
    start: str
    start_sha256: str


@dataclass(frozen=True)
class Group:
    """Tensors under one path of a checkpoint: keys and prefixes without wrappers, and the rest."""

    path: tuple[str, ...]
    state: dict[str, Tensor]

    @property
    def name(self) -> str:
        """The path in one word."""
        return ".".join(self.path) or "the file itself"

    @property
    def rank(self) -> int:
        """Order of preference: averaged weights, weights, what stands aside."""
        words = {word for key in self.path for word in _words(key)}
        aside = words & ASIDE or any(key.lower() in ("d", "net_d") for key in self.path)
        return 2 if aside else 0 if words & AVERAGED else 1


def metadata_of(training: Int8Training) -> dict[str, str]:
    """Return the header of a safetensors file; `int8_training_of` reads it back."""
    return {INT8: json.dumps(asdict(training))}


def int8_training_of(path: Path) -> Int8Training | None:
    """Read how a checkpoint was trained in eight bits; None if it was not."""
    if not is_safetensors(path):
        return None
    with safe_open(path, "pt") as file:
        stored = (file.metadata() or {}).get(INT8)
    try:
        return None if stored is None else Int8Training(**json.loads(stored))
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
    """Load the preferred group among those that fit."""
    fits: list[tuple[Group, Card, Recognised]] = []
    misfits: list[tuple[int, str]] = []
    taken: set[int] = set()
    for group in sorted(found, key=lambda group: group.rank == 0):  # averages after the weights
        tensors = {id(tensor) for tensor in group.state.values()}
        if tensors <= taken:
            continue  # the same network, under its prefix
        try:
            known = recognised_in(_completed(group, [fit[0] for fit in fits]))
        except CheckpointError as error:
            misfits.append((group.rank, str(error)))
        else:
            if known:
                fits.append((group, *known))
                taken |= tensors
    if not fits:
        raise CheckpointError(_reason(found, misfits, content))
    fits.sort(key=lambda fit: fit[0].rank)
    group, card, recognised = fits[0]
    others = [fit[0] for fit in fits[1:]]
    for other in others:
        if other.rank == group.rank and not _same(group, other):
            raise CheckpointError(
                f"holds several networks that fit, {group.name} and {other.name}; save the one to "
                "export alone"
            )
    names = {id(tensor): name for name, tensor in group.state.items()}
    network = card.build(recognised.config)
    state = {
        key: tensor if is_counter(key) else weights_of(names.get(id(tensor), key), tensor)
        for key, tensor in recognised.state.items()
    }
    network.load_state_dict(state, strict=False)  # counters may be missing
    channels = recognised.config.channels
    published = asdict(card.config(channels))
    own = {key: v for key, v in asdict(recognised.config).items() if v != published[key]}
    return Loaded(card, channels, network.eval(), own, _source(group, others, found))


def _completed(group: Group, fits: list[Group]) -> dict[str, Tensor]:
    """Complete averaged weights by the statistics of the network they were averaged from.

    Authors average what the optimiser changes, and run the average with the network's statistics.
    """
    names = group.state.keys()
    for fit in fits if group.rank == 0 else []:
        rest = fit.state.keys() - names
        if names < fit.state.keys() and all(STATISTICS.search(key) for key in rest):
            return {**fit.state, **group.state}
    return group.state


def _source(group: Group, others: list[Group], found: list[Group]) -> str:
    """Return in words where the weights were in the file, and what else was left there."""
    left = [other.name for other in others if other.path]
    for other in found if group.rank > 0 else []:
        read = any(one.path[: len(other.path)] == other.path for one in (group, *others))
        if other.rank == 0 and len(other.state) > 1 and not read:
            left.append(f"{other.name}, whose layout is unknown")
    if left:
        return f"{group.name}, not {listed(left)}"
    return group.name if group.path else ""


def weights_of(name: str, tensor: Tensor) -> Tensor:
    """Copy a tensor as float32, however it is stored."""
    problem = ""
    if tensor.is_meta:
        problem = "has no values (it is on the meta device); save it after the weights are loaded"
    elif tensor.is_nested or tensor.is_complex():
        problem = f"is {tensor.dtype}, of no rectangular shape; need real numbers"
    elif not (tensor.is_quantized or tensor.is_floating_point()):
        problem = f"holds whole numbers ({tensor.dtype}), need weights as they were trained; export"
        problem += " those with --precision int8"
    if problem:
        raise CheckpointError(f"{name} {problem}")
    tensor = tensor.detach()
    tensor = tensor.dequantize() if tensor.is_quantized else tensor
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


def _reason(found: list[Group], misfits: list[tuple[int, str]], content: Any) -> str:
    """Explain why none fits: tensors that are missing, or the network nearest by shapes."""
    if not found and isinstance(content, Mapping):
        return "holds no tensors; save network.state_dict()"
    if not found:
        return (
            f"holds a {type(content).__name__}, need a state dict; "
            "save torch.save(network.state_dict(), path)"
        )
    for pattern, what in TREATED.items():
        treated = [key for group in found for key in group.state if re.search(pattern, key)]
        if treated:
            return f"holds {treated[0]}: {what}"
    if misfits:
        return min(misfits, key=lambda misfit: misfit[0])[1]
    likeliest = min(found, key=lambda group: (group.rank, -len(group.state)))
    inside = f" in {likeliest.name}" if likeliest.path else ""
    return (
        f"no network of the zoo fits; it has {listed(list(likeliest.state))}{inside}; "
        f"{nearest(likeliest.state)}"
    )


def groups(content: Any) -> list[Group]:
    """Return every group of tensors that may be a network, outer ones first."""
    found: list[Group] = []
    for path, mapping in mappings(content):
        if any(OPTIMISERS & set(_words(key)) for key in path):
            continue  # its tensors have the shapes of the weights
        state: dict[str, Tensor] = {}
        for key, value in mapping.items():
            if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
                value = torch.from_numpy(np.ascontiguousarray(value))
            if isinstance(value, Tensor):
                name = ".".join(part for part in str(key).split(".") if part not in WRAPPERS)
                if name in state:
                    raise CheckpointError(
                        f"holds {name} twice, under different wrappers; save one network"
                    )
                state[name] = value
        if state:
            found += _under_prefixes(Group(path, state))
    return found


def _words(name: str) -> list[str]:
    """Split a name into words: ``netG_ema`` is ``netg`` and ``ema``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name).lower().replace("-", "_").split("_")


def _under_prefixes(group: Group) -> Iterator[Group]:
    """Yield a group, then those under the first part of its names, as deep as one is a network.

    Tensors beside a prefix must be known to be no part of the network: otherwise a part of a larger
    network would be taken for a small one.
    """
    yield group
    heads: dict[str, dict[str, Tensor]] = {}
    for name, tensor in group.state.items():
        head, _, rest = name.partition(".")
        if rest or tensor.numel() > 1:  # single numbers count batches, steps and the like
            heads.setdefault(head, {})[rest] = tensor
    aside = {head for head in heads if Group((head,), {}).rank != 1}
    if aside and len(heads) - len(aside) > 1:
        kept = tuple(f"{head}." for head in heads if head not in aside)
        yield Group(group.path, {n: t for n, t in group.state.items() if n.startswith(kept)})
    for head, state in heads.items():
        alone = aside.issuperset(heads.keys() - {head})
        if "" not in state and (alone or head in aside):
            yield from _under_prefixes(Group((*group.path, head), state))


MAX_ERROR = 1e-3
"""Relative; rounding to the 11 significant bits of a normal float16 stays below 2^-11."""


def rounded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round tensors to float16, but for those that would lose more than `MAX_ERROR`.

    Those are tensors with values beyond float16, with no number, or so small as a whole that
    float16 has no bits left for them; they stay in float32. What is not floating point is kept.
    """
    made = {}
    for name, tensor in state.items():
        if tensor.is_floating_point():
            fits = rounding_error(name, tensor) <= MAX_ERROR  # not so where it is NaN
            tensor = tensor.to(torch.float16 if fits else torch.float32)
        made[name] = tensor.contiguous()
    return made


def rounding_error(name: str, tensor: Tensor) -> float:
    """Return the norm of what a tensor loses in float16, over its norm; infinite or NaN as it is.

    Variances of a normalisation count each by itself: small ones are divided by, and what the
    larger ones lose says nothing about them.
    """
    alone = name.rpartition(".")[2] == "running_var"
    parts = tensor.double().reshape(tensor.numel() if alone else 1, -1)
    lost = parts - parts.half().double()
    # The least double, so that zeros, of which nothing is lost, are not divided by.
    norms = parts.norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
    return float((lost.norm(dim=1) / norms).amax())
