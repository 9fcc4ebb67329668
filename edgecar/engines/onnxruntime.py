"""ONNX Runtime: the default on ARM CPUs; CUDA and TensorRT where its GPU build is present."""

import platform

from edgecar.artifact import Artifact
from edgecar.engines.base import Batch, Engine, EngineInfo
from edgecar.engines.cuda_libraries import load_cuda_libraries
from edgecar.engines.trt_lint import refuse_misread_bytes
from edgecar.errors import EngineError
from edgecar.spec import Precision

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


class OnnxRuntimeEngine(Engine):
    """Runs an artifact of any window shape in the arithmetic its graph asks for, where it can.

    Args:
        artifact: What to run.
        precision: Must be the artifact's own, if given.
        threads: CPU threads.
        provider: ``cpu``, ``cuda`` or ``tensorrt``.

    Raises:
        EngineError: The provider is absent, fell back to another, or refuses the graph.
    """

    def __init__(
        self,
        artifact: Artifact,
        precision: Precision | None = None,
        threads: int = 0,
        provider: str = "cpu",
    ) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError(
                "ONNX Runtime is not installed; pip install 'edgecar[onnxruntime]'"
            ) from error
        own = _computed(artifact.facts.precision, provider)
        if precision not in (None, own):
            raise EngineError(
                f"got --precision {precision}, but ONNX Runtime computes this graph in {own}; "
                f"leave --precision out or export the network in {precision}"
            )
        wanted = PROVIDERS[provider]
        if wanted not in onnxruntime.get_available_providers():
            raise EngineError(
                f"ONNX Runtime {onnxruntime.__version__} here has no {wanted}; "
                f"pip install 'onnxruntime-gpu[cuda,cudnn]' or leave :{provider} out"
            )
        if provider != "cpu":
            load_cuda_libraries(onnxruntime)
        if provider == "tensorrt":
            refuse_misread_bytes(artifact.onnx)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(artifact.onnx, options, providers=[wanted])
        except Exception as error:  # its classes are private and share no base
            raise EngineError(f"ONNX Runtime refused the artifact: {_cause(error)}") from error
        used = self._session.get_providers()[0]
        if used != wanted:
            raise EngineError(
                f"asked ONNX Runtime for {wanted}, it fell back to {used}; pip install "
                "'onnxruntime-gpu[cuda,cudnn]', and check that the driver fits ONNX Runtime "
                f"{onnxruntime.__version__}"
            )
        self._input = self._session.get_inputs()[0].name
        suffix = "" if provider == "cpu" else f":{provider}"
        library = f"ONNX Runtime {onnxruntime.__version__}"
        info = EngineInfo(
            name=f"onnxruntime{suffix}",
            provider=f"{library} {used.removesuffix('ExecutionProvider')}",
            precision=own,
            shape=None,
            device="cpu" if provider == "cpu" else "cuda:0",
        )
        super().__init__(info, artifact.facts.channels, artifact.facts.align_px)

    def _run(self, batch: Batch) -> Batch:
        try:
            output: Batch = self._session.run(None, {self._input: batch})[0]
        except Exception as error:  # its classes are private and share no base
            raise EngineError(f"ONNX Runtime failed on {batch.shape}: {_cause(error)}") from error
        return output

    def close(self) -> None:
        self._session = None
        super().close()


def _computed(precision: Precision, provider: str) -> Precision:
    """The arithmetic behind a graph's: x86 CPUs have no kernels for halves, which are widened."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return "fp32" if precision == "fp16" and provider == "cpu" and x86 else precision


def _cause(error: Exception) -> str:
    """What the library said, on one line."""
    return " ".join(str(error).split())[:200]
