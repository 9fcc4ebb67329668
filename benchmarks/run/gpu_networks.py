"""Networks on a GPU: are they right there, and how fast (`benchmarks.run.gpu_check`)."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.run.gpu_parts import Part, ReferenceTiles, SkippedError, a_clip, check
from benchmarks.run.gpu_speed import (
    SIZES,
    Bench,
    Metadata,
    copy_speed,
    frame_speed,
    frame_split,
    overhead,
    restored,
)
from edgecar.engines.targets import LibraryName
from edgecar.engines.tiles import OnnxRuntimeTiles, TileEngine
from edgecar.errors import EngineError
from edgecar.runtime.cuda.runner import CudaRunner
from edgecar.runtime.tiles import aligned_size, plan_grid
from edgecar.spec import Precision, Size

if TYPE_CHECKING:
    from edgecar.artifact import Artifact

NETWORKS = ("edgecar-s", "edgecar-m", "arcnn", "fastarcnn", "msfan")
PRECISIONS: tuple[Precision, ...] = ("fp16", "fp32", "int8")
ENGINES = ("tensorrt", "tensorrt-rtx", "onnxruntime:cuda")
REFUSED = "refused.json"

MOST_CODES: dict[Precision, int] = {"fp32": 1, "fp16": 2}
"""Largest difference to the CPU that is allowed: sums in another order round the other way at one
code of 8 bits, and halves have eleven bits of which a residual uses few."""

INT8_SHARE = 0.99
"""Share of pixels that must be within a code in INT8: where a sum lies between two steps of a
quantiser, an activation moves by a whole step, and with it all pixels that see it."""


def artifact_of(network: str, precision: Precision, files: Path) -> "Artifact":
    """A network's graph: FP32 is in the tree, others were made before."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise SkippedError("onnx is not installed, which reads graphs; pip install onnx") from error
    from edgecar.artifact import find_artifact, read_artifact

    if precision == "fp32":
        return read_artifact(find_artifact(network))
    path = files / f"{network}.jpeg.{precision}.onnx"
    if path.is_file():
        return read_artifact(path)
    refused = files / REFUSED
    why = json.loads(refused.read_text()) if refused.is_file() else {}
    raise SkippedError(
        why.get(path.name)
        or f"no {path}; make gpu-files, where torch is installed, and carry the folder here"
    )


def open_tiles(
    bench: Bench, name: str, artifact: "Artifact", shape: tuple[int, int, int], stream: Any
) -> tuple[TileEngine, Metadata]:
    """An engine for batches of one shape, and what is known of its making."""
    if name == "onnxruntime:cuda":
        try:
            handle = bench.device.handle(stream)
            return OnnxRuntimeTiles(artifact, shape, handle), {}
        except EngineError as error:
            if "has no CUDAExecutionProvider" in str(error) or "not installed" in str(error):
                raise SkippedError(str(error)) from error
            raise
    from edgecar.engines.tensorrt import TensorrtTiles
    from edgecar.engines.trt_build import settings_for, write_plan
    from edgecar.engines.trt_library import load_library

    library_name: LibraryName = "tensorrt-rtx" if name == "tensorrt-rtx" else "tensorrt"
    try:
        library = load_library(library_name)
    except EngineError as error:
        raise SkippedError(str(error)) from error
    path = bench.work / (artifact.path or Path("network.onnx")).name
    path.write_bytes(artifact.onnx)
    graph, plan = replace(artifact, path=path), path.with_suffix(f".{name}.plan")
    settings = settings_for(
        graph, bench.target, compute_capability="", tile=shape[1:], batch=shape[0]
    )
    metadata = write_plan(graph, plan, library, bench.target, settings, bench.gpu)
    made = {"build_seconds": metadata.build_seconds, "inspected": metadata.inspected}
    return TensorrtTiles(plan, library, bench.gpu), made


def network_part(bench: Bench, name: str, network: str, precision: Precision) -> Metadata:
    """Everything about one network in one precision on one engine."""
    artifact = artifact_of(network, precision, bench.files)
    target = bench.target
    shape = (target.batch, *target.tile)
    free = bench.device.free_bytes()
    bench.least_free = free
    computing = bench.device.stream()
    engine, made = open_tiles(bench, name, artifact, shape, computing)
    with engine:
        bench.look()
        metadata: Metadata = {
            "provider": engine.info.provider,
            "engine": name,
            "network": network,
            "precision": precision,
            "tile": target.tile,
            "batch": target.batch,
            **made,
            **accuracy(bench, engine, artifact, computing),
        }
        same_bytes(bench, engine, artifact.metadata.halo_px, computing)
        for label in bench.sizes:
            metadata[label] = timings(bench, engine, artifact, SIZES[label], computing)
            bench.look()
    metadata["peak_mib"] = (free - bench.least_free) / (1 << 20)
    known = bench.ceilings.get((name, precision))  # unless that part was left out or failed
    return with_floor(metadata, known, artifact) if known else metadata


def timings(
    bench: Bench, engine: TileEngine, artifact: "Artifact", size: Size, computing: Any
) -> Metadata:
    """Latency, frames a second, the ways up and down, and what the runtime adds, at one size."""
    halo_px, channels = artifact.metadata.halo_px, artifact.metadata.channels
    runner = CudaRunner(bench.device, engine, halo_px, reuse=False, computing=computing)
    try:
        return {
            **frame_speed(bench, runner, size, channels),
            **frame_split(bench, runner, size, channels),
            **overhead(bench, engine, halo_px, size, computing),
        }
    finally:
        runner.close()


def accuracy(bench: Bench, engine: TileEngine, artifact: "Artifact", computing: Any) -> Metadata:
    """Against ONNX Runtime on the CPU on the same tiles, and tiled against whole."""
    device, metadata = bench.device, artifact.metadata
    (frame,) = a_clip(SIZES["480p"], frames=1)
    frame = np.repeat(frame[None], metadata.channels, 0)
    runner = CudaRunner(device, engine, metadata.halo_px, computing=computing)
    tiled = restored(runner, frame)
    found: Metadata = {}
    try:
        from edgecar.engines.onnxruntime import OnnxRuntimeEngine

        reference = OnnxRuntimeEngine(artifact)
    except EngineError as error:
        found["not_compared_with_cpu"] = str(error)
    else:
        with reference:
            tiles = ReferenceTiles(device, reference, engine.shape)
            wanted = restored(CudaRunner(device, tiles, metadata.halo_px), frame)
        found |= difference(tiled, wanted, metadata.precision, "the CPU's")
    if metadata.context == "local" and engine.info.name == "onnxruntime:cuda":
        size = aligned_size((frame.shape[1], frame.shape[2]), metadata.align_px)
        whole = OnnxRuntimeTiles(artifact, (1, *size), device.handle(computing))
        runner = CudaRunner(device, whole, metadata.halo_px, computing=computing)
        at_once = restored(runner, frame)
        differs = difference(tiled, at_once, metadata.precision, "the whole frame's")
        found["max_code_difference_to_whole"] = differs["max_code_difference"]
    return found


def difference(got: Any, wanted: Any, precision: Precision, whose: str) -> Metadata:
    """How far two outputs are apart."""
    codes = np.abs(np.asarray(got).astype(int) - wanted)
    largest, share = int(codes.max()), float((codes <= 1).mean())
    found = {"max_code_difference": largest, "within_one_code": share}
    if precision in MOST_CODES:
        most = MOST_CODES[precision]
        check(largest <= most, f"{precision}: {largest} codes from {whose}, at most {most} allowed")
    else:
        check(
            share >= INT8_SHARE,
            f"{precision}: {share:.2%} of pixels within a code of {whose}, need {INT8_SHARE:.0%}",
        )
    return found


def same_bytes(bench: Bench, engine: TileEngine, halo_px: int, computing: Any) -> None:
    """Reuse, on and off, gives the same bytes."""
    clip = [np.repeat(f[None], engine.channels, 0) for f in a_clip(SIZES["480p"], frames=4)]
    outputs = set()
    for reuse in (True, False):
        runner = CudaRunner(bench.device, engine, halo_px, reuse=reuse, computing=computing)
        outputs.add(b"".join(restored(runner, frame).tobytes() for frame in clip + clip))
        runner.close()
    check(len(outputs) == 1, "reuse changes the bytes")


def ceilings_part(bench: Bench, name: str, precision: Precision) -> Metadata:
    """Ceilings of this GPU: bytes of a copy, and arithmetic of wide convolutions."""
    from benchmarks.run.gpu_ceilings import WIDE_BATCH, WIDE_TILE, wide_network
    from edgecar.bench.predict import work_of_tile

    artifact = wide_network(precision)
    computing = bench.device.stream()
    shape = (min(WIDE_BATCH, bench.target.batch), *WIDE_TILE)
    engine, _ = open_tiles(bench, name, artifact, shape, computing)
    with engine:
        sizes = 4 * engine.values, 4 * shape[0], 4 * engine.values
        given, told, made = (bench.device.memory(size) for size in sizes)

        def run() -> None:
            engine.enqueue(given.address, told.address, made.address, computing)

        seconds = bench.timed(run, computing)
    macs = shape[0] * work_of_tile(artifact, WIDE_TILE).macs
    found = {"engine": name, "precision": precision, "tera_ops": 2 * macs / seconds / 1e12}
    bench.ceilings[name, precision] = {**found, "copy_gb_s": copy_speed(bench)}
    return bench.ceilings[name, precision]


def with_floor(metadata: Metadata, ceilings: Metadata, artifact: "Artifact") -> Metadata:
    """The metadata of a network with what its bytes and operations would take at the ceilings.

    Of each convolution the input is read and the output written once (`edgecar.bench.predict`).
    """
    from edgecar.bench.predict import work_of_tile

    tile, network = metadata["tile"], artifact.metadata
    work = work_of_tile(artifact, tile)
    item = {"fp32": 4, "fp16": 2, "int8": 1}[network.precision]
    found = dict(metadata)
    for label in SIZES:
        if label not in metadata:
            continue
        halo = {"halo_px": network.halo_px, "align_px": network.align_px}
        tiles = len(plan_grid(SIZES[label], tile, **halo))
        arithmetic = tiles * 2 * work.macs / (ceilings["tera_ops"] * 1e12)
        memory = tiles * work.values * item / (ceilings["copy_gb_s"] * 1e9)
        floor_ms = max(arithmetic, memory) * 1000
        row = metadata[label]
        found[label] = {
            **row,
            "floor_ms": floor_ms,
            "bound_by": "arithmetic" if arithmetic > memory else "memory",
            "engine_to_floor": row["engine_ms"] / floor_ms,
        }
    return found


def network_parts(bench: Bench) -> dict[str, Part]:
    """Every engine, precision and network, by name; ceilings first, which floors need."""
    found: dict[str, Part] = {}
    for engine in ENGINES:
        for precision in PRECISIONS:
            found[f"ceilings {engine} {precision}"] = partial(
                ceilings_part, bench, engine, precision
            )
            for network in NETWORKS:
                found[f"{engine} {network} {precision}"] = partial(
                    network_part, bench, engine, network, precision
                )
    return found
