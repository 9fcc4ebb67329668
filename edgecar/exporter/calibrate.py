"""Calibration of INT8 on coded pictures: equal channels, ranges, rounded weights and biases.

Sources: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
ICCV 2019, sections 4.1 and 4.2; Frantar et al., "GPTQ", ICLR 2023, section 3. Here ranges, sums and
means are measured on pictures. Each step is needed: post-training quantisation by NNCF 3.4, which
rounds weights to the nearest, loses 5 to 10 times what the gate allows on our networks.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from edgecar.engines.base import CODE
from edgecar.engines.libraries import imported_onnxruntime
from edgecar.engines.select import LARGEST_WEIGHT
from edgecar.errors import ExportError
from edgecar.exporter.frames import CodedPicture
from edgecar.exporter.graphs import attributes_of, copied
from edgecar.exporter.quantize import Ranges, step_of, through_eight_bits
from edgecar.spec import QUANTISER

HOMOGENEOUS = frozenset("LeakyRelu Relu PRelu Identity".split())
"""Activations for which f(s·x) = s·f(x) for any s > 0."""

INTERPOLATED = ["Add", "Unsqueeze", "ReduceSum", "Mul"]
"""Nodes, the last first, that add shifts from a table whose rows are channels."""

LEAST_RANGE = 1e-3  # of a tensor's widest channel: a channel that is almost silent stays so
PATCHES = 2000  # inputs of a convolution per picture that weights are rounded on
DAMPING = 0.01  # of the mean energy, added to every input: few patches prove no exact relation

METHODS = {"min-max": 0.0, "percentile 99.99": 1e-4, "percentile 99.9": 1e-3}
"""Ways to take the range of a tensor, with the share of its values that is left out."""


def observed(
    model: ModelProto, tensors: Iterable[str], pictures: Sequence[CodedPicture]
) -> Iterator[dict[str, Any]]:
    """Yield for each picture the values of some tensors, and of the graph's input, by name."""
    seen, feed = copied(model), model.graph.input[0].name
    values = {value.name: value for value in seen.graph.value_info}
    names = [name for name in dict.fromkeys(tensors) if name != feed]
    seen.graph.output.extend(values[name] for name in names if name in values)
    session = imported_onnxruntime().InferenceSession(
        seen.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for picture in pictures:
        unit = picture.codes[None] * CODE
        told = {QUANTISER: np.full(1, picture.quantiser, np.float32)}
        given = {feed: unit, **(told if len(session.get_inputs()) > 1 else {})}
        outputs = session.run(names, given) if names else []
        yield {feed: unit, **dict(zip(names, outputs, strict=True))}


def _largest_values(
    model: ModelProto,
    tensors: Collection[str],
    pictures: Sequence[CodedPicture],
    rows_of: Callable[[Any], Any],
    left_out: Sequence[float],
) -> dict[str, NDArray[np.float32]]:
    """Return the exact quantiles ``1 - left_out`` of rows of tensors, ``(len(left_out), rows)``.

    Only the largest values are kept: all of a large network would fill the memory.
    """
    tails: dict[str, Any] = {}
    counts: dict[str, int] = dict.fromkeys(tensors, 0)
    total_px = sum(picture.codes[0].size for picture in pictures)
    for picture, values in zip(pictures, observed(model, tensors, pictures), strict=True):
        for name in counts:
            rows = rows_of(values[name])
            counts[name] += rows.shape[1]
            most = 2 + math.ceil(max(left_out) * rows.shape[1] / picture.codes[0].size * total_px)
            both = np.concatenate([tails.get(name, rows[:, :0]), rows], axis=1)
            kept = min(most, both.shape[1])
            tails[name] = np.partition(both, -kept, axis=1)[:, -kept:]
    return {
        name: np.quantile(
            tail,
            [1 - share * (counts[name] - 1) / max(1, tail.shape[1] - 1) for share in left_out],
            axis=1,
        )
        for name, tail in tails.items()
    }


def equalised(
    model: ModelProto, pictures: Sequence[CodedPicture], outliers: float = 0.0
) -> ModelProto:
    """Return the same network with channels of equal range, so that one scale serves them all.

    Between a convolution and its readers, through homogeneous activations and the addition of what
    the quantiser shifts channels by, a channel is divided by its range and the weights that read it
    are multiplied by it. The output is the same up to the rounding of float32.
    """
    made = copied(model)
    weights = {tensor.name: tensor for tensor in made.graph.initializer}
    pairs = list(_pairs(made))
    tensors = [tensor for _, tensor, _ in pairs]
    # Ranges of all at once: scaling one tensor leaves those of the others as they are.
    found = _largest_values(
        made, tensors, pictures, lambda x: np.abs(x[0]).reshape(x.shape[1], -1), [outliers]
    )
    for makers, tensor, readers in pairs:
        peak = found[tensor][0].astype(np.float64)
        reach = np.maximum(peak, LEAST_RANGE * peak.max())
        if not (np.isfinite(reach).all() and reach.min() > 0):
            continue
        scale = reach / np.exp(np.log(reach).mean())
        scaled = [(name, 1 / scale, 0) for name in makers]
        for name, factors, axis in (*scaled, *((r.input[1], scale, 1) for r in readers)):
            values: Any = numpy_helper.to_array(weights[name])
            factors = factors.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
            values = (values * factors).astype(values.dtype)
            weights[name].CopyFrom(numpy_helper.from_array(values, name))
    return made


def _pairs(model: ModelProto) -> Iterator[tuple[list[str], str, list[NodeProto]]]:
    """Yield the weights that make a tensor, that tensor, and the convolutions that read it.

    Left out is what is not plain. The weights have an output channel for each channel of the
    tensor: those of a convolution, its bias, and the table of shifts that are added to it.
    """
    readers: dict[str, list[NodeProto]] = {}
    made_by = {node.output[0]: node for node in model.graph.node}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    rows = {tensor.name: tensor.dims[:1] for tensor in model.graph.initializer}
    outputs = {value.name for value in model.graph.output}

    def own(names: Sequence[str]) -> bool:
        return all(name in rows and len(readers[name]) == 1 for name in names)

    for node in model.graph.node:
        if node.op_type != "Conv" or not own(node.input[1:]):
            continue
        makers, tensor = list(node.input[1:]), node.output[0]
        while len(readers.get(tensor, [])) == 1 and tensor not in outputs:
            follower = readers[tensor][0]
            table = _table_of_shifts(follower, tensor, made_by, readers)
            if table and own([table]) and rows[table] == rows[node.input[1]]:
                makers.append(table)
            elif follower.op_type not in HOMOGENEOUS or follower.input[0] != tensor:
                break
            tensor = follower.output[0]
        found = readers.get(tensor, [])
        if (
            found
            and tensor not in outputs
            and all(_is_dense(r) and own(r.input[1:2]) for r in found)
        ):
            yield makers, tensor, found


def _table_of_shifts(
    node: NodeProto,
    tensor: str,
    made_by: Mapping[str, NodeProto],
    readers: Mapping[str, Sequence[NodeProto]],
) -> str | None:
    """Return the table ``(channels, knots)`` of shifts that a node adds to a tensor, if it does."""
    added, makers = next((name for name in node.input if name != tensor), ""), [node]
    while added in made_by and len(readers[added]) == 1:
        makers.append(made_by[added])
        if [maker.op_type for maker in makers] == INTERPOLATED:
            return str(makers[-1].input[1])
        added = (*makers[-1].input, "")[0]
    return None


def _is_dense(node: NodeProto) -> bool:
    return node.op_type == "Conv" and attributes_of(node).get("group", 1) == 1


def ranges_of(
    model: ModelProto, pictures: Sequence[CodedPicture], *, symmetric: bool
) -> dict[str, Ranges]:
    """Return by method of `METHODS` the ranges of tensors that convolutions read.

    Without symmetry also of those that they make, which are coded then.
    """
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    tensors = dict.fromkeys(node.input[0] for node in convs)
    if not symmetric:
        tensors |= dict.fromkeys(node.output[0] for node in convs)

    def rows(x: Any) -> Any:
        return np.abs(x).reshape(1, -1) if symmetric else np.stack([-x.ravel(), x.ravel()])

    found = _largest_values(model, tensors, pictures, rows, list(METHODS.values()))
    return {
        method: {name: (-float(ends[at][0]), float(ends[at][-1])) for name, ends in found.items()}
        for at, method in enumerate(METHODS)
    }


def ranges_from_reaches(model: ModelProto, reaches: Mapping[str, float]) -> Ranges:
    """Return symmetric ranges of what convolutions read, from reaches by names of modules."""
    reads = {node.input[1]: node.input[0] for node in model.graph.node if node.op_type == "Conv"}
    absent = [name for name in reaches if f"{name}.weight" not in reads]
    if absent:
        raise ExportError(
            f"the weights were trained in eight bits for convolution {absent[0]!r}, which the "
            "graph does not have; export weights that were trained without --qat"
        )
    return {reads[f"{name}.weight"]: (-reach, reach) for name, reach in reaches.items()}


def rounded_weights(
    model: ModelProto, pictures: Sequence[CodedPicture]
) -> dict[str, NDArray[np.int8]]:
    """Return codes, in steps of `step_of`, for the weights of inner convolutions without groups.

    Weights of a channel are rounded one after the other, and those still to come make up for the
    error of each, as far as they read the same things. Seven bits so rounded lose about what eight
    bits lose that are rounded to the nearest.
    """
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    feed = model.graph.input[0].name
    convs = [
        node
        for node in model.graph.node
        if _is_dense(node) and node.input[0] != feed and node.input[1] in weights
    ]
    dice = np.random.default_rng(0)
    energies: dict[str, Any] = {}
    for values in observed(model, [node.input[0] for node in convs], pictures):
        for node in convs:
            rows = _read(values[node.input[0]][0], node, weights[node.input[1]].shape, 0)
            taps = _read(rows, node, weights[node.input[1]].shape, 1)  # (C, H, W, kh, kw)
            height, width = taps.shape[1:3]
            at = np.divmod(dice.permutation(height * width)[:PATCHES], width)
            patches = taps[:, at[0], at[1]].transpose(0, 2, 3, 1).reshape(-1, len(at[0]))
            energy = np.float64(patches @ patches.T)
            energies[node.input[1]] = energies.get(node.input[1], 0.0) + energy
    return {name: _compensated(weights[name], energy) for name, energy in energies.items()}


def _read(x: Any, node: NodeProto, shape: Sequence[int], axis: int) -> Any:
    """Return what a kernel reads of rows (axis 0) or columns (1) of ``(C, H, W, ...)``.

    The size along the axis becomes that of the output; the values lie along a new last axis.
    """
    attributes = attributes_of(node)
    pads = attributes.get("pads", (0, 0, 0, 0))
    stride, spread = (attributes.get(name, (1, 1))[axis] for name in ("strides", "dilations"))
    padding = [(0, 0)] * x.ndim
    padding[1 + axis] = pads[axis], pads[2 + axis]
    window = (shape[2 + axis] - 1) * spread + 1
    taps = sliding_window_view(np.pad(x, padding), window, 1 + axis)[..., ::spread]
    return taps[:, ::stride] if axis == 0 else taps[:, :, ::stride]


def _compensated(weights: NDArray[np.float32], energy: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return codes of one tensor."""
    order = np.argsort(-np.diag(energy), kind="stable")  # those that matter most have most to come
    damping = DAMPING * float(np.trace(energy)) / len(energy) + np.finfo(np.float32).tiny
    ordered = energy[np.ix_(order, order)] + damping * np.eye(len(energy))
    pull = np.linalg.cholesky(np.linalg.inv(ordered)).T
    left = weights.reshape(len(weights), -1)[:, order].astype(np.float64)
    step = step_of(weights).astype(np.float64)
    codes = np.empty_like(left)
    for place in range(left.shape[1]):
        nearest = np.rint(left[:, place] / step)
        codes[:, place] = np.clip(nearest, -LARGEST_WEIGHT, LARGEST_WEIGHT)
        missing = (left[:, place] - codes[:, place] * step) / pull[place, place]
        left[:, place:] -= np.outer(missing, pull[place, place:])
    restored = np.empty_like(codes)
    restored[:, order] = codes
    return restored.reshape(weights.shape).astype(np.int8)


def bias_shifts(
    model: ModelProto,
    pictures: Sequence[CodedPicture],
    ranges: Ranges,
    codes: Mapping[str, NDArray[np.int8]],
    *,
    signed: bool,
) -> dict[str, NDArray[np.float64]]:
    """Return what each convolution in eight bits misses on average, by its name, for each channel.

    Rounded weights do not err evenly: without this, pictures come out darker or brighter. Layers
    are measured apart: each reads what the FP32 graph computes.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    convs = [n for n in model.graph.node if n.op_type == "Conv" and n.input[1] in codes]
    shifts: dict[str, Any] = {}
    for values in observed(model, [node.input[0] for node in convs], pictures):
        for node in convs:
            x, weights = values[node.input[0]][0], numpy_helper.to_array(constants[node.input[1]])
            lower = codes[node.input[1]] * step_of(weights)[:, None, None, None]
            coded = through_eight_bits(x, ranges[node.input[0]], signed=signed)
            missing = _mean_output(x, node, weights) - _mean_output(coded, node, lower)
            shifts[node.name] = shifts.get(node.name, 0) + missing / len(pictures)
    return shifts


def _mean_output(x: Any, node: NodeProto, weights: Any) -> NDArray[np.float64]:
    """Return the mean over all pixels of each output channel, without the bias."""
    by_row = _read(x, node, weights.shape, 1).mean(axis=2)  # (C, H, kw)
    means = _read(by_row, node, weights.shape, 0).mean(axis=1, dtype=np.float64)  # (C, kw, kh)
    total: NDArray[np.float64] = np.tensordot(weights, means.transpose(0, 2, 1), 3)
    return total
