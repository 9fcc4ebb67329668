"""The content of a report: words, tables, curves and sample frames of a study."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgecar.bench.results import Results, Row
from edgecar.evaluate.detection import CODED
from edgecar.evaluate.sample_frames import Kind, SampleFrame, SampleFrames
from edgecar.evaluate.tables import (
    BD_INTRO,
    DETECTION_INTRO,
    JPEG_INTRO,
    QUANTISERS,
    VARIANTS_INTRO,
    VIDEO_CODECS,
    VIDEO_INTRO,
    bd_cells,
    detection_cells,
    detection_settings,
    jpeg_cells,
    variants_tables,
    video_cells,
)
from edgecar.report.curves import Panel, gain_panels_of, panels_of
from edgecar.report.verdict import Verdict, headline, verdicts

FIRST_OF_HEVC = "BD-rate in %, over x265 with its filters"
NUMBER = re.compile(r"[-+–]?\d|–$")


@dataclass(frozen=True)
class Table:
    """A table with the cells that the terminal prints.

    Attributes:
        title: Caption.
        header: Names of the columns.
        lines: Rows of cells.
        folded: True if the page shows it closed at first.
    """

    title: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    folded: bool = False

    def is_number(self, column: int) -> bool:
        """Return True if every cell of a column is a number or a dash."""
        return all(NUMBER.match(line[column]) for line in self.lines)


@dataclass(frozen=True)
class Report:
    """A study, ready to be written.

    Attributes:
        title: Subject of the study.
        headline: The answer in one sentence: does cleaning pay?
        verdicts: One for each network.
        tables: The most telling first.
        intros: Paragraphs on the method; backticks mean code and asterisks emphasis.
        panels: Curves; empty where there is one quantiser.
        gain_panels: The same curves as gains over the coded clip; empty for detections.
        best: Frames with most gain.
        worst: Frames with least gain.
        notes: A sentence for each network without a frame.
        results: Rows and their provenance.
    """

    title: str
    headline: str
    verdicts: Sequence[Verdict]
    tables: Sequence[Table]
    intros: Sequence[str]
    panels: Sequence[Panel]
    gain_panels: Sequence[Panel]
    best: Sequence[SampleFrame]
    worst: Sequence[SampleFrame]
    notes: Sequence[str]
    results: Results

    @property
    def study(self) -> str:
        """Codec of the clips, or ``jpeg``."""
        return _study(self.results)

    @property
    def samples(self) -> list[tuple[SampleFrame, Kind]]:
        """All sample frames and the list that each is from, the best first."""
        best: list[tuple[SampleFrame, Kind]] = [(sample, "best") for sample in self.best]
        return [*best, *((sample, "worst") for sample in self.worst)]


def report_of(results: Results, sample_frames: SampleFrames | None = None) -> Report:
    """Compose the report of a study.

    Args:
        results: Results of kind ``jpeg``, ``video``, ``variants`` or ``detection`` with at least
            one row.
        sample_frames: Frames kept while measuring.
    """
    kind, rows = results.kind, results.rows
    found = verdicts(kind, rows)
    best = sample_frames.best() if sample_frames else []
    worst = sample_frames.worst() if sample_frames else []
    return Report(
        title=_title(results),
        headline=headline(found, kind),
        verdicts=found,
        tables=_tables(kind, rows),
        intros=_intros(kind, rows),
        panels=panels_of(kind, rows),
        gain_panels=gain_panels_of(kind, rows),
        best=best,
        worst=worst,
        notes=_without_frames(results, {sample.subject.network for sample in [*best, *worst]}),
        results=results,
    )


def _study(results: Results) -> str:
    return "jpeg" if results.kind == "jpeg" else str(results.rows[0]["codec"])


def _title(results: Results) -> str:
    rows, study = results.rows, _study(results)
    if study == "jpeg":
        return f"JPEG: what cleaning gains on {rows[0]['set']}"
    clips = list(dict.fromkeys(row["clip"] for row in rows))
    on = clips[0] if len(clips) == 1 else f"{len(clips)} clips"
    if results.kind == "detection":
        detector = rows[0]["detector"]
        return f"{VIDEO_CODECS[study]}: what {detector} finds on {on}, coded and cleaned"
    return f"{VIDEO_CODECS[study]}: what cleaning gains on {on}"


def _tables(kind: str, rows: Sequence[Row]) -> list[Table]:
    if kind == "jpeg":
        sets = dict.fromkeys(row["set"] for row in rows)
        return [Table(name, *jpeg_cells([("this run", rows)], name)) for name in sets]
    if kind == "detection":
        settings = detection_settings(rows)
        return [Table(title, *detection_cells(own)) for title, own in settings.items()]
    codec = rows[0]["codec"]
    every = Table("Every input", *input_cells(rows), folded=True)
    if kind == "video":
        title = f"{VIDEO_CODECS[codec]}: gain over the coded clips, dB of luma PSNR"
        return [Table(title, *video_cells(rows, codec)), every]
    tables = [Table(title, *cells) for title, cells in variants_tables(rows).items()]
    if codec == "hevc":
        tables.append(Table(FIRST_OF_HEVC, *bd_cells(rows)))
    return [*tables, every]


def _intros(kind: str, rows: Sequence[Row]) -> list[str]:
    if kind == "variants":
        return [VARIANTS_INTRO if rows[0]["codec"] == "h264" else BD_INTRO]
    return [{"jpeg": JPEG_INTRO, "video": VIDEO_INTRO, "detection": DETECTION_INTRO}[kind]]


def _without_frames(results: Results, shown: set[str]) -> list[str]:
    """Say of each network without a frame why it has none."""
    networks = dict.fromkeys(row["network"] for row in results.rows)
    why = "none of its frames was kept"
    if results.kind == "detection":
        why = (
            "as many mistakes on every frame as before cleaning, with detections from a score of "
            f"{results.rows[0]['confidence']:g}; mAP counts less sure ones, too"
        )
    return [f"{name}: {why}." for name in networks if name not in shown and name != CODED]


def input_cells(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return header and cells of a table with a line for every clip, coding and network.

    Args:
        rows: ``video`` or ``variants`` rows of one codec.
    """
    word = QUANTISERS[rows[0]["codec"]]
    varied = "structure" in rows[0]
    header = (
        *("Clip", word, *(["Coding"] if varied else []), "kbit/s", "Network", "Coded dB"),
        *("Restored dB", "Gain dB", "SSIM gain", *([] if varied else ["Worst frame dB"])),
    )
    lines = [
        [
            row["clip"],
            str(row["quantiser"]),
            *([_coding(row)] if varied else []),
            f"{row['kbps']:.0f}",
            row["network"],
            f"{row['psnr_in']:.2f}",
            f"{row['psnr_out']:.2f}",
            f"{row['psnr_out'] - row['psnr_in']:+.2f}",
            f"{row['ssim_out'] - row['ssim_in']:+.4f}",
            *([] if varied else [f"{row['worst_frame_gain_db']:+.2f}"]),
        ]
        for row in rows
    ]
    return header, lines


def _coding(row: Row) -> str:
    """Describe the coding of a row of variants, besides the quantiser."""
    limit = row["limit_mbps"]
    words = row["structure"] if limit is None else f"limit {limit:g} Mb/s"
    return words if row["in_loop_filters"] else f"{words}, no filters"
