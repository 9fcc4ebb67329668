"""A graph computed as it is written: ONNX Runtime without its optimisations."""

import onnx

from edgecar.artifact import Artifact
from edgecar.engines.base import Batch, Engine, EngineInfo, Quantisers
from edgecar.engines.libraries import imported_onnxruntime
from edgecar.errors import EngineError

NAME = "exact"


class ExactEngine(Engine):
    """Runs a graph operator by operator, and rounds where the graph rounds.

    Nothing is fused: codes of eight bits are widened before they are multiplied, so that sums are
    those of a CPU with VNNI or of a GPU, and halves are rounded after every operator. It is slow.
    It is what the gate compares graphs with that no engine at hand computes as they are written.
    """

    def __init__(self, artifact: Artifact) -> None:
        onnxruntime = imported_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                _holding_halves(artifact.onnx), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its classes are private and share no base
            cause = " ".join(str(error).split())[:200]
            raise EngineError(f"ONNX Runtime refused the graph: {cause}") from error
        self._inputs = [value.name for value in self._session.get_inputs()]
        provider = f"ONNX Runtime {onnxruntime.__version__}, nothing fused"
        info = EngineInfo(NAME, provider, artifact.metadata.precision, None, "cpu")
        facts = artifact.metadata
        super().__init__(info, facts.channels, facts.align_px, facts.takes_quantiser)

    def _run(self, batch: Batch, quantisers: Quantisers) -> Batch:
        given = dict(zip(self._inputs, (batch, quantisers), strict=False))
        output: Batch = self._session.run(None, given)[0]
        return output

    def _free(self) -> None:
        self._session = None


def _holding_halves(onnx_bytes: bytes) -> bytes:
    """Return the same graph, in which ONNX Runtime keeps the rounding to half precision.

    On a CPU it computes halves in float32 and drops the casts between its operators, even without
    optimisations; between two copies of a tensor it keeps them.
    """
    model = onnx.load_model_from_string(onnx_bytes)
    values = onnx.shape_inference.infer_shapes(model).graph.value_info
    half = onnx.TensorProto.FLOAT16
    halves = {value.name for value in values if value.type.tensor_type.elem_type == half}
    copies = []
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            if name in halves:
                node.output[place] = f"{name}_computed"
                copies += [(f"{name}_computed", f"{name}_copy"), (f"{name}_copy", name)]
    identities = [onnx.helper.make_node("Identity", [one], [other]) for one, other in copies]
    model.graph.node.extend(identities)  # the runtime sorts nodes itself
    held: bytes = model.SerializeToString()
    return held
