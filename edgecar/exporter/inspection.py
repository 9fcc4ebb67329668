"""Inspection of an artifact: its metadata, its graph, and its known answer here."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from edgecar.artifact import Artifact, read_artifact
from edgecar.engines.select import open_engine
from edgecar.errors import AnswerError, EngineError
from edgecar.exporter.graphs import CONVOLUTIONS
from edgecar.files import sha256_of


def inspection(path: Path) -> dict[str, Any]:
    """Return the metadata of an artifact and what is counted in its graph.

    Returns:
        The fields of `Metadata`; ``path``, ``bytes`` and ``sha256`` of the file; ``opset`` and
        ``ir_version``; ``params``; ``layers``, which says for each convolution the type it computes
        in; ``operators``, how many there are of each; and ``known_answer``, how that came out here.

    Raises:
        ArtifactError: The file is no artifact.
    """
    artifact = read_artifact(path)
    model = onnx.load_model_from_string(artifact.onnx)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        **asdict(artifact.metadata),
        "known_answer": answer_here(artifact),
        "opset": opsets.get("", opsets.get("ai.onnx")),
        "ir_version": model.ir_version,
        "params": _params(model),
        "layers": layer_types(model),
        "operators": dict(sorted(Counter(node.op_type for node in model.graph.node).items())),
    }


def answer_here(artifact: Artifact) -> dict[str, Any]:
    """Open an artifact on this machine's default engine and tell how its known answer came out.

    Returns:
        ``passed``: None if the file has no known answer, or no engine opens it; ``words``: the
        outcome for people; and where an engine was opened ``engine``, ``provider`` and
        ``precision``, and the figures of `edgecar.engines.answer.AnswerCheck`.
    """
    if artifact.metadata.known_answer is None:
        return {"passed": None, "words": "none; export the network again to have one"}
    try:
        with open_engine(artifact) as engine:
            info, check = engine.info, engine.check
    except AnswerError as error:
        return {"passed": False, "words": str(error)}
    except EngineError as error:
        return {"passed": None, "words": f"not checked: {error}"}
    figures = asdict(check) if check else {}
    on = f"{info.name} ({info.provider}) in {info.precision}"
    words = info.note or f"{on} {check}, in {figures['milliseconds']:.0f} ms"
    used = {"engine": info.name, "provider": info.provider, "precision": info.precision}
    return {**figures, **used, "passed": not info.note, "words": words}


def layer_types(model: ModelProto) -> dict[str, str]:
    """Return ``int8``, ``fp16`` or ``fp32`` for every convolution, by name.

    One computes in eight bits if both its input and its weights come from eight bits.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    layers = {}
    for node in model.graph.node:
        if node.op_type in CONVOLUTIONS:
            if {made_by.get(name) for name in node.input[:2]} == {"DequantizeLinear"}:
                layers[node.name] = "int8"
            else:
                half = constants[node.input[1]].data_type == TensorProto.FLOAT16
                layers[node.name] = "fp16" if half else "fp32"
    return layers


def _params(model: ModelProto) -> int:
    """Count weights and biases of convolutions, slopes, and tables of what a quantiser changes."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    # Scales, zero points and places of knots have one axis at most.
    names = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
    for node in model.graph.node:
        if node.op_type in (*CONVOLUTIONS, "PRelu"):
            for name in node.input[1:]:
                while name in made_by:
                    name = made_by[name].input[0]
                names.add(name)
    return sum(sizes.get(name, 0) for name in names)
