"""Engines on a GPU, opened by name; plans are found by what they were built from."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgecar.artifact import Artifact
from edgecar.engines.answer import open_checked
from edgecar.engines.base import Engine
from edgecar.engines.gpu import find_gpu
from edgecar.engines.plan import SUFFIX, onnx_sha256, read_plan_metadata
from edgecar.engines.select import PLANS, open_engine
from edgecar.engines.targets import LibraryName
from edgecar.engines.tensorrt import TensorrtTiles
from edgecar.engines.tiles import OnnxRuntimeTiles
from edgecar.errors import ArtifactError, EngineError
from edgecar.files import quoted
from edgecar.metadata import Metadata
from edgecar.runtime.cuda.device import Device
from edgecar.runtime.cuda.through_pycuda import CudaDevice
from edgecar.spec import Precision

TILES = (8, 256, 256)
"""Batch, height and width of tiles for ONNX Runtime, which takes any."""

_log = logging.getLogger(__name__)


def find_plan(artifact: Artifact, library: LibraryName) -> Path:
    """A plan of an artifact, beside its file or in the current folder.

    Raises:
        EngineError: There is none, or several; says what to build, or which there are.
    """
    wanted = onnx_sha256(artifact)
    folders = {Path().resolve(), *([artifact.path.resolve().parent] if artifact.path else [])}
    found = []
    for path in sorted(path for folder in folders for path in folder.glob(f"*{SUFFIX}")):
        try:
            metadata = read_plan_metadata(path)
        except ArtifactError:  # another tool's, or spoilt: not one to run
            continue
        if (metadata.onnx_sha256, metadata.library) == (wanted, library):
            found.append(path)
    if len(found) == 1:
        return found[0]
    named = artifact.path or artifact.metadata.model
    if not found:
        raise EngineError(
            f"no {library} plan of {named} beside it or here; edgecar build "
            f"{quoted(named)} --library {library}"
        )
    names = ", ".join(path.name for path in found)
    raise EngineError(f"{len(found)} {library} plans of {named} ({names}); keep one of them here")


def open_on_gpu(
    artifact: Artifact, name: str, precision: Precision | None, threads: int = 0
) -> Engine:
    """Open an engine on a GPU and check it with the artifact's known answer.

    Args:
        artifact: Artifact to run.
        name: ``tensorrt``, ``tensorrt-rtx`` or ``onnxruntime:cuda``.
        precision: Arithmetic; None takes the engine's choice.
        threads: Number of CPU threads, for what a library does on the CPU.

    Raises:
        AnswerError: The engine computes something else than the artifact.
        EngineError: It is absent, does not run here, or computes in another precision.
    """
    if name in PLANS:
        return open_checked(artifact, precision, partial(_open_plan, name))
    if artifact.metadata.context != "local":  # which must not be cut into small tiles
        return open_engine(artifact, name, precision, threads)
    try:
        device = CudaDevice()
    except EngineError as error:
        engine = open_engine(artifact, name, precision, threads)
        note = f"tiles go through CPU memory: {error}"
        engine.info = replace(engine.info, note=engine.info.note or note)
        return engine
    return open_checked(artifact, precision, partial(_open_onnxruntime, device))


def open_any_gpu(artifact: Artifact, precision: Precision | None) -> Engine | None:
    """Open the first engine that works on a GPU here; None if there is none."""
    try:
        find_gpu()
    except EngineError:
        return None
    for name in (*PLANS, "onnxruntime:cuda"):
        try:
            return open_on_gpu(artifact, name, precision)
        except EngineError as error:
            _log.info("%s is not used: %s", name, error)
    return None


def _open_plan(
    library: LibraryName, artifact: Artifact, precision: Precision | None
) -> tuple[Engine, Metadata]:
    own = artifact.metadata.precision
    if precision not in (None, own):
        raise EngineError(
            f"got --precision {precision}, but the plan computes what its graph says, {own}; leave "
            f"it out, or edgecar build it with --precision {precision}"
        )
    path = find_plan(artifact, library)
    device = CudaDevice()
    return TensorrtTiles(path).on(device), read_plan_metadata(path).network


def _open_onnxruntime(
    device: Device, artifact: Artifact, precision: Precision | None
) -> tuple[Engine, Metadata]:
    own = artifact.metadata.precision
    if precision not in (None, own, "tf32") or (precision == "tf32" and own != "fp32"):
        raise EngineError(
            f"got --precision {precision}, but ONNX Runtime computes this graph in {own}; leave "
            f"--precision out or export the network in {precision}"
        )
    stream = device.stream()
    tiles = OnnxRuntimeTiles(artifact, TILES, device.handle(stream), tf32=precision == "tf32")
    return tiles.on(device, stream), artifact.metadata
