"""torch as the reference: runs an artifact's graph, operator by operator.

It needs no network class, so what is compared with the other engines is the artifact itself. The
operators are those that edgecar's exports contain.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgecar.artifact import Artifact
from edgecar.engines.base import Batch, Engine, EngineInfo
from edgecar.errors import EngineError
from edgecar.spec import Precision

Attributes = dict[str, Any]


class TorchEngine(Engine):
    """Runs an artifact of any window shape on the CPU, rounding where its graph rounds.

    The arithmetic is float32; what the graph says is half precision or eight bits is rounded to
    that, operator by operator, overflow included. ONNX Runtime on a CPU is no such reference: it
    leaves the rounding to half precision out.

    torch picks another convolution for small inputs than for large ones. So windows run one at a
    time, which keeps neighbours out of a window's bits; but unlike with the other engines the last
    bits depend on the window's shape. The number of threads is the process's own
    (`torch.set_num_threads`): it would change for all of the process.

    Raises:
        EngineError: The graph has an operator that this reference does not know.
    """

    def __init__(self, artifact: Artifact, precision: Precision | None = None) -> None:
        import onnx

        if precision not in (None, "fp32"):
            raise EngineError(
                f"got --precision {precision}, the torch reference computes in fp32 and rounds to "
                f"what the graph says ({artifact.metadata.precision}); leave --precision out"
            )
        try:
            model = onnx.load_model_from_string(artifact.onnx)
            onnx.checker.check_model(model)
            graph = model.graph
        except Exception as error:  # protobuf's own classes are private to its implementation
            cause = " ".join(str(error).split())[:200]
            raise EngineError(f"the torch reference cannot read the artifact: {cause}") from error
        unknown = sorted({node.op_type for node in graph.node} - OPERATORS.keys())
        if unknown:
            raise EngineError(
                f"the torch reference does not know operator {unknown[0]}; use another"
            )
        self._constants = {
            t.name: _tensor(onnx.numpy_helper.to_array(t)) for t in graph.initializer
        }
        self._input, self._output = graph.input[0].name, graph.output[0].name
        self._nodes: list[tuple[Callable[..., Tensor], Attributes, list[str], str, list[str]]] = []
        last_read = {name: node.output[0] for node in graph.node for name in node.input}
        for node in graph.node:
            operator, inputs, made = OPERATORS[node.op_type], list(node.input), node.output[0]
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if all(name in self._constants for name in inputs):  # weights in eight bits, widened
                constants = (self._constants[name] for name in inputs)
                self._constants[made] = operator(attributes, *constants)
                continue
            # What nobody reads any more makes room: fresh memory costs as much as computing.
            done = [
                name
                for name in dict.fromkeys(inputs)
                if last_read[name] == made and name not in ("", self._output, *self._constants)
            ]
            self._nodes.append((operator, attributes, inputs, made, done))
        info = EngineInfo("torch", f"torch {torch.__version__}", "fp32", None, "cpu")
        super().__init__(info, artifact.metadata.channels, artifact.metadata.align_px)

    def _run(self, batch: Batch) -> Batch:
        try:
            with torch.inference_mode():
                windows = [self._restored(torch.from_numpy(window[None])) for window in batch]
                result: Batch = torch.cat(windows).numpy()
        except RuntimeError as error:
            cause = str(error).splitlines()[0][:200]
            raise EngineError(f"torch failed on {batch.shape}: {cause}") from error
        return result

    def _restored(self, window: Tensor) -> Tensor:
        values: dict[str, Tensor | None] = {**self._constants, "": None, self._input: window}
        for operator, attributes, inputs, output, done in self._nodes:
            values[output] = operator(attributes, *(values[name] for name in inputs))
            for name in done:
                del values[name]
        restored = values[self._output]
        assert restored is not None
        return restored


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(array.copy())


def _geometry(attributes: Attributes) -> tuple[list[int], int | list[int], list[int]]:
    pads = attributes.get("pads", [0, 0, 0, 0])
    if pads[:2] != pads[2:]:
        raise EngineError(f"the torch reference needs equal pads on both sides, got {pads}")
    return attributes.get("strides", [1, 1]), pads[:2], attributes.get("dilations", [1, 1])


def _conv(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    stride, padding, dilation = _geometry(attributes)
    groups = attributes.get("group", 1)
    sums = functional.conv2d(*_wide(x, weight, bias), stride, padding, dilation, groups)
    return sums.to(x.dtype)


def _conv_transpose(
    attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    stride, padding, dilation = _geometry(attributes)
    extra, groups = attributes.get("output_padding", [0, 0]), attributes.get("group", 1)
    wide = _wide(x, weight, bias)
    sums = functional.conv_transpose2d(*wide, stride, padding, extra, groups, dilation)
    return sums.to(x.dtype)


def _wide(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """In float32, in which tensor cores add up halves; in halves torch takes a hundred times."""
    return x.float(), weight.float(), None if bias is None else bias.float()


def _quantize(attributes: Attributes, x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    axis = attributes.get("axis", 1)
    limits = torch.iinfo(zero.dtype)
    steps = (x / _along(scale, axis, x)).round_()
    if zero.any():
        steps += _along(zero, axis, x)
    return steps.clamp_(limits.min, limits.max).to(zero.dtype)


def _dequantize(attributes: Attributes, x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    axis = attributes.get("axis", 1)
    wide = x.to(scale.dtype)
    if zero.any():
        wide -= _along(zero, axis, x).to(scale.dtype)
    return wide.mul_(_along(scale, axis, x))


def _along(values: Tensor, axis: int, x: Tensor) -> Tensor:
    """One value, or one for each slice of ``x`` along an axis, in a shape that broadcasts."""
    return (
        values.reshape([-1 if a == axis else 1 for a in range(x.ndim)]) if values.ndim else values
    )


TYPES = {1: torch.float32, 10: torch.float16}
"""By their number in ONNX (`onnx.TensorProto`)."""


def _reduce(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        over = attributes["axes"] if axes is None else axes.tolist()
        return operation(x, dim=tuple(over), keepdim=bool(attributes.get("keepdims", 1)))

    return run


RESIZES = {
    (b"nearest", b"asymmetric", b"floor"): "nearest",
    (b"linear", b"half_pixel", b""): "bilinear",
}


def _resize(attributes: Attributes, x: Tensor, _roi: Tensor | None, scales: Tensor) -> Tensor:
    kind = attributes.get("mode", b"nearest")
    convention = attributes.get("coordinate_transformation_mode", b"half_pixel")
    rounding = attributes.get("nearest_mode", b"round_prefer_floor")
    mode = RESIZES.get((kind, convention, rounding if kind == b"nearest" else b""))
    if mode is None:
        raise EngineError(
            f"the torch reference knows Resize as nn.Upsample exports it, not {kind.decode()} in "
            f"{convention.decode()}"
        )
    return functional.interpolate(x, scale_factor=scales.tolist()[2:], mode=mode)


def _max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    stride, padding, dilation = _geometry(attributes)
    return functional.max_pool2d(x, attributes["kernel_shape"], stride, padding, dilation)


def _depth_to_space(attributes: Attributes, x: Tensor) -> Tensor:
    if attributes.get("mode", b"DCR") != b"CRD":
        raise EngineError("the torch reference knows DepthToSpace in CRD order only")
    return functional.pixel_shuffle(x, attributes["blocksize"])


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda _, a, b: a + b,
    "Cast": lambda attributes, x: x.to(TYPES[attributes["to"]]),
    "Concat": lambda attributes, *parts: torch.cat(parts, dim=attributes["axis"]),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "DequantizeLinear": _dequantize,
    "Identity": lambda _, x: x,
    "LeakyRelu": lambda attributes, x: functional.leaky_relu(x, attributes.get("alpha", 0.01)),
    "MaxPool": _max_pool,
    "Mul": lambda _, a, b: a * b,
    "PRelu": lambda _, x, slope: torch.where(x < 0, x * slope, x),
    "QuantizeLinear": _quantize,
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "Relu": lambda _, x: x.relu(),
    "Resize": _resize,
    "Sigmoid": lambda _, x: x.sigmoid(),
    "Sub": lambda _, a, b: a - b,
    "Tanh": lambda _, x: x.tanh(),
}
