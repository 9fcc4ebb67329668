"""How fast a GPU copies, runs the kernels and restores frames (`benchmarks.run.gpu_check`)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgecar.engines.gpu import Gpu
from edgecar.engines.targets import Target, own_target, target_of
from edgecar.engines.tiles import ITEM_BYTES, TileEngine
from edgecar.runtime.cuda.arrays import DeviceArray
from edgecar.runtime.cuda.device import Device, Memory
from edgecar.runtime.cuda.device_stream import GROUP, PITCH_PX, words_of_tile
from edgecar.runtime.cuda.runner import CudaRunner
from edgecar.runtime.tiles import plan_grid
from edgecar.spec import MIDDLE_QUANTISER, Size

Metadata = dict[str, Any]

SIZES: dict[str, Size] = {
    "480p": (480, 720), "720p": (720, 1280), "1080p": (1080, 1920), "4k": (2160, 3840),
}  # fmt: skip
KERNEL_TILE: Size = (384, 656)
KERNEL_BATCH = 9
DETECTOR_SIDE: Size = (640, 640)
BT709 = (16, 76309, 117489, -13975, -34925, 138438)
STAMP = 1
AIM = 0.7
"""Share of a copy's bytes a second that every kernel is to reach."""


@dataclass
class Bench:
    """A GPU, and how and where things are timed on it.

    Attributes:
        device: The GPU.
        gpu: As its driver describes it.
        seconds: For each figure.
        files: Folder of what `benchmarks.run.gpu_files` made.
        work: Folder for plans.
        sizes: Sizes of frames to time.
        copy_bytes: Size of the copy that kernels are compared with.
        least_free: Least device memory that was seen free, in bytes.
        ceilings: Measured speed of arithmetic and copies, by engine and precision.
    """

    device: Device
    gpu: Gpu
    seconds: float = 1.0
    files: Path = Path()
    work: Path = Path()
    sizes: Sequence[str] = tuple(SIZES)
    copy_bytes: int = 256 << 20
    least_free: int = field(init=False)
    ceilings: dict[tuple[str, str], Metadata] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.least_free = self.device.free_bytes()
        self.stream, self._done = self.device.stream(), self.device.event()

    @property
    def target(self) -> Target:
        """The box that this is, or one that is reckoned."""
        return target_of(self.gpu) or own_target(self.gpu)

    def look(self) -> None:
        """Note how much memory is free."""
        self.least_free = min(self.least_free, self.device.free_bytes())

    def wait(self, stream: Any = None) -> None:
        """Until a stream has done all its work."""
        self.device.record(self._done, stream or self.stream)
        self.device.finish(self._done)

    def timed(self, work: Callable[[], None], stream: Any = None) -> float:
        """Seconds that enqueued work takes, many times in a row, after a warm-up."""
        work()
        self.wait(stream)
        times, spent = 1, 0.0
        while True:
            began = time.perf_counter()
            for _ in range(times):
                work()
            self.wait(stream)
            spent = time.perf_counter() - began
            if spent >= self.seconds:
                return spent / times
            times = max(times + 1, int(times * min(10.0, 1.2 * self.seconds / max(spent, 1e-6))))


def on_device(device: Device, array: Any, stream: Any) -> Memory:
    """An array's bytes in device memory."""
    staged, memory = device.staging(array.nbytes), device.memory(array.nbytes)
    assert staged.host is not None
    staged.host[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    device.upload(memory, staged, stream)
    done = device.event()
    device.record(done, stream)
    device.finish(done)
    return memory


def copy_speed(bench: Bench) -> float:
    """10⁹ bytes a second that copies within the device read and write together."""
    device, width = bench.device, 1 << 16
    source, to = device.memory(bench.copy_bytes), device.memory(bench.copy_bytes)
    rows = bench.copy_bytes // width

    def copy() -> None:
        device.copy_rows((to.address, width), (source.address, width), width, rows, bench.stream)

    return 2 * bench.copy_bytes / bench.timed(copy) / 1e9


class Launches:
    """The runtime's kernels on a frame cut into tiles, each ready to be timed.

    Args:
        device: Device that the kernels run on.
        size: ``(height, width)`` of the frame.
        shape: Tiles of a batch, and ``(height, width)`` of a tile.
        halo_px: Halo of the network.
        kinds: Types of numbers that the network reads and writes.
        stream: To launch on.
        align_px: Sides of tiles are multiples of this.
        channels: Channels of frame and tiles.
    """

    def __init__(
        self,
        device: Device,
        size: Size,
        shape: tuple[int, int, int],
        halo_px: int,
        kinds: tuple[str, str],
        stream: Any,
        align_px: int = 1,
        channels: int = 1,
    ) -> None:
        self._device, self._stream, self._size, self._channels = device, stream, size, channels
        (self._reads, self._writes), (self._batch, *tile) = kinds, shape
        self._tile = height, width = tile[0], tile[1]
        plan = plan_grid(size, self._tile, halo_px=halo_px, align_px=align_px)
        self.windows, self._pitch = len(plan), -(-size[1] // PITCH_PX) * PITCH_PX
        frame_bytes = channels * size[0] * self._pitch
        self._before, self._after, self._out = (device.memory(frame_bytes) for _ in range(3))
        table = np.array([[*each.read[:2], *each.keep] for each in plan], np.int32)
        self._table = on_device(device, table, stream)
        self._count = on_device(device, np.array([len(plan)], np.int32), stream)
        self._flags, self._chosen, self._found = (
            device.memory(4 * count) for count in (len(plan), len(plan), 1)
        )
        values = self._batch * channels * height * width
        read, written = (ITEM_BYTES[kind] for kind in kinds)  # type: ignore[index]
        self.tiles, self.made = device.memory(values * read), device.memory(values * written)
        self.told = device.memory(4 * self._batch)
        kept = channels * sum(
            (bottom - top) * (right - left)
            for top, left, bottom, right in (each.keep for each in plan[: self._batch])
        )
        self.moved = {
            "gather": values * (1 + read),
            "scatter": kept * (1 + written),
            "changed": 2 * self.windows * channels * height * width,
        }
        """Bytes that each kernel must read and write at least."""
        common = (self._table.address, None, self._count.address, 0, self._batch, height, width)
        self._gather = (
            *(self._after.address, *size, self._pitch, channels, *common),
            *(self.tiles.address, MIDDLE_QUANTISER, self.told.address),
        )
        self._scatter = (
            *(self.made.address, channels, *common, self._out.address, size[0], self._pitch),
        )

    def gather(self) -> None:
        """A batch of tiles out of the frame."""
        items, layers = self._tile[0] * -(-self._tile[1] // GROUP), self._batch * self._channels
        self._device.launch(f"gather_{self._reads}", items, layers, self._gather, self._stream)

    def scatter(self) -> None:
        """Copy the kept part of a batch into the frame."""
        items, layers = self._tile[0] * (self._tile[1] // GROUP + 2), self._batch * self._channels
        self._device.launch(f"scatter_{self._writes}", items, layers, self._scatter, self._stream)

    def changed(self) -> None:
        """Which tiles of the frame changed: none does, so that all of them are read."""
        self._device.launch(
            *("changed", words_of_tile(self._channels, self._tile), self.windows),
            (self._before.address, self._after.address, *self._size, self._pitch,
             self._channels, self._table.address, self.windows, *self._tile, STAMP,
             self._flags.address),
            self._stream,
        )  # fmt: skip

    def listed(self) -> None:
        """The list of them."""
        found = self._chosen.address, self._found.address
        arguments = self._flags.address, self.windows, STAMP, *found
        self._device.launch("listed", self.windows, 1, arguments, self._stream)


def kernel_speed(bench: Bench, size: Size = SIZES["1080p"], tile: Size = KERNEL_TILE) -> Metadata:
    """Bytes a second of every kernel on a frame, as a share of a copy's; judged by `AIM`."""
    copy_gb_s = copy_speed(bench)
    metadata: Metadata = {"copy_gb_s": copy_gb_s}

    def note(name: str, moved: int, kernel: Callable[[], None]) -> None:
        gb_s = moved / bench.timed(kernel) / 1e9
        share = gb_s / copy_gb_s
        metadata[name] = {"gb_s": gb_s, "share_of_copy": share, "reaches_aim": share >= AIM}

    for kind in ("fp32", "fp16"):
        shape = (KERNEL_BATCH, *tile)
        launches = Launches(bench.device, size, shape, 12, (kind, kind), bench.stream)
        moved = launches.moved
        note(f"gather_{kind}", moved["gather"], launches.gather)
        note(f"scatter_{kind}", moved["scatter"], launches.scatter)
        if kind == "fp32":
            note("changed", moved["changed"], launches.changed)
    for name, moved_bytes, kernel in detector_kernels(bench, size):
        note(name, moved_bytes, kernel)
    metadata["aim"] = AIM
    metadata["short_of_aim"] = sorted(
        name for name, row in metadata.items() if isinstance(row, dict) and not row["reaches_aim"]
    )
    return metadata


def detector_kernels(bench: Bench, size: Size) -> list[tuple[str, int, Callable[[], None]]]:
    """The kernels before a detector: name, bytes that they move at least, launch."""
    device, (height, width) = bench.device, size
    pitch, (rows, columns) = width, DETECTOR_SIDE
    picture = device.memory(pitch * (height + height // 2))
    tensor = device.memory(3 * rows * columns * 4)
    planes = (picture.address, pitch, picture.address + pitch * height, pitch, *size, *BT709)
    inner = min(rows, columns * height // width)
    box = (*((rows - inner) // 2, 0, inner, columns), rows, columns, 114, tensor.address)
    read = height * width * 3 // 2
    found: list[tuple[str, int, Callable[[], None]]] = []

    def add(kernel: str, moved: int) -> None:
        def launch(_held: tuple[Memory, ...] = (picture, tensor)) -> None:  # until it was timed
            device.launch(kernel, rows * columns, 1, (*planes, *box), bench.stream)

        found.append((kernel, moved, launch))

    for kind, item in (("fp32", 4), ("fp16", 2)):
        # Of a frame that is made smaller not all is read: four samples of luma a pixel, at most.
        seen = min(read, inner * columns * 6)
        add(f"letterbox_{kind}", seen + 3 * rows * columns * item)
    return found


def restored(runner: CudaRunner, frame: Any) -> Any:
    """Restore one frame and wait for it."""
    return runner.result(runner.submit(frame))


def frame_speed(bench: Bench, runner: CudaRunner, size: Size, channels: int) -> Metadata:
    """Latency of frames one by one, and frames a second of two at a time; up and down included."""
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (channels, *size), np.uint8) for _ in range(2)]
    for _ in range(4):
        restored(runner, frames[0])
    bench.look()
    seconds: list[float] = []
    ends = time.perf_counter() + bench.seconds
    while len(seconds) < 20 or time.perf_counter() < ends:
        began = time.perf_counter()
        restored(runner, frames[len(seconds) % 2])
        seconds.append(time.perf_counter() - began)
    count = max(20, int(bench.seconds / float(np.median(seconds))))
    began = time.perf_counter()
    before = runner.submit(frames[0])
    for number in range(1, count):
        ticket = runner.submit(frames[number % 2])
        runner.result(before)
        before = ticket
    runner.result(before)
    fps = count / (time.perf_counter() - began)
    p50, p95 = np.percentile(seconds, (50, 95)) * 1000
    return {"p50_ms": float(p50), "p95_ms": float(p95), "fps": fps}


def frame_split(bench: Bench, runner: CudaRunner, size: Size, channels: int) -> Metadata:
    """Milliseconds of a frame's way up, of computing it where it lies, and of its way down."""
    device, count = bench.device, channels * size[0] * size[1]
    staged, memory = device.staging(count), device.memory(count)
    given = DeviceArray(memory.address, (channels, *size), (size[0] * size[1], size[1], 1), memory)

    def up() -> None:
        device.upload(memory, staged, bench.stream)

    def down() -> None:
        device.download(staged, memory, bench.stream)

    def compute() -> None:
        restored(runner, given)

    return {
        "upload_ms": bench.timed(up) * 1000,
        "compute_ms": bench.timed(compute) * 1000,
        "download_ms": bench.timed(down) * 1000,
    }


def overhead(
    bench: Bench, engine: TileEngine, halo_px: int, size: Size, computing: Any
) -> Metadata:
    """Time of the runtime's kernels beside the engine, for a frame computed in full."""
    batch = engine.shape[0]
    kinds, more = (engine.reads, engine.writes), (engine.align_px, engine.channels)
    launches = Launches(bench.device, size, engine.shape, halo_px, kinds, computing, *more)
    batches = -(-launches.windows // batch)

    def run() -> None:
        tiles, told, made = launches.tiles, launches.told, launches.made
        engine.enqueue(tiles.address, told.address, made.address, computing)

    engine_ms = bench.timed(run, computing) * 1000 * batches
    gather_ms, scatter_ms, changed_ms, listed_ms = (
        bench.timed(kernel, computing) * 1000 * times
        for kernel, times in (
            (launches.gather, batches),
            (launches.scatter, batches),
            (launches.changed, 1),
            (launches.listed, 1),
        )
    )
    detect_ms = changed_ms + listed_ms
    return {
        "batches": batches,
        "engine_ms": engine_ms,
        "gather_ms": gather_ms,
        "scatter_ms": scatter_ms,
        "detect_ms": detect_ms,
        "overhead_share": (gather_ms + scatter_ms + detect_ms) / engine_ms,
    }
