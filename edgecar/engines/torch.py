"""torch as the reference: runs an artifact's graph, operator by operator.

It needs no network class, so what is compared with the other engines is the artifact itself. The
operators are those of ONNX's own reference; torch computes the ones that are slow in numpy.
"""

from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from torch import Tensor
from torch.nn import functional

from edgecar.artifact import Artifact
from edgecar.engines.base import Batch, Engine, EngineInfo, Quantisers, one_line
from edgecar.errors import EngineError
from edgecar.spec import Precision


class TorchEngine(Engine):
    """Runs an artifact of any tile shape on the CPU, rounding where its graph rounds.

    The arithmetic is float32; what the graph says is half precision or eight bits is rounded to
    that, operator by operator, overflow included. ONNX Runtime on a CPU is no such reference: it
    leaves the rounding to half precision out.

    torch picks another convolution for small inputs than for large ones. So tiles run one at a
    time, which keeps neighbours out of a tile's bits; but unlike with the other engines the last
    bits depend on the tile's shape. The number of threads is the process's own
    (`torch.set_num_threads`): it would change for all of the process.

    Raises:
        EngineError: The graph is damaged.
    """

    def __init__(self, artifact: Artifact, precision: Precision | None = None) -> None:
        if precision not in (None, "fp32"):
            raise EngineError(
                f"got --precision {precision}, the torch reference computes in fp32 and rounds to "
                f"what the graph says ({artifact.metadata.precision}); leave --precision out"
            )
        try:
            model = onnx.load_model_from_string(artifact.onnx)
            onnx.checker.check_model(model)
            self._graph = ReferenceEvaluator(model, new_ops=[Conv, ConvTranspose, MaxPool])
        except Exception as error:  # protobuf's own classes are private to its implementation
            raise EngineError(
                f"the torch reference cannot read the artifact: {one_line(error)}"
            ) from error
        self._inputs = [value.name for value in model.graph.input]
        info = EngineInfo("torch", f"torch {torch.__version__}", "fp32", None, "cpu")
        facts = artifact.metadata
        super().__init__(info, facts.channels, facts.align_px, facts.takes_quantiser)

    def _run(self, batch: Batch, quantisers: Quantisers) -> Batch:
        try:
            with np.errstate(all="ignore"), torch.inference_mode():
                outputs: Any = [
                    self._graph.run(None, dict(zip(self._inputs, each, strict=False)))
                    for each in zip(batch[:, None], quantisers[:, None], strict=True)
                ]
        except Exception as error:  # of numpy, torch or the reference, which share no base
            raise EngineError(f"torch failed on {batch.shape}: {one_line(error)}") from error
        restored: Batch = np.concatenate([output for (output,) in outputs])
        return restored


# Operators: the names of their parameters are those of ONNX. Sums are of float32, as tensor cores
# add up halves; in halves torch takes a hundred times as long.


class Conv(OpRun):
    """Convolution of two dimensions."""

    def _run(self, x: Any, weight: Any, bias: Any = None, **given: Any) -> tuple[Any]:
        top, left, bottom, right = given["pads"] or (0, 0, 0, 0)
        wide = functional.pad(_wide(x), (left, right, top, bottom))
        sums = functional.conv2d(
            *(wide, _wide(weight), None if bias is None else _wide(bias)),
            stride=given["strides"] or 1,
            dilation=given["dilations"] or 1,
            groups=given["group"],
        )
        return (sums.numpy().astype(x.dtype),)


class ConvTranspose(OpRun):
    """Transposed convolution of two dimensions."""

    def _run(self, x: Any, weight: Any, bias: Any = None, **given: Any) -> tuple[Any]:
        top, left, bottom, right = given["pads"] or (0, 0, 0, 0)
        sums = functional.conv_transpose2d(
            *(_wide(x), _wide(weight), None if bias is None else _wide(bias)),
            stride=given["strides"] or 1,
            output_padding=given["output_padding"] or 0,
            groups=given["group"],
            dilation=given["dilations"] or 1,
        )
        height, width = sums.shape[2:]
        return (sums[:, :, top : height - bottom, left : width - right].numpy().astype(x.dtype),)


class MaxPool(OpRun):
    """Largest value around each place."""

    def _run(self, x: Any, **given: Any) -> tuple[Any]:
        top, left, bottom, right = given["pads"] or (0, 0, 0, 0)
        wide = functional.pad(_wide(x), (left, right, top, bottom), value=float("-inf"))
        largest = functional.max_pool2d(
            wide, given["kernel_shape"], given["strides"] or 1, 0, given["dilations"] or 1
        )
        return (largest.numpy().astype(x.dtype),)


def _wide(array: Any) -> Tensor:
    return torch.tensor(array, dtype=torch.float32)
