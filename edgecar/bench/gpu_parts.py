"""What is checked and timed on a GPU, a function each (`edgecar.bench.gpu_check`)."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgecar.artifact import Artifact, find_artifact, read_artifact
from edgecar.engines.base import CODE, Batch, Codes, codes_from_unit
from edgecar.engines.fake import FakeEngine
from edgecar.engines.gpu import find_gpu
from edgecar.engines.plan import settings_for, write_plan
from edgecar.engines.targets import LIBRARIES, own_target, target_of
from edgecar.engines.tensorrt import TensorrtTiles
from edgecar.engines.tiles import TileEngine
from edgecar.engines.trt_library import load_library
from edgecar.errors import EngineError
from edgecar.runtime.cuda.device import Device, Memory
from edgecar.runtime.cuda.restorer import ReferenceTiles, TiledRestorer
from edgecar.runtime.windows import plan_grid
from edgecar.spec import Size

TILE: Size = (96, 128)
BATCH = 4
FRAME: Size = (250, 330)  # no multiple of anything
SIZES: dict[str, Size] = {"480p": (480, 720), "1080p": (1080, 1920), "4k": (2160, 3840)}
NETWORKS = ("edgecar-s", "edgecar-m", "arcnn", "fastarcnn", "msfan")
FRAMES_TIMED = 200
COPIES_TIMED = 100
COPY_BYTES = 64 << 20

Facts = dict[str, Any]


class SkippedError(Exception):
    """A part cannot be done here; says why."""


def check(condition: bool, what: str) -> None:
    """Raises AssertionError with these words if something does not hold."""
    if not condition:
        raise AssertionError(what)


def a_network(batch: Batch) -> Batch:
    """Of one layer that sees two pixels far and pads with noughts, in an order that is fixed."""
    padded = np.pad(batch, ((0, 0), (0, 0), (2, 2), (2, 2)))
    height, width = batch.shape[2:]
    total: Batch = np.zeros_like(batch)
    for row in range(5):
        for column in range(5):
            weight = np.float32((row + 2 * column + 1) / 175)
            total += padded[:, :, row : row + height, column : column + width] * weight
    return total


def whole(frame: Codes) -> Codes:
    """What that network makes of a frame in one piece."""
    restored = a_network(np.multiply(frame[None, None], CODE))
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


def kernels_part(device: Device) -> Facts:
    """Tiles out of frames and back, with and without reuse: tiled equals whole."""
    tiles = ReferenceTiles(device, FakeEngine(a_network), (BATCH, *TILE))
    for reuse in (True, False):
        restorer = TiledRestorer(device, tiles, 2, reuse=reuse)
        for number, frame in enumerate(a_clip(FRAME)):
            differ = int((restorer(frame) != whole(frame)).sum())
            check(not differ, f"frame {number}, reuse {reuse}: {differ} pixels are not the whole's")
        if reuse:
            windows = len(plan_grid(FRAME, TILE, halo_px=2))
            check(restorer.windows_run < 6 * windows, "reuse computed everything")
    return {"frames": 6, "frame": FRAME, "tile": TILE, "differing_pixels": 0}


def types_part(device: Device) -> Facts:
    """Tiles of every type of number, against NumPy: gathered, and scattered where there is that."""
    (frame,) = a_clip(FRAME, frames=1)
    plan = plan_grid(FRAME, TILE, halo_px=2)[:BATCH]
    windows = np.array([[*window.read[:2], *window.keep] for window in plan], np.int32)
    shape, scale = (BATCH, 1, *TILE), 0.0079
    units = np.stack([
        np.multiply(frame[None, w.read[0] : w.read[2], w.read[1] : w.read[3]], CODE) for w in plan
    ])  # fmt: skip
    steps = np.clip(np.rint(units / np.float32(scale)), -128, 127)
    stream = device.stream()
    codes, table, count = (
        on_device(device, array, stream)
        for array in (frame, windows, np.array([len(plan)], np.int32))
    )
    common = table.address, None, count.address, 0, BATCH, *TILE
    wanted = {"fp32": units, "fp16": units.astype(np.float16), "int8": steps.astype(np.int8)}
    for kind, tiles in wanted.items():
        made = device.memory(tiles.nbytes)
        given: tuple[Any, ...] = (codes.address, *FRAME, FRAME[1], 1, *common, scale, made.address)
        device.launch(f"gather_{kind}", TILE[0] * -(-TILE[1] // 4), BATCH, given, stream)
        got = from_device(device, made, stream).view(tiles.dtype).reshape(shape)
        check((got == tiles).all(), f"gather_{kind} differs from NumPy")
    for kind in ("fp32", "fp16"):
        made = on_device(device, wanted[kind], stream)
        back = device.memory(frame.nbytes)
        given = (made.address, 1, *common, back.address, FRAME[0], FRAME[1])
        device.launch(f"scatter_{kind}", TILE[0] * (TILE[1] // 4 + 2), BATCH, given, stream)
        got = from_device(device, back, stream).reshape(FRAME)
        for window in plan:
            top, left, bottom, right = window.keep
            same = got[top:bottom, left:right] == frame[top:bottom, left:right]
            check(bool(same.all()), f"scatter_{kind} differs from NumPy")
    return {"types": list(wanted)}


def on_device(device: Device, array: Any, stream: Any) -> Memory:
    """An array's bytes in device memory."""
    staged, memory = device.staging(array.nbytes), device.memory(array.nbytes)
    assert staged.host is not None
    staged.host[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    device.upload(memory, staged, stream)
    wait(device, stream)
    return memory


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


def copies_part(device: Device) -> Facts:
    """Bytes a second of copies within the device: what kernels are to be compared with."""
    source, to = device.memory(COPY_BYTES), device.memory(COPY_BYTES)
    stream, done = device.stream(), device.event()
    width, rows = 1 << 16, COPY_BYTES >> 16

    def copy() -> None:
        device.copy_rows((to.address, width), (source.address, width), width, rows, stream)

    seconds = timed(device, copy, stream, done)
    return {"copy_gb_s": 2 * COPY_BYTES / seconds / 1e9}


def kernel_speed_part(device: Device) -> Facts:
    """Bytes a second of gather and scatter at 1080p, against copies."""
    copy_gb_s = copies_part(device)["copy_gb_s"]
    size, tile, batch = SIZES["1080p"], (384, 656), 9
    plan = plan_grid(size, tile, halo_px=12)
    stream, done = device.stream(), device.event()
    pitch = 2048
    frame = device.memory(size[0] * pitch)
    table = np.array([[*window.read[:2], *window.keep] for window in plan], np.int32)
    windows = on_device(device, table, stream)
    count = on_device(device, np.array([len(plan)], np.int32), stream)
    pixels = batch * tile[0] * tile[1]
    facts: Facts = {"copy_gb_s": copy_gb_s}
    for kind, item in (("fp32", 4), ("fp16", 2)):
        tiles = device.memory(pixels * item)
        common = (windows.address, None, count.address, 0, batch, *tile)

        def gather(kind: str = kind, address: int = tiles.address, common: Any = common) -> None:
            arguments = (frame.address, *size, pitch, 1, *common, 1.0, address)
            device.launch(f"gather_{kind}", tile[0] * tile[1] // 4, batch, arguments, stream)

        def scatter(kind: str = kind, address: int = tiles.address, common: Any = common) -> None:
            arguments = (address, 1, *common, frame.address, size[0], pitch)
            items = tile[0] * (tile[1] // 4 + 2)
            device.launch(f"scatter_{kind}", items, batch, arguments, stream)

        kept = size[0] * size[1]
        for name, kernel, moved in (
            ("gather", gather, pixels * (1 + item)),
            ("scatter", scatter, kept * (1 + item)),
        ):
            gb_s = moved / timed(device, kernel, stream, done) / 1e9
            facts[f"{name}_{kind}_gb_s"] = gb_s
            facts[f"{name}_{kind}_share_of_copy"] = gb_s / copy_gb_s
    return facts


def timed(device: Device, work: Callable[[], None], stream: Any, done: Any) -> float:
    """Seconds that work takes, after a warm-up, many times in a row."""
    for times in (3, COPIES_TIMED):
        began = time.perf_counter()
        for _ in range(times):
            work()
        device.record(done, stream)
        device.finish(done)
    return (time.perf_counter() - began) / COPIES_TIMED


def tensorrt_part(device: Device, library_name: str, network: str, folder: Path) -> Facts:
    """Build a plan, run it with and without graphs and reuse, compare, and time it."""
    name = next(name for name in LIBRARIES if name == library_name)
    try:
        library = load_library(name)
    except EngineError as error:
        raise SkippedError(str(error)) from error
    gpu = find_gpu()
    target = target_of(gpu) or own_target(gpu)
    artifact = in_a_file(read_artifact(find_artifact(network)), folder)
    plan = folder / f"{network}.{library_name}.plan"
    settings = settings_for(artifact, target, compute_capability="")
    facts = write_plan(artifact, plan, library, target, settings, gpu)
    with TensorrtTiles(plan, library, gpu) as engine:
        found = runtime_facts(device, engine, artifact)
    return {"build_seconds": facts.build_seconds, "inspected": facts.inspected, **found}


def runtime_facts(device: Device, engine: TileEngine, artifact: Artifact) -> Facts:
    """Graphs and reuse on and off give the same bytes; accuracy against the CPU; speed."""
    halo_px = artifact.facts.halo_px
    size = SIZES["1080p"]
    clip = a_clip(size, frames=4)
    outputs = {
        (reuse, graphs): [
            restored.tobytes()
            for restored in map(
                TiledRestorer(device, engine, halo_px, reuse=reuse, graphs=graphs), clip + clip
            )
        ]
        for reuse in (True, False)
        for graphs in (True, False)
    }
    check(len({tuple(each) for each in outputs.values()}) == 1, "reuse or graphs change the bytes")
    facts: Facts = {"max_code_difference_to_cpu": difference_to_cpu(device, engine, artifact)}
    for label, wanted in SIZES.items():
        facts[label] = speed(TiledRestorer(device, engine, halo_px, reuse=False), wanted)
    return facts


def difference_to_cpu(device: Device, engine: TileEngine, artifact: Artifact) -> int | None:
    """Largest difference to ONNX Runtime on the CPU, in codes; None where it is not installed."""
    try:
        from edgecar.engines.onnxruntime import OnnxRuntimeEngine

        with OnnxRuntimeEngine(artifact) as reference:
            tiles = ReferenceTiles(device, reference, engine.shape)
            (frame,) = a_clip(SIZES["480p"], frames=1)
            wanted = TiledRestorer(device, tiles, artifact.facts.halo_px)(frame)
    except EngineError:
        return None
    got = TiledRestorer(device, engine, artifact.facts.halo_px)(frame)
    return int(np.abs(got.astype(int) - wanted).max())


def speed(restorer: TiledRestorer, size: Size) -> Facts:
    """Latency of frames one by one, and frames a second of two at a time; up and down included."""
    frames = [np.random.default_rng(seed).integers(0, 256, size, np.uint8) for seed in (0, 1)]
    for _ in range(4):
        restorer(frames[0])
    seconds = []
    for number in range(FRAMES_TIMED):
        began = time.perf_counter()
        restorer(frames[number % 2])
        seconds.append(time.perf_counter() - began)
    began = time.perf_counter()
    restorer.submit(frames[0])
    for number in range(1, FRAMES_TIMED):
        restorer.submit(frames[number % 2])
        restorer.result()
    restorer.result()
    fps = FRAMES_TIMED / (time.perf_counter() - began)
    p50, p95 = np.percentile(seconds, (50, 95)) * 1000
    return {"p50_ms": float(p50), "p95_ms": float(p95), "fps": fps}


def in_a_file(artifact: Artifact, folder: Path) -> Artifact:
    """The artifact in one file in a folder, where a plan can be built from it."""
    path = folder / (artifact.path.name if artifact.path else "network.onnx")
    path.write_bytes(artifact.onnx)
    return Artifact(artifact.facts, artifact.onnx, path)
