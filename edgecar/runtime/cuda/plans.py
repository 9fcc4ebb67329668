"""Plans as engines: found by what they were built from, run on frames or batches in CPU memory."""

from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np

from edgecar.artifact import Artifact, Metadata
from edgecar.engines.answer import open_checked
from edgecar.engines.base import Batch, Codes, Engine
from edgecar.engines.plan import SUFFIX, onnx_sha256, read_plan_metadata
from edgecar.engines.targets import LibraryName
from edgecar.engines.tensorrt import TensorrtTiles
from edgecar.engines.tiles import TileEngine
from edgecar.errors import ArtifactError, EngineError
from edgecar.files import quoted
from edgecar.runtime.cuda.device import Device
from edgecar.runtime.cuda.restorer import TiledRestorer
from edgecar.runtime.cuda.through_pycuda import CudaDevice
from edgecar.spec import Precision


def find_plan(artifact: Artifact, library: LibraryName) -> Path:
    """A plan of an artifact, beside its file or in the current folder.

    Raises:
        EngineError: There is none, or several; says what to build, or which there are.
    """
    wanted = onnx_sha256(artifact)
    folders = {Path().resolve(), *([artifact.path.resolve().parent] if artifact.path else [])}
    found = sorted(
        path for folder in folders for path in folder.glob(f"*{SUFFIX}")
        if _is_of(path, wanted, library)
    )  # fmt: skip
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


def _is_of(plan: Path, wanted: str, library: LibraryName) -> bool:
    try:
        metadata = read_plan_metadata(plan)
    except ArtifactError:  # another tool's, or spoilt: not one to run
        return False
    return metadata.onnx_sha256 == wanted and metadata.library == library


def open_plan(
    artifact: Artifact,
    library: LibraryName,
    precision: Precision | None,
    threads: int,  # noqa: ARG001  # every engine is opened alike; a GPU has none
) -> Engine:
    """Open the engine of an artifact's plan and check it with the plan's known answer.

    Raises:
        AnswerError: The plan computes something else than the artifact.
        EngineError: There is no plan, it does not run here, or it is in another precision.
    """
    own = artifact.metadata.precision
    if precision not in (None, own):
        raise EngineError(
            f"got --precision {precision}, but the plan computes what its graph says, {own}; leave "
            f"it out, or edgecar build it with --precision {precision}"
        )

    def opener(opened: Artifact, _precision: Precision | None) -> tuple[Engine, Metadata]:
        path = find_plan(opened, library)
        device = CudaDevice()
        return StagedEngine(device, TensorrtTiles(path)), read_plan_metadata(path).network

    return open_checked(artifact, precision, opener)


class DeviceFrames:
    """Frames in CPU memory through the tiled GPU runtime.

    Args:
        device: That it runs on.
        tiles: What runs.
        halo_px: Of the network.
        turn: Lock of the engine, held during every call.
    """

    def __init__(
        self, device: Device, tiles: TileEngine, halo_px: int, turn: AbstractContextManager[object]
    ) -> None:
        self._turn, self._open = turn, True
        self._with_reuse, self._in_full = (
            TiledRestorer(device, tiles, halo_px, reuse=reuse) for reuse in (True, False)
        )

    def restore_all(
        self, frames: Sequence[Codes], streams: Sequence[Hashable], *, reuse: bool
    ) -> list[tuple[Codes, int]]:
        """See `FrameRunner`."""
        restorer = self._with_reuse if reuse else self._in_full
        with self._turn:
            if not self._open:
                raise EngineError("the engine of these frames is closed; open it again")
            return restorer.restore_all(frames, streams)

    def forget(self, stream: Hashable) -> None:
        """See `FrameRunner`."""
        with self._turn:
            self._with_reuse.forget(stream)
            self._in_full.forget(stream)

    def close(self) -> None:
        """Wait for what is on its way, and give memory back."""
        with self._turn:
            self._open = False
            self._with_reuse.close()
            self._in_full.close()


class StagedEngine(Engine):
    """A `TileEngine` for whole frames (`frames`), or batches: up, through the network, down.

    Args:
        device: Whose memory it runs in; closed with it.
        tiles: What runs.
    """

    def __init__(self, device: Device, tiles: TileEngine) -> None:
        if (tiles.reads, tiles.writes) != ("fp32", "fp32"):
            raise EngineError(f"{tiles.info.name} takes {tiles.reads}, batches are fp32")
        super().__init__(tiles.info, tiles.channels, tiles.align_px)
        self._device, self._tiles = device, tiles
        size = 4 * tiles.values
        self._up, self._down = device.staging(size), device.staging(size)
        shared = device.shared
        self._given = self._up if shared else device.memory(size)
        self._made = self._down if shared else device.memory(size)
        self._stream, self._done = device.stream(), device.event()
        self._copy_up = partial(device.upload, self._given, self._up, self._stream)
        self._copy_down = partial(device.download, self._down, self._made, self._stream)
        self._frames: DeviceFrames | None = None

    def frames(self, halo_px: int) -> DeviceFrames:
        with self.turn:
            self._check_open()
            if self._frames is None:
                self._frames = DeviceFrames(self._device, self._tiles, halo_px, self.turn)
            return self._frames

    def _run(self, batch: Batch) -> Batch:
        assert self._up.host is not None
        assert self._down.host is not None
        self._up.host.view(np.float32)[:] = batch.reshape(-1)
        if not self._device.shared:
            self._copy_up()
        self._tiles.enqueue(self._given.address, self._made.address, self._stream)
        if not self._device.shared:
            self._copy_down()
        self._device.record(self._done, self._stream)
        self._device.finish(self._done)
        restored: Batch = self._down.host.view(np.float32).reshape(batch.shape)
        return restored

    def _free(self) -> None:
        if self._frames:
            self._frames.close()
        self._tiles.close()
        self._device.close()
