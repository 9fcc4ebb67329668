"""OpenVINO: the default on x86 CPUs."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from edgecar.artifact import Artifact
from edgecar.engines.base import Batch, Codes, Engine, EngineInfo, Quantisers, Take
from edgecar.engines.libraries import imported_openvino
from edgecar.errors import EngineError
from edgecar.spec import MIDDLE_QUANTISER, Precision

HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
EIGHT_BITS = ("i8", "u8")
NAMES: dict[str, Precision] = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}

# A graph compiled for one shape is faster than one for any shape, whose changes of shape take time,
# too; the bits are the same. But compiling costs what a few million pixels gain, for small networks
# as for larger ones, and the graph holds activations of its own: shapes that keep coming back get
# one, the larger the sooner, as long as there is memory.
PAYS_PX = 8 << 20  # computed in a shape: four 1080p frames, a hundred tiles of 256×320
LEAST_RETURNS = 2  # a picture that is seen once gets none
COMPILED_MEMORY = 320 << 20  # bytes of activations, all shapes together
FORGOTTEN_RUNS = 2000
# From then on a shape is compiled only in place of a forgotten one: no camera grows for days.
SETTLED_RUNS = 2000

PROBE_PX = 96  # side of the picture on which graphs for one shape and for any are compared

# OpenVINO keeps 5000 layers as they were made for shapes that the graph for any shape has met: a
# megabyte each time that xs meets one.
LAYERS_KEPT = "128"

IN_FLIGHT = 2  # tiles: while the network computes one, codes of its neighbours are copied


class OpenvinoEngine(Engine):
    """Runs an artifact of any tile shape.

    Left to itself OpenVINO computes in bfloat16 on CPUs that have it; ``info.precision`` says what
    it chose, and ``precision="fp32"`` forbids it. Codes are converted inside the graph, on all
    threads; the bytes are those of the conversions in numpy.

    Args:
        artifact: Artifact to run.
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
            openvino = imported_openvino()
        except ImportError as error:
            raise EngineError("OpenVINO is not installed; pip install openvino") from error
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # Pinned threads of several processes would all sit on the first cores.
            "ENABLE_CPU_PINNING": False,
        }
        if device == "CPU":
            settings["CPU_RUNTIME_CACHE_CAPACITY"] = LAYERS_KEPT
        if precision is not None:
            settings["INFERENCE_PRECISION_HINT"] = HINTS.get(precision, "f32")
        metadata = artifact.metadata
        try:
            core = openvino.Core()
            self._model = core.read_model(artifact.onnx)
            _spell_out_repeats(self._model)
            self._compile = partial(core.compile_model, device_name=device, config=settings)
            self._most_px = COMPILED_MEMORY // metadata.bytes_per_px
            hint = self._codes.any_shape.get_property("INFERENCE_PRECISION_HINT")
        except RuntimeError as error:
            raise EngineError(f"OpenVINO refused the artifact: {_cause(error)}") from error
        eight_bits = metadata.precision == "int8" and _computes_in_int8(self._codes.any_shape)
        chosen: Precision = "int8" if eight_bits else NAMES[str(hint.get_type_name())]
        if precision not in (None, chosen):
            raise EngineError(
                f"got --precision {precision}, but this {device} computes {metadata.model} "
                f"in {chosen}; leave --precision out or choose {chosen}"
            )
        if eight_bits and not self._same_at_one_shape(metadata.channels, metadata.align_px):
            self._most_px = 0  # no graph for one shape, ever
            del self._codes  # made with room for some
        version = openvino.get_version().split("-")[0]
        info = EngineInfo("openvino", f"OpenVINO {version} {device}", chosen, None, device.lower())
        super().__init__(info, metadata.channels, metadata.align_px, metadata.takes_quantiser)

    def _same_at_one_shape(self, channels: int, align_px: int) -> bool:
        """Return True if graphs for one shape and for any give the same bytes.

        In floating point they do. In eight bits OpenVINO fuses elementwise steps into roundings in
        the one and not in the other; seen in msfan, on every tenth pixel at least.
        """
        side = max(PROBE_PX, align_px) // align_px * align_px
        codes = np.random.default_rng(0).integers(0, 256, (1, channels, side, side), np.uint8)
        given = [codes, np.full(1, MIDDLE_QUANTISER, np.float32)][: len(self._model.inputs)]
        one = self._compiled_for_codes(codes.shape)(given)[0]
        return bool(np.array_equal(one, self._codes.any_shape(given)[0]))

    @cached_property
    def _codes(self) -> "_Requests":
        """Requests of the graph from 8-bit codes to the same."""
        return _Requests(self._compiled_for_codes, self._most_px)

    @cached_property
    def _units(self) -> "_Requests":
        """Requests of the graph as it was exported: float32 in [0, 1] to the same."""
        return _Requests(partial(self._compiled, self._model), self._most_px)

    def _compiled(self, model: Any, shape: tuple[int, ...] | None) -> Any:
        """Compile a graph for one shape, or for any."""
        if shape is not None:
            model = model.clone()
            sizes = (shape, shape[:1])  # of the pictures and of their quantisers
            model.reshape(dict(zip(model.inputs, sizes, strict=False)))
        return self._compile(model)

    def _compiled_for_codes(self, shape: tuple[int, ...] | None) -> Any:
        openvino = imported_openvino()
        operators = openvino.opset13
        steps = openvino.preprocess.PrePostProcessor(self._model.clone())
        steps.input(0).tensor().set_element_type(openvino.Type.u8)
        steps.input(0).preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
        model = steps.build()
        unit = model.get_results()[0].input_value(0)
        scaled = operators.multiply(unit, operators.constant(np.float32(255)))
        rounded = operators.clamp(operators.round(scaled, "half_to_even"), 0.0, 255.0)
        codes = operators.convert(rounded, "u8")
        return self._compiled(openvino.Model([codes], model.get_parameters()), shape)

    def _run(self, batch: Batch, quantisers: Quantisers) -> Batch:
        given = {0: batch, 1: quantisers} if self.takes_quantiser else {0: batch}
        try:
            request = self._units.of_shape(batch.shape)[0]
            result = request.infer(given, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on {batch.shape}: {_cause(error)}") from error
        output: Batch = result[0]
        return output

    def _run_codes(self, tiles: Sequence[Codes], take: Take, quantisers: Quantisers) -> None:
        running: deque[tuple[int, Any]] = deque()

        def finish_one() -> None:
            number, request = running.popleft()
            request.wait()
            take(number, request.get_output_tensor().data[0])

        try:
            for number, codes in enumerate(tiles):
                if len(running) == IN_FLIGHT:
                    finish_one()
                busy = [request for _, request in running]
                requests = self._codes.of_shape((1, *codes.shape))
                request = next(free for free in requests if free not in busy)
                tensor = request.get_input_tensor(0)
                if tuple(tensor.shape) != (1, *codes.shape):
                    tensor.shape = (1, *codes.shape)
                np.copyto(tensor.data[0], codes)
                if self.takes_quantiser:
                    told = request.get_input_tensor(1)
                    told.shape = (1,)
                    told.data[0] = quantisers[number]
                request.start_async()
                running.append((number, request))
            while running:
                finish_one()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed: {_cause(error)}") from error
        finally:
            for _, request in running:
                request.wait()

    def _free(self) -> None:
        for graph in ("_codes", "_units", "_model"):
            self.__dict__.pop(graph, None)


class _Requests:
    """Inference requests: some for any shape, and some for each shape that keeps coming back."""

    def __init__(self, compiled: Callable[[tuple[int, ...] | None], Any], most_px: int) -> None:
        self._compiled, self._most_px = compiled, most_px
        self.any_shape = compiled(None)
        self._for_any = _requests(self.any_shape)
        self.fixed: dict[tuple[int, ...], list[Any]] = {}
        self._seen: Counter[tuple[int, ...]] = Counter()
        self._last_run: dict[tuple[int, ...], int] = {}
        self._runs = 0
        self._settled_px = 0  # compiled at one time, while that could still grow

    def of_shape(self, shape: tuple[int, ...]) -> list[Any]:
        """Return the fastest requests at hand for a batch of this shape, `IN_FLIGHT` of them."""
        self._runs += 1
        self._seen[shape] += 1
        self._last_run[shape] = self._runs
        seen = self._seen[shape]
        pays = seen >= LEAST_RETURNS and seen * _pixels(shape) >= PAYS_PX
        if pays and shape not in self.fixed:
            oldest = self._runs - FORGOTTEN_RUNS
            self.fixed = {s: r for s, r in self.fixed.items() if self._last_run[s] >= oldest}
            limit_px = self._most_px if self._runs <= SETTLED_RUNS else self._settled_px
            needed_px = sum(map(_pixels, (*self.fixed, shape)))
            if needed_px <= limit_px:
                self.fixed[shape] = _requests(self._compiled(shape))
                self._settled_px = max(self._settled_px, needed_px)
        return self.fixed.get(shape, self._for_any)


def _requests(executable: Any) -> list[Any]:
    return [executable.create_infer_request() for _ in range(IN_FLIGHT)]


def _pixels(shape: tuple[int, ...]) -> int:
    return shape[0] * shape[2] * shape[3]


def _computes_in_int8(executable: Any) -> bool:
    """Return True if any convolution runs in eight bits; without kernels all run in floats."""
    for node in executable.get_runtime_model().get_ordered_ops():
        facts = {key: str(value.value) for key, value in node.get_rt_info().items()}
        if facts.get("layerType") == "Convolution" and facts.get("runtimePrecision") in EIGHT_BITS:
            return True
    return False


def _spell_out_repeats(model: Any) -> None:
    """Replace layers that repeat pixels by copies of the channels, sorted into blocks of pixels.

    OpenVINO 2026.4 repeats pixels wrongly, or fails, on x86 CPUs without AVX2. Elsewhere this gives
    the same bytes and takes 1 % (glfusion) longer.
    """
    operators = imported_openvino().opset13
    for layer in model.get_ops():
        if layer.get_type_name() != "Interpolate" or layer.get_attributes()["mode"] != "nearest":
            continue
        scales = layer.input_value(1).get_node()
        if scales.get_type_name() != "Constant":
            continue
        along = [float(scale) for scale in scales.get_data()]
        times = int(along[-1])
        if times > 1 and along == [1, 1, times, times]:
            copies = operators.tile(layer.input_value(0), np.array([1, times**2, 1, 1]))
            blocks = operators.depth_to_space(copies, "blocks_first", times)
            layer.output(0).replace(blocks.output(0))
    model.validate_nodes_and_infer_types()


def _cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # An unknown operator is named in the middle of a report; else the last line is the cause.
    named = [line for line in lines if "No conversion rule found" in line]
    return (named or lines or [type(error).__name__])[-1][:200]
