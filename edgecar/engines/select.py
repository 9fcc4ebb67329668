"""Which engine runs an artifact here."""

import os
from importlib.util import find_spec

from edgecar.artifact import Artifact
from edgecar.engines.answer import open_checked
from edgecar.engines.base import Engine
from edgecar.engines.libraries import is_x86
from edgecar.engines.targets import LIBRARIES, LibraryName
from edgecar.errors import AnswerError, EngineError
from edgecar.metadata import Metadata
from edgecar.spec import Precision

PLANS: tuple[LibraryName, ...] = LIBRARIES
"""Engines that run plans, which the CUDA runtime opens (`edgecar.runtime.cuda.open`)."""

NAMES = (
    *("auto", "openvino", "onnxruntime", "onnxruntime:cuda", "onnxruntime:tensorrt"),
    *PLANS,
    "torch",
)

LARGEST_WEIGHT = 64
"""Largest magnitude of weights in eight bits whose sums are the same on every CPU.

CPUs of x86 without VNNI multiply codes by ``vpmaddubsw``: two products of an unsigned code (up to
255; signed ones are moved up by 128) and a weight are added in 16 bits, which end at 32767, and a
larger sum becomes that. With weights of at most 64 no pair gets there: 2 · 255 · 64 = 32640.
"""


def usable_cores() -> int:
    """Return the CPU cores this process may use, which containers and taskset often limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_engine() -> str:
    """Return the fastest engine for this CPU: OpenVINO on x86, ONNX Runtime elsewhere."""
    return "openvino" if is_x86() and find_spec("openvino") else "onnxruntime"


def resolved(name: str) -> str:
    """Return the engine meant by a name: `auto` becomes this machine's default.

    Raises:
        EngineError: No engine has that name.
    """
    if name not in NAMES:
        raise EngineError(f"no engine is called {name!r}; choose one of {', '.join(NAMES)}")
    return default_engine() if name == "auto" else name


def open_engine(
    artifact: Artifact,
    name: str = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
) -> Engine:
    """Open an engine for an artifact and check it with the artifact's known answer.

    An engine that fails the check gives way to the same network in FP32, with a warning, if that
    is at hand and no precision was asked for.

    Args:
        artifact: Artifact to run.
        name: One of `NAMES` but not of `PLANS`.
        precision: Arithmetic; None takes the engine's choice, which its ``info`` states.
        threads: CPU threads; all usable cores if not given. torch keeps the process's own number.

    Raises:
        AnswerError: This machine computes the artifact wrongly.
        EngineError: The name is unknown, its library is absent, or it refuses the artifact. There
            is no silent fallback to another engine.
    """
    name = resolved(name)
    if name in PLANS:
        raise EngineError(f"{name} runs plans; open it through a Restorer")
    count = threads or usable_cores()

    def opener(opened: Artifact, wanted: Precision | None) -> tuple[Engine, Metadata]:
        return _unchecked(opened, name, wanted, count), opened.metadata

    return open_checked(artifact, precision, opener)


def largest_weight(onnx_bytes: bytes) -> int:
    """Return the largest magnitude of weights in eight bits in a graph; 0 if it holds none."""
    import numpy as np
    import onnx

    graph = onnx.load_model_from_string(onnx_bytes).graph
    dequantised = {node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    eight_bits = onnx.TensorProto.INT8, onnx.TensorProto.UINT8
    codes = [
        onnx.numpy_helper.to_array(tensor).astype(np.int32)
        for tensor in graph.initializer
        if tensor.name in dequantised and tensor.data_type in eight_bits
    ]
    return max((int(np.abs(values).max(initial=0)) for values in codes), default=0)


def _unchecked(artifact: Artifact, name: str, precision: Precision | None, threads: int) -> Engine:
    if name in ("openvino", "onnxruntime") and artifact.metadata.precision == "int8" and is_x86():
        largest = largest_weight(artifact.onnx)
        if largest > LARGEST_WEIGHT:  # in files of earlier versions
            raise AnswerError(
                f"{artifact.path or artifact.metadata.model}: its INT8 weights go up to {largest}, "
                "whose sums overflow on CPUs without VNNI; export it again, which limits them to "
                f"{LARGEST_WEIGHT}"
            )
    if name == "openvino":
        from edgecar.engines.openvino import OpenvinoEngine

        return OpenvinoEngine(artifact, precision, threads)
    if name == "torch":
        if not find_spec("torch"):
            raise EngineError("torch is not installed; pip install 'edgecar[train]'")
        from edgecar.engines.torch import TorchEngine

        return TorchEngine(artifact, precision)
    from edgecar.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(artifact, precision, threads, name.partition(":")[2] or "cpu")
