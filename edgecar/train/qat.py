"""Training in eight bits: convolutions that round in the forward pass what INT8 will round.

Weights have a scale for each channel, found from the weights; what a convolution reads has one for
the whole tensor, and its reach is learned (Esser et al., "Learned Step Size Quantization", ICLR
2020). Gradients pass through the rounding as if it were not there.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from edgecar.engines.select import LARGEST_WEIGHT
from edgecar.errors import SettingsError
from edgecar.exporter.calibrate import equalised
from edgecar.exporter.frames import generated_frames
from edgecar.exporter.quantize import always_kept
from edgecar.exporter.recipe import recipe_for
from edgecar.exporter.to_onnx import onnx_from_network
from edgecar.files import sha256_of
from edgecar.spec import WEIGHTS_FOR, weights_for_purpose
from edgecar.train.recipe import DETECT, TrainRecipe
from edgecar.zoo.card import Card
from edgecar.zoo.checkpoints import Int8Training
from edgecar.zoo.shipped import shipped_checkpoint

if TYPE_CHECKING:
    from onnx import ModelProto

LARGEST = 127  # code of what a convolution reads; symmetric, so that -128 is not used
BEGIN = 0.999  # quantile of the magnitudes in the first batch that a reach begins with
MOST_SAMPLED = 1 << 20  # of those magnitudes: more takes longer and says the same
WEIGHTS = ".weight"

STEPS, RATE, WARMUP, AVERAGE = 1000, 1e-3, 50, 0.99
TEACHER_SHARE = 1.0  # the same network in FP32: what the gate will compare with


class NarrowConv2d(nn.Conv2d):
    """A convolution of rounded weights over a rounded input; a plain one is turned into it.

    Attributes:
        reach: Largest magnitude that is not clipped; 0 until something was seen.
    """

    reach: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not float(self.reach.detach()):
            self._begin(x)
        scale = self.reach.clamp_min(torch.finfo(torch.float32).tiny) / LARGEST
        # The gradient of a reach is a sum over the tensor; so it weighs like that of one weight.
        share = (x.numel() * LARGEST) ** -0.5
        scale = scale.detach() + (scale - scale.detach()) * share
        narrow = rounded(x, scale), rounded_weights(self.weight)
        sums: Tensor = self._conv_forward(*narrow, self.bias)
        return sums

    def _begin(self, x: Tensor) -> None:
        with torch.no_grad():
            magnitudes = x.detach().abs().flatten()
            step = -(-magnitudes.numel() // MOST_SAMPLED)
            self.reach.copy_(torch.quantile(magnitudes[::step].float(), BEGIN).clamp_min(1e-6))


def rounded(x: Tensor, scale: Tensor, largest: int = LARGEST) -> Tensor:
    """Round ``x`` to codes; ``scale`` broadcasts against it and receives a gradient."""
    steps = (x / scale).clamp(-largest, largest)
    return (steps + (steps.round() - steps).detach()) * scale


def rounded_weights(weight: Tensor) -> Tensor:
    """Round weights ``(O, I, H, W)`` to codes, with a scale for each output channel."""
    with torch.no_grad():
        reach = weight.abs().amax((1, 2, 3), keepdim=True)
        scale = reach.clamp_min(torch.finfo(torch.float32).tiny) / LARGEST_WEIGHT
    return rounded(weight, scale, LARGEST_WEIGHT)


def narrow_(network: nn.Module, card: Card, trained_on: str) -> None:
    """Turn, in place, the convolutions that INT8 computes in eight bits.

    Channels are scaled to one range before, as the export scales those of other weights: one scale
    for a tensor then serves all of them from the first step on.

    Args:
        network: Network of the zoo, on the CPU; its graph says which convolutions those are.
        card: Card of the network.
        trained_on: Degradation to undo, the coder first; ranges are found on such pictures.

    Raises:
        SettingsError: INT8 would leave all convolutions in higher precision.
    """
    model = onnx_from_network(network, card, 1, recipe_for(card.name))
    # Normalised channels have one range already; besides, the graph has folded it into weights.
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        pictures = generated_frames(trained_on, 1, card.align_px).calibration
        load_initialisers(network, equalised(model, pictures))
    modules = dict(network.named_modules())
    named = [modules.get(name) for name in eight_bit_layers(model)]
    found = [module for module in named if type(module) is nn.Conv2d]
    if not found:
        raise SettingsError(
            f"no convolution of {card.name} would compute in eight bits; train it without --qat"
        )
    for conv in found:
        conv.__class__ = NarrowConv2d
        conv.reach = nn.Parameter(torch.zeros(()))
    network.train()


def load_initialisers(network: nn.Module, model: "ModelProto") -> None:
    """Take over the weights of a graph, as far as it calls them what the network does."""
    from onnx import numpy_helper

    state = network.state_dict()
    with torch.no_grad():
        for tensor in model.graph.initializer:
            if tensor.name in state:
                values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
                state[tensor.name].copy_(values)


def eight_bit_layers(model: "ModelProto") -> list[str]:
    """Names of the modules that INT8 computes in eight bits, as far as their graph names them."""
    kept = set(always_kept(model))
    weights = [n.input[1] for n in model.graph.node if n.op_type == "Conv" and n.name not in kept]
    return [name.removesuffix(WEIGHTS) for name in weights if name.endswith(WEIGHTS)]


def reaches(network: nn.Module) -> dict[str, float]:
    """Return the input range of each convolution in eight bits, by the name of its module."""
    return {
        name: round(float(module.reach.detach()), 6)
        for name, module in network.named_modules()
        if isinstance(module, NarrowConv2d)
    }


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the state of the network without the parameters that training in eight bits added."""
    added = {f"{name}.reach" for name in reaches(network)}
    return {name: t for name, t in network.state_dict().items() if name not in added}


def int8_training(network: nn.Module, recipe: TrainRecipe) -> Int8Training | None:
    """Return what an export needs of a network trained in eight bits; None for others."""
    found = reaches(network)
    if not found:
        return None
    began = recipe.start_path
    return Int8Training(found, recipe.start, sha256_of(began) if began else "")


def recipe_in_eight_bits(recipe: TrainRecipe) -> TrainRecipe:
    """Return the recipe of a short run that fine-tunes finished weights in eight bits.

    The weights are those that ship for the recipe's coder, or those of the file that the recipe
    starts from. They alone teach, and every picture counts by its own error: the gate will compare
    with them in dB, and clean pictures for a target would move FP32 itself away from them.
    """
    own = bool(recipe.start) and recipe.start not in WEIGHTS_FOR
    shipped = weights_for_purpose(recipe.degradation.coder, recipe.purpose)
    teacher = recipe.start if own else recipe.network
    if shipped == DETECT and not own:
        teacher = str(shipped_checkpoint(recipe.network, shipped).path)
    return replace(
        recipe,
        qat=True,
        start=recipe.start if own else shipped,
        detectors=(),
        feature_share=0.0,
        teacher=teacher,
        teacher_share=TEACHER_SHARE,
        balanced=True,
        start_share=0.0,
        fit_last_layer=False,
        optimiser="adam",
        rate=RATE,
        final_share=0.01,
        weight_decay=0.0,
        warmup=WARMUP,
        steps=STEPS,
        average=AVERAGE,
    )
