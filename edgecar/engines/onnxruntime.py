"""ONNX Runtime: the default on ARM CPUs; CUDA and TensorRT where its GPU build is present."""

import contextlib
import io
import os
from typing import Any

from edgecar.artifact import Artifact
from edgecar.engines.base import Batch, Engine, EngineInfo, Quantisers, one_line
from edgecar.engines.libraries import imported_onnxruntime, is_x86
from edgecar.engines.trt_lint import refuse_misread_bytes
from edgecar.errors import EngineError
from edgecar.spec import Precision

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
FULL_PRECISION = ("NVIDIA_TF32_OVERRIDE", "0")
"""Variable and value with which a user forbids NVIDIA's libraries to compute FP32 in TF32."""


class OnnxRuntimeEngine(Engine):
    """Runs an artifact of any tile shape in the arithmetic its graph asks for, where it can.

    An FP32 graph is computed in FP32 on ``cuda``, and in TF32 if ``precision`` says so. The
    ``tensorrt`` provider has no such option: it computes FP32 in TF32 unless the environment has
    ``NVIDIA_TF32_OVERRIDE=0``, and ``info.precision`` says which.

    Args:
        artifact: Artifact to run.
        precision: Must be the artifact's own, if given; or ``tf32`` for an FP32 one on ``cuda``.
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
        own = _computed(artifact.metadata.precision, provider, precision)
        if precision not in (None, own):
            instead = "" if precision == "tf32" else f" or export the network in {precision}"
            if own == "tf32":
                instead = f", or set {'='.join(FULL_PRECISION)}"
            raise EngineError(
                f"got --precision {precision}, but ONNX Runtime computes this graph in {own}; "
                f"leave --precision out{instead}"
            )
        if provider == "tensorrt":
            refuse_misread_bytes(artifact.onnx)
        options = {"use_tf32": str(int(own == "tf32"))} if provider == "cuda" else {}
        self._session = new_session(artifact.onnx, provider, options, threads)
        self._inputs = [value.name for value in self._session.get_inputs()]
        info = EngineInfo(
            name="onnxruntime" if provider == "cpu" else f"onnxruntime:{provider}",
            provider=provider_line(provider),
            precision=own,
            shape=None,
            device="cpu" if provider == "cpu" else "cuda:0",
        )
        facts = artifact.metadata
        super().__init__(info, facts.channels, facts.align_px, facts.takes_quantiser)

    def _run(self, batch: Batch, quantisers: Quantisers) -> Batch:
        given = dict(zip(self._inputs, (batch, quantisers), strict=False))
        try:
            output: Batch = self._session.run(None, given)[0]
        except Exception as error:  # its classes are private and share no base
            raise EngineError(f"ONNX Runtime failed on {batch.shape}: {one_line(error)}") from error
        return output

    def _free(self) -> None:
        self._session = None


def new_session(onnx: bytes, provider: str, given: dict[str, str], threads: int = 0) -> Any:
    """Open a session on one provider, with its options, and on no other."""
    gpu_package = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    try:
        library = imported_onnxruntime()
    except ImportError as error:
        install = "pip install 'edgecar[onnxruntime]'" if provider == "cpu" else gpu_package
        raise EngineError(f"ONNX Runtime is not installed; {install}") from error
    wanted, version = PROVIDERS[provider], library.__version__
    if wanted not in library.get_available_providers():
        raise EngineError(
            f"ONNX Runtime {version} here has no {wanted}; {gpu_package} or leave :{provider} out"
        )
    if provider != "cpu" and hasattr(library, "preload_dlls"):  # since 1.21
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            library.preload_dlls()
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = library.InferenceSession(onnx, options, providers=[(wanted, given)])
    except Exception as error:  # its classes are private and share no base
        raise EngineError(f"ONNX Runtime refused the artifact: {one_line(error)}") from error
    used = session.get_providers()[0]
    if used != wanted:
        raise EngineError(
            f"asked ONNX Runtime for {wanted}, it fell back to {used}; {gpu_package}, and check "
            f"that the driver fits ONNX Runtime {version}"
        )
    return session


def provider_line(provider: str) -> str:
    """Return name and version of the library with the provider in use."""
    version = imported_onnxruntime().__version__
    return f"ONNX Runtime {version} {PROVIDERS[provider].removesuffix('ExecutionProvider')}"


def _computed(own: Precision, provider: str, asked: Precision | None) -> Precision:
    """Return the arithmetic in which a graph is computed."""
    if own == "fp16" and provider == "cpu" and is_x86():  # which widens halves
        return "fp32"
    name, full = FULL_PRECISION
    if own == "fp32" and provider == "tensorrt" and os.environ.get(name) != full:
        return "tf32"
    return "tf32" if own == "fp32" and provider == "cuda" and asked == "tf32" else own
