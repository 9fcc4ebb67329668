"""OpenVINO: the default on x86 CPUs."""

from collections.abc import Callable
from typing import Any

from edgecar.artifact import Artifact
from edgecar.engines.base import Batch, Engine, EngineInfo
from edgecar.errors import EngineError
from edgecar.spec import Precision

HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
NAMES: dict[str, Precision] = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}

# A graph compiled for one shape runs 5 to 16 % faster than one for any shape, with the same bits.
# It takes 25 ms and holds activations of its own: only a few shapes that keep coming back get one.
SHAPES_COMPILED = 4
RECENT_RUNS = 16
# Bytes of activations of a compiled shape. Networks that need more gain next to nothing from it,
# and at 1080p their memory would double.
COMPILED_MEMORY = 160 << 20


class OpenvinoEngine(Engine):
    """Runs an artifact of any window shape.

    Left to itself OpenVINO computes in bfloat16 on CPUs that have it; ``info.precision`` says what
    it chose, and ``precision="fp32"`` forbids it.

    Args:
        artifact: What to run.
        precision: Arithmetic; None leaves the choice to OpenVINO.
        threads: CPU threads.
        device: OpenVINO's name of the device.

    Raises:
        EngineError: OpenVINO is not installed, or refuses the graph, device or precision.
    """

    def __init__(
        self,
        artifact: Artifact,
        precision: Precision | None = None,
        threads: int = 0,
        device: str = "CPU",
    ) -> None:
        try:
            import openvino
        except ImportError as error:
            raise EngineError("OpenVINO is not installed; pip install openvino") from error
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        if precision is not None:
            settings["INFERENCE_PRECISION_HINT"] = HINTS[precision]
        try:
            core = openvino.Core()

            def compiled(shape: tuple[int, ...] | None = None) -> Any:
                model = core.read_model(artifact.onnx)
                if shape is not None:
                    model.reshape(shape)
                return core.compile_model(model, device, settings)

            any_shape = compiled()
            used = str(any_shape.get_property("INFERENCE_PRECISION_HINT").get_type_name())
            self._requests = _Requests(
                any_shape.create_infer_request(),
                compiled,
                most_px=COMPILED_MEMORY // artifact.facts.bytes_per_px,
            )
        except RuntimeError as error:
            raise EngineError(f"OpenVINO refused the artifact: {_cause(error)}") from error
        chosen = artifact.facts.precision if artifact.facts.precision == "int8" else NAMES[used]
        if precision not in (None, chosen):
            raise EngineError(
                f"got --precision {precision}, but this {device} computes {artifact.facts.model} "
                f"in {chosen}; leave --precision out or choose {chosen}"
            )
        version = openvino.get_version().split("-")[0]
        info = EngineInfo("openvino", f"OpenVINO {version} {device}", chosen, None, device.lower())
        super().__init__(info, artifact.facts.channels, artifact.facts.align_px)

    def _run(self, batch: Batch) -> Batch:
        try:
            request = self._requests.of_shape(batch.shape)
            result = request.infer({0: batch}, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on {batch.shape}: {_cause(error)}") from error
        output: Batch = result[0]
        return output

    def close(self) -> None:
        self._requests.forget()
        super().close()


class _Requests:
    """Inference requests: one for any shape, and some for shapes that keep coming back."""

    def __init__(
        self, any_shape: Any, compiled: Callable[[tuple[int, ...]], Any], most_px: int
    ) -> None:
        self._any_shape, self._compiled, self._most_px = any_shape, compiled, most_px
        self._fixed: dict[tuple[int, ...], Any] = {}
        self._last_run: dict[tuple[int, ...], int] = {}
        self._runs = 0

    def of_shape(self, shape: tuple[int, ...]) -> Any:
        """The fastest request at hand for a batch of this shape."""
        self._runs += 1
        oldest = self._runs - RECENT_RUNS
        self._last_run = {seen: run for seen, run in self._last_run.items() if run >= oldest}
        self._fixed = {kept: r for kept, r in self._fixed.items() if kept in self._last_run}
        returning = shape in self._last_run and shape[0] * shape[2] * shape[3] <= self._most_px
        self._last_run[shape] = self._runs
        if returning and shape not in self._fixed and len(self._fixed) < SHAPES_COMPILED:
            self._fixed[shape] = self._compiled(shape).create_infer_request()
        return self._fixed.get(shape, self._any_shape)

    def forget(self) -> None:
        """Free everything."""
        self._any_shape = None
        self._fixed.clear()


def _cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # An unknown operator is named in the middle of a report; else the last line is the cause.
    named = [line for line in lines if "No conversion rule found" in line]
    return (named or lines or [type(error).__name__])[-1][:200]
