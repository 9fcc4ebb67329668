"""Training for detectors: what their backbones see in a picture counts beside its pixels.

A network trained on pixels alone smooths away what detectors look for. Features of frozen detectors
tell how far a restored picture is from the clean one to them. Only backbones are compared: with the
outputs of heads in the loss, a network learns to please these very detectors, and others find less.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgecar.artifact import read_model
from edgecar.errors import SettingsError
from edgecar.evaluate.detector import Detector
from edgecar.exporter.graphs import attributes_of

if TYPE_CHECKING:
    from onnx import NodeProto

PIXELS = (1, 2, 3)
LEAST_MSE = 1e-5  # 50 dB: crops that are all but perfect do not outweigh the rest
LEAST_CHANGE = 1e-3  # of the mean square of a feature map: the same for features

# Frames are scaled before a detector, and cameras differ; a single view would be learned by heart.
SCALES = 0.5, 1.25
GAINS = 0.7, 1.2
MOST_NOISE = 4 / 255  # standard deviation
VIEW_ALIGN_PX = 32  # largest stride of the common grids

Seed = int | tuple[int, int]

HALVING = [2, 2]  # strides
UPSAMPLING = ("Resize", "Upsample", "ConvTranspose")  # where the neck of a detector begins


@dataclass(frozen=True)
class Step:
    """One operation of a graph: tensors by name in, tensors by name out."""

    compute: Callable[..., Tensor | Sequence[Tensor]]
    inputs: list[str]
    outputs: list[str]


class Backbone:
    """The first layers of a detector, frozen, as a differentiable function of pictures.

    Its features are the maps that a stride of two halves before anything is upsampled: the ends of
    the stages and, where a stage begins with branches, what is halved inside them.

    Args:
        path: ONNX file that `edgecar.evaluate.detector.Detector` reads.
        device: Device to compute on.

    Raises:
        EngineError: It is no detector that is understood.
        SettingsError: It has no stages to compare, or an operation that is not known here.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        from onnx import numpy_helper

        head = Detector(path, threads=1).head
        self._full_scale, self._reversed = head.full_scale, head.colours == "bgr"
        graph = read_model(path).graph
        self._input = graph.input[0].name
        stored = {each.name: each for each in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                stored[node.output[0]] = node.attribute[0].t
        self._constants = {
            name: torch.from_numpy(numpy_helper.to_array(tensor).copy()).to(device)
            for name, tensor in stored.items()
        }
        necks = [node.input[0] for node in graph.node if node.op_type in UPSAMPLING]
        halved = [
            node.input[0]
            for node in _needed(necks[:1], graph.node)
            if attributes_of(node).get("strides") == HALVING
        ]
        self.features = [each for each in dict.fromkeys(halved) if each != self._input]
        """Names of the compared maps in the graph, in the order of computation."""
        if not self.features:
            raise SettingsError(
                f"{path} has no maps that are halved before others are upsampled; need a detector "
                "with a pyramid of features, such as a YOLO"
            )
        nodes = _needed(self.features, [_plain(node, graph.node) for node in graph.node])
        self._steps = [_step(node, path) for node in nodes if node.output[0] not in stored]

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        """Return the features of RGB pictures, ``(N, 3, H, W)`` in [0, 1], sides multiples of 32.

        The gradient flows to the pictures alone.
        """
        channels = pictures.flip(1) if self._reversed else pictures
        known = {**self._constants, self._input: channels * self._full_scale}
        for step in self._steps:
            made = step.compute(*(known[name] for name in step.inputs))
            results = [made] if isinstance(made, Tensor) else made
            known.update(zip(step.outputs, results, strict=True))
        return [known[name] for name in self.features]


def _needed(ends: Iterable[str], nodes: Sequence["NodeProto"]) -> list["NodeProto"]:
    """Return the nodes that these tensors depend on, in the order of the graph."""
    wanted, kept = set(ends), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]


def _plain(node: "NodeProto", nodes: Iterable["NodeProto"]) -> "NodeProto":
    """Return a node that suits every size of pictures in place of ShuffleNet's split of channels.

    Exports write the split into even and odd channels as Reshape, Transpose, Reshape and Gather,
    with the size of the picture in them.
    """
    from onnx import helper

    makers = {name: each for each in nodes for name in each.output}
    chain, name = [node], node.input[0] if node.input else ""
    while name in makers and len(chain) < 4:
        chain.append(makers[name])
        name = chain[-1].input[0]
    if [each.op_type for each in chain] != ["Gather", "Reshape", "Transpose", "Reshape"]:
        return node
    return helper.make_node("EveryOther", [name, node.input[1]], node.output)


def _step(node: "NodeProto", path: Path) -> Step:
    attributes = attributes_of(node)
    operation = OPERATIONS.get(node.op_type)
    if operation is None or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise SettingsError(
            f"{path} has {node.op_type} in its backbone, and training follows only "
            f"{', '.join(OPERATIONS)} with explicit padding; give another detector"
        )
    names = [name for name in node.input if name]
    return Step(partial(operation, attributes), names, list(node.output))


# Operations of ONNX on pictures, in torch: the node's attributes, then its inputs.

Attributes = dict[str, Any]


def _convolution(
    given: Attributes, maps: Tensor, weights: Tensor, bias: Tensor | None = None
) -> Tensor:
    padded = functional.pad(maps, _margins(given))
    stride, dilation = given.get("strides", 1), given.get("dilations", 1)
    groups = int(given.get("group", 1))
    return functional.conv2d(padded, weights, bias, stride, 0, dilation, groups)


def _highest(given: Attributes, maps: Tensor) -> Tensor:
    padded = functional.pad(maps, _margins(given), value=-torch.inf)
    stride, to_the_end = given.get("strides", 1), bool(given.get("ceil_mode"))
    return functional.max_pool2d(padded, given["kernel_shape"], stride, ceil_mode=to_the_end)


def _pad(_: Attributes, maps: Tensor, margins: Tensor, *fill: Tensor) -> Tensor:
    top, left, bottom, right = margins.view(2, -1)[:, -2:].flatten().tolist()
    return functional.pad(maps, [left, right, top, bottom], value=float(fill[0]) if fill else 0.0)


def _margins(given: Attributes) -> list[int]:
    """Left, right, top, bottom, as torch pads; ONNX has top, left, bottom, right."""
    top, left, bottom, right = given.get("pads", (0, 0, 0, 0))
    return [left, right, top, bottom]


def _slice(_: Attributes, maps: Tensor, *ranges: Tensor) -> Tensor:
    starts, ends, axes, steps = (each.tolist() for each in ranges)
    cuts = [slice(None)] * maps.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cuts[axis] = slice(start, end, step)
    return maps[tuple(cuts)]


OPERATIONS: dict[str, Callable[..., Tensor | Sequence[Tensor]]] = {
    "Conv": _convolution,
    "MaxPool": _highest,
    "Pad": _pad,
    "Slice": _slice,
    "Split": lambda given, maps, sizes: maps.split(sizes.tolist(), given["axis"]),
    "EveryOther": lambda _, maps, first: maps[:, int(first) :: 2],
    "Concat": lambda given, *maps: torch.cat(maps, given["axis"]),
    "Add": lambda _, one, other: one + other,
    "Mul": lambda _, one, other: one * other,
    "Relu": lambda _, maps: maps.relu(),
    "LeakyRelu": lambda given, maps: functional.leaky_relu(maps, given.get("alpha", 0.01)),
    "Sigmoid": lambda _, maps: maps.sigmoid(),
}


@dataclass(frozen=True)
class DetectionLoss:
    """Squared error of pixels plus a share of the distance of features, both of the coded crop's.

    A crop left as it was coded costs ``1 + share``, a perfect one nothing.

    Attributes:
        backbones: Detectors of different families, so that others are helped as well.
        share: Weight of the features, λ.
    """

    backbones: Sequence[Backbone]
    share: float

    def __call__(self, restored: Tensor, clean: Tensor, coded: Tensor, seed: Seed) -> Tensor:
        """Return the loss of each picture, ``(N,)``.

        Args:
            restored: ``(N, 1, H, W)`` luma or ``(N, 3, H, W)`` RGB in [0, 1]; the gradient flows
                to it alone. Luma is shown to the detectors as grey.
            clean: Pictures before they were coded, of the same shape.
            coded: Pictures as coded, of the same shape.
            seed: Seed of the view: of scale, gain and noise, which are alike for all three.
        """
        error, before = ((each - clean).square().mean(PIXELS) for each in (restored, coded))
        pixels = error / (before + LEAST_MSE)
        views = [_view(each.expand(-1, 3, -1, -1), seed) for each in (restored, clean, coded)]
        distances = [distance(backbone, *views) for backbone in self.backbones]
        return pixels + self.share * torch.stack(distances).mean(0)


def distance(backbone: Backbone, restored: Tensor, clean: Tensor, coded: Tensor) -> Tensor:
    """Squared distance of features from those of the clean pictures, of the coded ones' distance.

    The mean over all maps, ``(N,)``: 1 for what is no nearer than the coded picture.
    """
    with torch.no_grad():
        known = [each.chunk(2) for each in backbone(torch.cat([clean, coded]))]
    shares = []
    for seen, (goal, given) in zip(backbone(restored), known, strict=True):
        left, before = ((each - goal).square().mean(PIXELS) for each in (seen, given))
        shares.append(left / (before + LEAST_CHANGE * goal.square().mean(PIXELS)))
    return torch.stack(shares).mean(0)


def _view(pictures: Tensor, seed: Seed) -> Tensor:
    """Scale, brighten and blur with noise as a camera before the detector might."""
    rng = np.random.default_rng(seed)
    scale, gain, noise = (float(rng.uniform(*ends)) for ends in (SCALES, GAINS, (0, MOST_NOISE)))
    size = [
        max(1, round(side * scale / VIEW_ALIGN_PX)) * VIEW_ALIGN_PX for side in pictures.shape[2:]
    ]
    scaled = functional.interpolate(pictures, size, mode="bilinear", antialias=True)
    grain = torch.from_numpy(rng.standard_normal((1, 1, *size), np.float32)).to(pictures.device)
    return scaled * gain + noise * grain
