"""Checks that must hold on every GPU, a function each (`benchmarks.run.gpu_check`)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.run.gpu_speed import Metadata, on_device
from edgecar.engines.base import CODE, Batch, Codes, Engine, Quantisers, codes_from_unit
from edgecar.engines.fake import FakeEngine
from edgecar.engines.tiles import TileEngine
from edgecar.runtime.cuda.device import WORD, Device, Memory
from edgecar.runtime.cuda.runner import CudaRunner
from edgecar.runtime.tiles import plan_grid
from edgecar.spec import Size

TILE: Size = (96, 128)
BATCH = 4
FRAME: Size = (250, 330)  # no multiple of anything


Part = Callable[[], Metadata]


class SkippedError(Exception):
    """A part cannot be done here; says why."""


def check(condition: bool, what: str) -> None:
    """Raises AssertionError with these words if something does not hold."""
    if not condition:
        raise AssertionError(what)


def a_network(batch: Batch, quantisers: Quantisers) -> Batch:
    """Apply a network of one layer that sees two pixels far, in a fixed order of sums.

    The output is scaled by the quantiser.
    """
    padded = np.pad(batch, ((0, 0), (0, 0), (2, 2), (2, 2)))
    height, width = batch.shape[2:]
    total: Batch = np.zeros_like(batch)
    for row in range(5):
        for column in range(5):
            weight = np.float32((row + 2 * column + 1) / 175)
            total += padded[:, :, row : row + height, column : column + width] * weight
    scaled: Batch = total * quantisers[:, None, None, None]
    return scaled


def whole(frame: Codes, quantiser: float) -> Codes:
    """Return the network's output for the untiled frame."""
    restored = a_network(np.multiply(frame[None, None], CODE), np.array([quantiser], np.float32))
    return codes_from_unit(restored[0, 0])


def a_clip(size: Size, frames: int = 6) -> list[Codes]:
    """Noise in which little changes from frame to frame."""
    random = np.random.default_rng(0)
    frame = random.integers(0, 256, size, np.uint8)
    clip = [frame]
    for number in range(frames - 1):
        frame = frame.copy()
        frame[40 * number : 40 * number + 9, 30:37] ^= 0x15
        clip.append(frame)
    return clip


class ReferenceTiles(TileEngine):
    """Any engine in place of one that runs where tiles lie: through CPU memory, to compare with."""

    def __init__(self, device: Device, engine: Engine, shape: tuple[int, int, int]) -> None:
        info, told = replace(engine.info, shape=shape), engine.takes_quantiser
        super().__init__(info, engine.channels, engine.align_px, takes_quantiser=told)
        self._device, self._engine = device, engine

    def enqueue(self, tiles: int, quantisers: int, restored: int, stream: Any) -> None:
        """Wait for the tiles, and bring up what the engine makes of them."""
        batch, height, width = self.shape
        shape, count = (batch, self.channels, height, width), 4 * self.values
        given = from_device(self._device, Memory(tiles, count), stream).view(np.float32)
        told = from_device(self._device, Memory(quantisers, 4 * batch), stream).view(np.float32)
        back = self._device.staging(count)
        assert back.host is not None
        restored_tiles = self._engine.run(given.reshape(shape), told.tolist())
        back.host.view(np.float32).reshape(shape)[:] = restored_tiles
        self._device.upload(Memory(restored, count), back, stream)
        wait(self._device, stream)  # the memory is needed until then


def kernels_part(device: Device) -> Metadata:
    """Tiles out of frames and back, with and without reuse: tiled equals whole."""
    network = FakeEngine(a_network, takes_quantiser=True)
    tiles = ReferenceTiles(device, network, (BATCH, *TILE))
    for reuse in (True, False):
        runner, run = CudaRunner(device, tiles, 2, reuse=reuse), 0
        for number, frame in enumerate(a_clip(FRAME)):
            quantiser = 0.3 if number < 3 else 0.9
            ticket = runner.submit(frame, None, quantiser)
            differ = int((runner.result(ticket)[0] != whole(frame, quantiser)).sum())
            run += ticket.tiles
            check(not differ, f"frame {number}, reuse {reuse}: {differ} pixels are not the whole's")
        if reuse:
            windows = len(plan_grid(FRAME, TILE, halo_px=2))
            check(run < 6 * windows, "reuse computed everything")
    return {"frames": 6, "frame": FRAME, "tile": TILE, "differing_pixels": 0}


def types_part(device: Device) -> Metadata:
    """Tiles of every type of number, against NumPy: gathered, and scattered where there is that."""
    (frame,) = a_clip(FRAME, frames=1)
    plan = plan_grid(FRAME, TILE, halo_px=2)[:BATCH]
    windows = np.array([[*window.read[:2], *window.keep] for window in plan], np.int32)
    shape = (BATCH, 1, *TILE)
    units = np.stack([
        np.multiply(frame[None, w.read[0] : w.read[2], w.read[1] : w.read[3]], CODE) for w in plan
    ])  # fmt: skip
    rows = np.pad(frame, ((0, 0), (0, -FRAME[1] % WORD)))  # which begin at words
    pitch = rows.shape[1]
    stream = device.stream()
    codes, table, count = (
        on_device(device, array, stream)
        for array in (rows, windows, np.array([len(plan)], np.int32))
    )
    common = table.address, None, count.address, 0, BATCH, *TILE
    wanted = {"fp32": units, "fp16": units.astype(np.float16)}
    for kind, tiles in wanted.items():
        made = device.memory(tiles.nbytes)
        told = device.memory(4 * BATCH)
        given: tuple[Any, ...] = (codes.address, *FRAME, pitch, 1, *common, made.address)
        given = (*given, 0.3, told.address)
        device.launch(f"gather_{kind}", TILE[0] * -(-TILE[1] // 4), BATCH, given, stream)
        got = from_device(device, made, stream).view(tiles.dtype).reshape(shape)
        check((got == tiles).all(), f"gather_{kind} differs from NumPy")
        known = from_device(device, told, stream).view(np.float32)
        check(bool((known == np.float32(0.3)).all()), f"gather_{kind} tells another quantiser")
    for kind in ("fp32", "fp16"):
        made = on_device(device, wanted[kind], stream)
        back = device.memory(rows.nbytes)
        given = (made.address, 1, *common, back.address, FRAME[0], pitch)
        device.launch(f"scatter_{kind}", TILE[0] * (TILE[1] // 4 + 2), BATCH, given, stream)
        got = from_device(device, back, stream).reshape(rows.shape)
        for window in plan:
            top, left, bottom, right = window.keep
            same = got[top:bottom, left:right] == frame[top:bottom, left:right]
            check(bool(same.all()), f"scatter_{kind} differs from NumPy")
    return {"types": list(wanted)}


def from_device(device: Device, memory: Memory, stream: Any) -> Codes:
    """Bytes of device memory."""
    staged = device.staging(memory.size)
    assert staged.host is not None
    device.download(staged, memory, stream)
    wait(device, stream)
    return staged.host


def wait(device: Device, stream: Any) -> None:
    """Until a stream has done all its work."""
    done = device.event()
    device.record(done, stream)
    device.finish(done)
