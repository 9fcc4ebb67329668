"""Ranges of activations: by three methods, kept on disk under everything they depend on."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from edgecar.engines.base import CODE
from edgecar.engines.libraries import imported_onnxruntime
from edgecar.errors import ExportError
from edgecar.files import atomic_write, cache_folder

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgecar.exporter.frames import Picture

Method = Literal["min-max", "percentile 99.99", "percentile 99.9", "entropy"]
"""All values; all but a few of the largest; or the clipping that keeps most information."""

METHODS: tuple[Method, ...] = get_args(Method)
Ranges = dict[str, tuple[float, float]]
"""Lowest and highest value of each tensor."""

CALIBRATED = ["Conv"]  # operators whose inputs and outputs ranges are taken of
FORMAT = 1  # raise it when the same pictures give other ranges


def ranges_from_reaches(model: "ModelProto", reaches: Mapping[str, float]) -> Ranges:
    """Symmetric ranges of what convolutions read, from reaches by the names of their modules.

    Raises:
        ExportError: The graph has no convolution with weights of such a name.
    """
    reads = {node.input[1]: node.input[0] for node in model.graph.node if node.op_type == "Conv"}
    absent = [name for name in reaches if f"{name}.weight" not in reads]
    if absent:
        raise ExportError(
            f"the weights were trained in eight bits for convolution {absent[0]!r}, which the "
            "graph does not have; export weights that were trained without --qat"
        )
    return {reads[f"{name}.weight"]: (-reach, reach) for name, reach in reaches.items()}


def ranges_of(
    model: "ModelProto",
    pictures: "Sequence[Picture]",
    method: Method,
    *,
    symmetric: bool,
    folder: Path | None = None,
) -> Ranges:
    """Range of every tensor that a convolution reads or makes, found once and then read from disk.

    Args:
        model: In float32.
        pictures: Coded pictures.
        method: How much of the largest values counts.
        symmetric: Whether a range reaches as far below zero as above.
        folder: Where ranges are kept.
    """
    key = _key(model, pictures, method, symmetric)
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    path = (folder or cache_folder("ranges")) / f"{name}.json"
    try:
        stored = json.loads(path.read_text())
        if stored["key"] == key:
            return {tensor: (low, high) for tensor, (low, high) in stored["ranges"].items()}
    except (OSError, ValueError, KeyError, TypeError):  # absent or damaged: found again
        pass
    ranges = _calibrated(model, pictures, method, symmetric)
    with suppress(OSError), atomic_write(path) as temporary:  # they are found again without it
        temporary.write_text(json.dumps({"key": key, "ranges": ranges}))
    return ranges


def _key(
    model: "ModelProto", pictures: "Sequence[Picture]", method: Method, symmetric: bool
) -> dict[str, Any]:
    onnxruntime = imported_onnxruntime()
    seen = hashlib.sha256()
    for picture in pictures:
        seen.update(str(picture.shape).encode() + np.ascontiguousarray(picture).tobytes())
    return {
        "format": FORMAT,
        "model": hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(),
        "data": seen.hexdigest(),
        "method": method,
        "symmetric": symmetric,
        "onnxruntime": onnxruntime.__version__,
    }


def _calibrated(
    model: "ModelProto", pictures: "Sequence[Picture]", method: Method, symmetric: bool
) -> Ranges:
    library = imported_onnxruntime("quantization.calibrate")
    kind, _, percent = method.partition(" ")
    kinds = {
        "min-max": library.CalibrationMethod.MinMax,
        "percentile": library.CalibrationMethod.Percentile,
        "entropy": library.CalibrationMethod.Entropy,
    }
    options: dict[str, Any] = {"symmetric": symmetric}
    if percent:
        options["percentile"] = float(percent)
    # The library works on files, and prints what it does.
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        calibrator = library.create_calibrator(
            path,
            CALIBRATED,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=kinds[kind],
            extra_options=options,
        )
        feed = model.graph.input[0].name
        for picture in pictures:  # one at a time: the library holds all activations of a call
            calibrator.collect_data(_Reader(iter([{feed: picture[None] * CODE}])))
        found = calibrator.compute_data()
    return {name: _ends(data.range_value, symmetric) for name, data in found.items()}


def _ends(range_value: tuple[Any, Any], symmetric: bool) -> tuple[float, float]:
    low, high = (float(np.ravel(end)[0]) for end in range_value)
    reach = max(-low, high)
    # The library leaves out the side on which there are no values.
    return (-reach, reach) if symmetric else (low, high)


class _Reader:
    """What the library's calibrators ask for input."""

    def __init__(self, feeds: Iterator[dict[str, Any]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)
