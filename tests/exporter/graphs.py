"""Small ONNX graphs by hand, and the halo they are seen to have."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

INPUT, OUTPUT = "picture", "restored"
Pair = tuple[int, int]
"""Along rows and along columns."""


class Drawing:
    """A graph under construction; every method adds one node and returns the name it makes."""

    def __init__(self, channels: int = 1, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.width = {INPUT: channels}  # channels of every tensor
        self.dice = np.random.default_rng(seed)

    def constant(self, values: np.ndarray) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def node(self, kind: str, *inputs: str, channels: int | None = None, **attributes) -> str:
        name = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], f"node{name}", **attributes))
        self.width[name] = channels or self.width.get(inputs[0], 1)
        return name

    def weights(self, *shape: int) -> str:
        """Positive, so that no two influences cancel."""
        values = self.dice.uniform(0.5, 1, shape) / np.prod(shape[1:])
        return self.constant(values.astype(np.float32))

    def conv(
        self, given: str, kernel: Pair = (3, 3), *, out: int = 1, stride: int = 1, **options
    ) -> str:
        """Pads are those that keep the size, if not given."""
        dilation = options.pop("dilation", (1, 1))
        reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        pads = options.pop("pads", None)
        pads = pads or [*(r // 2 for r in reach), *(r - r // 2 for r in reach)]
        weights = self.weights(out, self.width[given], *kernel)
        shape = {"kernel_shape": kernel, "pads": list(pads), "strides": [stride] * 2}
        return self.node(
            "Conv", given, weights, channels=out, dilations=dilation, **shape, **options
        )

    def transposed(
        self, given: str, kernel: Pair, *, stride: int, pads: Sequence[int], extra: Pair = (0, 0)
    ) -> str:
        weights = self.weights(self.width[given], 1, *kernel)
        shape = {"kernel_shape": kernel, "pads": list(pads), "strides": [stride] * 2}
        return self.node("ConvTranspose", given, weights, channels=1, output_padding=extra, **shape)

    def pool(
        self, kind: str, given: str, kernel: Pair, *, stride: int, pads: Sequence[int], **more
    ) -> str:
        shape = {"kernel_shape": kernel, "pads": list(pads), "strides": [stride] * 2}
        return self.node(kind, given, **shape, **more)

    def resize(self, given: str, scale: float, mode: str = "nearest", **attributes) -> str:
        scales = self.constant(np.array([1, 1, scale, scale], np.float32))
        return self.node("Resize", given, "", scales, mode=mode, **attributes)

    def pad(self, given: str, pads: Sequence[int], mode: str = "constant") -> str:
        """Pads are top, left, bottom, right."""
        widths = np.array([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64)
        return self.node("Pad", given, self.constant(widths), mode=mode)

    def mean(self, given: str, axes: Sequence[int], channels: int | None = None) -> str:
        over = self.constant(np.array(axes, np.int64))
        return self.node("ReduceMean", given, over, channels=channels, keepdims=1)

    def model(self, output: str) -> onnx.ModelProto:
        """The graph from the picture to ``output``, with inferred shapes."""
        nodes = [*self.nodes, helper.make_node("Identity", [output], [OUTPUT])]
        ends = [_picture(INPUT, self.width[INPUT])], [_picture(OUTPUT, self.width[output])]
        graph = helper.make_graph(nodes, "drawing", *ends, self.constants)
        opsets = [helper.make_opsetid("", 19)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model)


def _picture(name: str, channels: int) -> onnx.ValueInfoProto:
    shape = ["batch", channels, f"{name}_height", f"{name}_width"]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def runner(model: onnx.ModelProto):
    """Batch, and the quantisers of its pictures where the graph takes some, to a batch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]

    def run(batch, quantisers=None):
        told = np.full(len(batch), 0.5, np.float32) if quantisers is None else quantisers
        return session.run(None, dict(zip(names, (batch, told), strict=False)))[0]

    return run


def seen_halo(model: onnx.ModelProto, align: int, margin: int, base: float = 0.0) -> int:
    """How far beyond an aligned block a change of the picture is seen in that block.

    Weights are positive, so that every influence shows. The margin is of rows and columns tried on
    each side of the block; a multiple of its side. The base is the value of the unchanged picture.
    """
    run, channels = runner(model), model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    length, across = 2 * margin + align, 6 * align
    worst = 0
    for axis in (2, 3):
        still = np.full((1, channels, length, across), base, np.float32)
        changed = np.repeat(still, length, axis=0)
        changed[np.arange(length), :, np.arange(length)] += 1  # one row of each picture
        if axis == 3:
            still, changed = still.swapaxes(2, 3), changed.swapaxes(2, 3)
        moved = run(np.ascontiguousarray(changed)) != run(np.ascontiguousarray(still))
        block = moved.swapaxes(2, axis)[:, :, margin : margin + align]
        seen = np.flatnonzero(block.any(axis=(1, 2, 3)))
        assert seen.size, "no row of the picture matters"
        worst = max(worst, margin - seen[0], seen[-1] - (margin + align - 1))
    return int(worst)
