"""Small ONNX detectors that find bright squares of 8 px, each with the head of a family."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
SIDE_PX = 12.0  # of every box found


def grid(size: tuple[int, int]) -> np.ndarray:
    """Centres of all cells in pixels, ``(cells, 2)``."""
    centres = []
    for stride in STRIDES:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        centres.append((np.stack([x.ravel(), y.ravel()], 1) + 0.5) * stride)
    return np.concatenate(centres).astype(np.float32)


def strides_of(size: tuple[int, int]) -> np.ndarray:
    """Of the grid that each cell belongs to, ``(cells, 1)``."""
    counts = [(size[0] // stride) * (size[1] // stride) for stride in STRIDES]
    return np.repeat(np.array(STRIDES, np.float32), counts)[:, None]


def write_detector(
    path: Path,
    family: str,
    size: tuple[int, int] = (64, 96),
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a detector whose score in a cell of 8 px is how much red is in it, 0 to 1.

    Its one class is ``red``; a second one is never found. YOLOX reads blue first, in codes; the
    others red first, in [0, 1].
    """
    centres, strides = grid(size), strides_of(size)
    fine = (size[0] // STRIDES[0]) * (size[1] // STRIDES[0])
    cells = len(centres)
    sides = np.full((cells, 2), SIDE_PX, np.float32)
    if family == "yolox raw":
        boxes = np.concatenate([np.full((cells, 2), 0.5), np.log(sides / strides)], 1)
    else:
        boxes = np.concatenate([centres, sides], 1)
    if family in ("end to end", "named"):
        boxes = np.concatenate([centres - SIDE_PX / 2, centres + SIDE_PX / 2], 1)
    codes = family.startswith("yolox")
    constants = {
        "boxes_of_cells": boxes.astype(np.float32)[None],
        "ones": np.ones((1, cells, 1), np.float32),
        "zeros": np.zeros((1, cells, 1), np.float32),
        "coarse": np.zeros((1, cells - fine, 1), np.float32),
        "red": np.array([2 if codes else 0]),
        "scale": np.array(1 / 255 if codes else 1, np.float32),
        "column": np.array([1, fine, 1]),
        "flat_boxes": np.array([-1, 4]),
        "flat": np.array([-1]),
    }
    nodes = [
        helper.make_node("Gather", ["images", "red"], ["one"], axis=1),
        helper.make_node("AveragePool", ["one"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["pooled", "column"], ["listed"]),
        helper.make_node("Mul", ["listed", "scale"], ["shares"]),
        helper.make_node("Concat", ["shares", "coarse"], ["scores_of_cells"], axis=1),
    ]
    outputs = {"output0": TensorProto.FLOAT}
    score = "scores_of_cells"

    def joined(parts: list[str], name: str, axis: int = 2) -> None:
        nodes.append(helper.make_node("Concat", parts, [name], axis=axis))

    if codes:
        joined(["boxes_of_cells", "ones", score, "zeros"], "output0")
    elif family == "yolov5":
        joined(["boxes_of_cells", "ones", score, "zeros"], "one_anchor")
        constants["other_anchors"] = np.zeros((1, 2 * cells, 7), np.float32)
        constants["other_anchors"][..., 2:4] = SIDE_PX
        joined(["one_anchor", "other_anchors"], "output0", axis=1)
    elif family == "yolov8":
        joined(["boxes_of_cells", score, "zeros"], "wide")
        nodes.append(helper.make_node("Transpose", ["wide"], ["output0"], perm=[0, 2, 1]))
    elif family == "end to end":
        joined(["boxes_of_cells", score, "zeros"], "of_cells")
        constants["nothing"] = np.zeros((1, 3, 6), np.float32)  # as many rows as cells are YOLOX's
        joined(["of_cells", "nothing"], "output0", axis=1)
    elif family == "named":
        kinds = {"labels": TensorProto.INT64, "boxes": TensorProto.FLOAT}
        outputs = {**kinds, "scores": TensorProto.FLOAT}
        nodes += [
            helper.make_node("Reshape", ["boxes_of_cells", "flat_boxes"], ["boxes"]),
            helper.make_node("Reshape", [score, "flat"], ["scores"]),
            helper.make_node("Cast", ["zeros"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["whole", "flat"], ["labels"]),
        ]
    else:  # several maps: no family is laid out like this
        nodes.append(helper.make_node("Identity", ["pooled"], ["output0"]))
        nodes.append(helper.make_node("Identity", ["pooled"], ["output1"]))
        outputs["output1"] = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *size])],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path
