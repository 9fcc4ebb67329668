"""Engines behind the GPU runtime: halves, ONNX Runtime's IO binding, torch as the reference."""

import ctypes
from typing import Any

import numpy as np
import pytest

from edgecar.engines.base import EngineInfo
from edgecar.engines.select import open_engine
from edgecar.engines.tiles import OnnxRuntimeTiles, TileEngine
from edgecar.errors import EngineError
from edgecar.runtime.cuda.runner import CudaRunner
from tests.runtime.cuda.host_device import HostDevice
from tests.runtime.cuda.small_network import HALO, InTurn, a_clip, blurred, wanted


class HalfTiles(TileEngine):
    """Takes and gives halves, as an FP16 plan with FP16 ends would."""

    def __init__(self, device: HostDevice, shape: tuple[int, int, int] | None) -> None:
        info = EngineInfo("half", "a Python function", "fp16", shape, "cpu")
        super().__init__(info, 1, reads="fp16", writes="fp16")
        self._device = device

    def enqueue(self, tiles: int, _quantisers: int, restored: int, stream: Any) -> None:
        def run() -> None:
            given, made = (
                np.ctypeslib.as_array((ctypes.c_uint16 * self.values).from_address(address))
                for address in (tiles, restored)
            )
            batch, height, width = self.shape
            floats = given.view(np.float16).reshape(batch, 1, height, width).astype(np.float32)
            made.view(np.float16)[:] = blurred(floats).astype(np.float16).reshape(-1)

        self._device.call(run, stream)


def test_halves_go_in_and_out() -> None:
    def halved(batch):
        made = blurred(batch.astype(np.float16).astype(np.float32))
        return made.astype(np.float16).astype(np.float32)

    device, shape = HostDevice(), (2, 16, 20)
    restorer = InTurn(CudaRunner(device, HalfTiles(device, shape), HALO))
    for frame in a_clip(5, (32, 44)):
        assert (restorer(frame) == wanted(frame, function=halved, shape=shape)).all()
    with pytest.raises(EngineError, match="takes any shape"):
        HalfTiles(device, None)


class QueuedTiles(OnnxRuntimeTiles):
    """ONNX Runtime with IO binding, in CPU memory that stands for the GPU's."""

    def __init__(self, device: HostDevice, artifact, shape) -> None:
        super().__init__(artifact, shape, None)
        self._queue = device

    def enqueue(self, *given: Any) -> None:
        start = super().enqueue
        self._queue.call(lambda: start(*given), given[-1])


@pytest.mark.parametrize("kind", ["fp32", "int8 openvino"])
def test_real_networks_give_the_bytes_of_the_whole_frame(kind, exported, reduced) -> None:
    artifact = exported("edgecar-xs") if kind == "fp32" else reduced("edgecar-xs", kind)
    device = HostDevice()
    engine = QueuedTiles(device, artifact, (2, 64, 64))
    assert engine.info.provider.endswith(" CPU")
    restorer = InTurn(CudaRunner(device, engine, artifact.metadata.halo_px))
    frame = np.random.default_rng(0).integers(0, 256, (90, 110), np.uint8)
    with open_engine(artifact, "onnxruntime", threads=1) as whole:
        for quantiser in (0.5, 0.2, 0.2):
            expected: list = []
            take = lambda _, codes: expected.append(codes.copy())  # noqa: B023, E731
            whole.run_codes([frame[None]], take, [quantiser])
            assert (restorer(frame, quantiser=quantiser) == expected[0]).all()


def test_same_tile_gives_the_same_bytes_whatever_the_quantisers_of_its_neighbours(exported) -> None:
    device = HostDevice()
    engine = QueuedTiles(device, exported("edgecar-xs"), (3, 32, 32)).on(device)
    assert engine.takes_quantiser
    batch = np.random.default_rng(1).random((3, 1, 32, 32), np.float32)
    told = np.float32([0.2, 0.9, 0])
    made = engine.run(batch, told)
    assert made[2].tobytes() == batch[2].tobytes()  # what is lossless stays as it is
    for order in ([0, 1, 2], [1, 2, 0], [2, 1, 0]):
        assert engine.run(batch[order], told[order]).tobytes() == made[order].tobytes()
    other = engine.run(batch, [0.2, 0.4, 0])
    assert [(a == b).all() for a, b in zip(made, other, strict=True)] == [True, False, True]


def test_absent_provider_is_said(exported) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(EngineError, match="has no CUDAExecutionProvider"):
        OnnxRuntimeTiles(exported("edgecar-xs"), (1, 64, 64), stream=7)
