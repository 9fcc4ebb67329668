"""The text of ``benchmarks/README.md``, made from result files and the manifest of weights."""

from collections.abc import Callable, Iterable, Sequence

from edgecar.bench.batch_page import BATCH_INTRO, batch_cells
from edgecar.bench.design_page import DESIGN_INTRO, design_cells
from edgecar.bench.detection_page import DETECTION_INTRO, detection_cells, detection_settings
from edgecar.bench.gains import video_cells
from edgecar.bench.gpu_page import GPU_INTRO, NONE_MEASURED, gpu_cells
from edgecar.bench.iqa_page import IQA_INTRO, detail_cells, table_2_cells
from edgecar.bench.jpeg_page import JPEG_INTRO, jpeg_cells
from edgecar.bench.live_page import LIVE_INTRO, live_cells
from edgecar.bench.markdown import markdown, number, provenance
from edgecar.bench.overhead_page import OVERHEAD_INTRO, overhead_cells
from edgecar.bench.precision_page import (
    INT8_INTRO,
    PRECISION_INTRO,
    TITLES,
    int8_cells,
    precision_cells,
    precision_settings,
)
from edgecar.bench.published import (
    PublishedComplexity,
    published_rows,
    tflops_as_printed,
)
from edgecar.bench.realtime_page import REALTIME_INTRO, realtime_cells, realtime_settings
from edgecar.bench.results import Results, Row
from edgecar.bench.service_page import CHECKS_INTRO, SERVICE_INTRO, check_cells, service_cells
from edgecar.bench.variants_page import BD_INTRO, VARIANTS_INTRO, bd_cells, variants_tables
from edgecar.bench.weights_page import (
    WEIGHTS_INTRO,
    Entry,
    jpeg_weights_cells,
    video_weights_cells,
)

MARKER = "<!-- Generated from benchmarks/results/*.json by `make tables`. Do not edit. -->"
NOTHING_MEASURED = "Nothing measured yet: `edgecar bench --help` says how."
NO_GPU = "Not measured on a GPU."
GPU_WORDS = ("cuda", "tensorrt", "gpu")

COMPLEXITY_INTRO = """\
Every figure is counted, none measured. *Memory* and *TFLOPS* follow the convention of the papers,
so that they can be compared with the printed values beside them: memory is float32 input,
parameters and twice the output of every layer (the second time for the backward pass), in units of
2^20 bytes; TFLOPS are multiply-accumulates at 30 frames/s, a transposed convolution counted as a
full kernel at output resolution. Neither is what inference needs: *GMAC* and *kMAC/px* are the
multiply-accumulates truly done for a frame and for a pixel, and the speed table has the measured
memory."""

SPEED_INTRO = """\
Median and 95th percentile of the time for one frame. *Peak* is the measured memory of inference,
in units of 2^20 bytes."""

VIDEO_INTRO = """\
Clips are coded again, H.264 with x264 and HEVC with x265 (preset medium, key frames at most 60
apart), and restored frame by frame. The first line is the coded video against its source: luma PSNR
in dB and SSIM (Gaussian window, at most 10 frames of a clip), means over the frames of a clip and
then over the clips. The other lines are gains over it. An input is a clip at a CRF or QP; *lowest*
is the smallest PSNR gain of an input. `spp` and `fspp` are FFmpeg's post-filters, at the strength
that suits these clips best at each CRF or QP."""
VIDEO_CODECS = {"h264": "H.264", "hevc": "HEVC"}

Named = tuple[str, Results]
TableOf = Callable[[Sequence[Row]], tuple[tuple[str, ...], list[list[str]]]]


def readme(results: Sequence[Named], weights: Sequence[Entry] = ()) -> str:
    """The text of ``benchmarks/README.md``.

    Args:
        results: Stem of each result file and what is in it, in the order to print.
        weights: Entries of the manifest.
    """

    def of(kind: str) -> list[Named]:
        return [(name, result) for name, result in results if result.kind == kind]

    return (
        "\n\n".join(
            [
                MARKER,
                "# Benchmarks",
                "## Complexity",
                COMPLEXITY_INTRO,
                *_complexity_section(of("bench")),
                "## Speed",
                SPEED_INTRO,
                *_speed_section(of("bench")),
                "## On GPUs",
                GPU_INTRO,
                *(_study_section(of("gpu"), gpu_cells, "") if of("gpu") else [NONE_MEASURED]),
                "## Precisions",
                PRECISION_INTRO,
                *_precision_section(of("precision")),
                "### INT8 by every arithmetic",
                INT8_INTRO,
                *_study_section(of("int8"), int8_cells, "benchmarks.run.precision"),
                "## What the runtime adds",
                OVERHEAD_INTRO,
                *_study_section(of("overhead"), overhead_cells, "benchmarks.run.overhead"),
                "## Video in real time",
                REALTIME_INTRO,
                *_realtime_section(of("realtime")),
                "## Live streams",
                LIVE_INTRO,
                *_study_section(of("live"), live_cells, "benchmarks.run.soak"),
                "## Service",
                SERVICE_INTRO,
                *_study_section(of("service"), service_cells, "benchmarks.run.service"),
                CHECKS_INTRO,
                *_study_section(of("service-checks"), check_cells, "benchmarks.run.service_checks"),
                "## Archives",
                BATCH_INTRO,
                *_study_section(of("batch"), batch_cells, "benchmarks.run.batch"),
                "## Weights that ship",
                WEIGHTS_INTRO,
                *_weights_section(weights),
                "## JPEG quality",
                JPEG_INTRO,
                *_jpeg_section(of("jpeg")),
                "## Video quality",
                VIDEO_INTRO,
                *_video_section(of("video")),
                "## Variants of the papers",
                *_variants_section(of("variants")),
                "## Object detection",
                DETECTION_INTRO,
                *_detection_section(of("detection")),
                "## Scores of quality",
                IQA_INTRO,
                *_iqa_section(of("iqa")),
                "## Choice of shapes",
                DESIGN_INTRO,
                *_design_section(of("design")),
            ]
        ).rstrip()
        + "\n"
    )


def _complexity_section(benches: Sequence[Named]) -> list[str]:
    counted = {_key(row): row for _, result in benches for row in result.rows if row["params"]}
    printed = {(row.network, row.channels, row.height, row.width): row for row in published_rows()}
    header = (
        *("Network", "Input", "Parameters", "printed", "Memory MB", "printed"),
        *("TFLOPS", "printed", "GMAC", "kMAC/px"),
    )
    keys = [*printed, *(key for key in counted if key not in printed)]
    return [markdown(header, [_complexity_cells(k, counted.get(k), printed.get(k)) for k in keys])]


def _key(row: Row) -> tuple[str, int, int, int]:
    return row["network"], row["channels"], row["height"], row["width"]


def _complexity_cells(
    key: tuple[str, int, int, int], ours: Row | None, theirs: PublishedComplexity | None
) -> list[str]:
    network, channels, height, width = key
    printed = ("–", "–", "–")
    if theirs is not None:
        printed = (f"{theirs.params:,}", f"{theirs.memory_mb:.2f}", number(theirs.tflops, 2))
    counted = ("–",) * 5
    if ours is not None:
        counted = (
            f"{ours['params']:,}",
            f"{ours['published_memory_mb']:.2f}",
            _tflops(ours["published_tflops"]),
            number(ours["gmacs"], 3),
            number(ours["gmacs"] * 1e6 / (height * width), 1),
        )
    pairs = [cell for pair in zip(counted, printed, strict=False) for cell in pair]
    return [network, f"{width}×{height} {_colour(channels)}", *pairs, *counted[3:]]


def _tflops(value: float) -> str:
    """As the papers print it, unless that would leave no digit of a small network."""
    return tflops_as_printed(value) if value >= 0.1 else number(value, 4)


def _colour(channels: int) -> str:
    return "luma" if channels == 1 else "RGB"


def _speed_section(benches: Sequence[Named]) -> list[str]:
    parts: list[str] = []
    gpu = False
    for name, result in benches:
        timed = timed_rows(result.rows)
        if not timed:
            continue
        gpu = gpu or any(map(on_gpu, timed))
        picture = f"![Frames per second, {name}]({name}.png)"
        parts += [f"### {name}", provenance(result), markdown(*_speed_table(timed)), picture]
    return [*(parts or [NOTHING_MEASURED]), *([] if gpu else [NO_GPU])]


def timed_rows(rows: Iterable[Row]) -> list[Row]:
    """The rows with times, not only counted."""
    return [row for row in rows if row["fps"] is not None]


def on_gpu(row: Row) -> bool:
    """Whether a timed row ran on a GPU, from the names of its engine and provider.

    Example:
        >>> on_gpu({"engine": "onnxruntime:cuda", "provider": "ONNX Runtime 1.31.1 CUDA"})
        True
    """
    ran_on = f"{row['engine']} {row['provider']}".lower()
    return any(word in ran_on for word in GPU_WORDS)


def _speed_table(rows: Iterable[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    header = (
        *("Network", "Input", "Engine", "Provider", "Precision"),
        *("p50 ms", "p95 ms", "frames/s", "Peak MB", "Memory MB (papers)"),
    )
    return header, [speed_cells(row) for row in rows]


def speed_cells(row: Row) -> list[str]:
    """Cells of one row of the speed table; dashes for what was not measured."""
    return [
        row["network"],
        f"{row['width']}×{row['height']} {_colour(row['channels'])}",
        *(row[key] or "–" for key in ("engine", "provider", "precision")),
        number(row["p50_ms"], 2),
        number(row["p95_ms"], 2),
        number(row["fps"], 1),
        number(row["peak_mb"], 0),
        number(row["published_memory_mb"], 2),
    ]


def _realtime_section(studies: Sequence[Named]) -> list[str]:
    parts: list[str] = []
    for name, study in studies:
        for setting, rows in realtime_settings(study.rows).items():
            parts += [setting, markdown(*realtime_cells(rows))]
        parts.append(f"{name}: {provenance(study)}")
    return parts or ["Nothing measured yet: `python -m benchmarks.run.realtime --help` says how."]


def _precision_section(studies: Sequence[Named]) -> list[str]:
    parts: list[str] = []
    for name, study in studies:
        for coder in precision_settings(study.rows):
            table = markdown(*precision_cells(study.rows, coder))
            size = f"{study.rows[0]['width']}×{study.rows[0]['height']}"
            parts += [f"### {TITLES[coder]}, {size}, {study.rows[0]['provider']}", table]
        parts.append(f"{name}: {provenance(study)}")
    return parts or ["Nothing measured yet: `python -m benchmarks.run.precision --help` says how."]


def _weights_section(entries: Sequence[Entry]) -> list[str]:
    parts = ["### JPEG, quality 10 to 40", markdown(*jpeg_weights_cells(entries))]
    for codec, title in VIDEO_CODECS.items():
        parts += [f"### {title}", markdown(*video_weights_cells(entries, codec))]
    return parts


def _jpeg_section(studies: Sequence[Named]) -> list[str]:
    named = [(name, study.rows) for name, study in studies]
    parts: list[str] = []
    for set_name in dict.fromkeys(row["set"] for _, rows in named for row in rows):
        parts += [f"### {set_name}", markdown(*jpeg_cells(named, set_name))]
    parts += [f"{name}: {provenance(study)}" for name, study in studies]
    return parts or ["Nothing measured yet: `edgecar eval --help` says how."]


def _video_section(studies: Sequence[Named]) -> list[str]:
    """A table per codec and file: means over different clips do not compare."""
    parts: list[str] = []
    for codec, title in VIDEO_CODECS.items():
        for name, study in studies:
            if any(row["codec"] == codec for row in study.rows):
                table = markdown(*video_cells(study.rows, codec))
                parts += [f"### {title}, {name}", table, provenance(study)]
    return parts or ["Nothing measured yet: `edgecar eval h264 --help` says how."]


def _variants_section(studies: Sequence[Named]) -> list[str]:
    parts: list[str] = []
    for name, study in studies:
        for title, cells in variants_tables(study.rows).items():
            parts += [f"### {title}", markdown(*cells)]
        if any(row["codec"] == "hevc" for row in study.rows):
            parts += ["### BD-rate, %", markdown(*bd_cells(study.rows))]
        parts.append(f"{name}: {provenance(study)}")
    intros = [VARIANTS_INTRO, BD_INTRO]
    return [
        *intros,
        *(parts or ["Nothing measured yet: `edgecar eval h264 --variants` measures them."]),
    ]


def _detection_section(studies: Sequence[Named]) -> list[str]:
    parts: list[str] = []
    for name, study in studies:
        for setting, rows in detection_settings(study.rows).items():
            parts += [setting, markdown(*detection_cells(rows))]
        parts.append(f"{name}: {provenance(study)}")
    return parts or ["Nothing measured yet: `edgecar eval detect --help` says how."]


def _iqa_section(studies: Sequence[Named]) -> list[str]:
    if not studies:
        return ["Nothing measured yet: `python -m benchmarks.run.iqa_study --help` says how."]
    rows = [row for _, study in studies for row in study.rows]
    parts = [markdown(*table_2_cells(rows)), markdown(*detail_cells(rows))]
    return [*parts, *(f"{name}: {provenance(study)}" for name, study in studies)]


def _design_section(studies: Sequence[Named]) -> list[str]:
    """One table: candidates of one size may have been trained in several runs."""
    if not studies:
        return ["Nothing measured yet: `python -m benchmarks.run.design_study --help` says how."]
    rows = [row for _, study in studies for row in study.rows]
    return [
        markdown(*design_cells(rows)),
        *(f"{name}: {provenance(study)}" for name, study in studies),
    ]


def _study_section(studies: Sequence[Named], cells: TableOf, module: str) -> list[str]:
    """A table per file."""
    parts: list[str] = []
    for name, study in studies:
        parts += [markdown(*cells(study.rows)), f"{name}: {provenance(study)}"]
    return parts or [f"Nothing measured yet: `python -m {module} --help` says how."]
