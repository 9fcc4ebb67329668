"""The table of what an object detector finds in coded and restored clips."""

from collections.abc import Iterable, Sequence

from edgecar.bench.gains import QUANTISERS
from edgecar.bench.results import Row

DETECTION_INTRO = """\
What a detector finds on the source is the truth, as in the CAR-CNN paper; it is asked again on the
coded clip and on what is made of it. mAP is that of COCO (pycocotools), the mean over classes,
times 100: at IoU 0.50, and over 0.50 to 0.95. Differences are to the coded clip and to FFmpeg's
`spp`; in brackets 95 % intervals of 1000 resamples of the frames, neighbours drawn together: one
that holds 0 says that nothing is shown."""
NONE = "–"


def detection_settings(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by the line that stands over their table: detector, truth and coder."""
    by_setting: dict[str, list[Row]] = {}
    for row in rows:
        line = (
            f"{row['codec']}; detector {row['detector']} ({row['head']}), objects from a score of "
            f"{row['confidence']:g}, classes from {row['least_boxes']} of them:"
        )
        by_setting.setdefault(line, []).append(row)
    return by_setting


def detection_cells(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and cells of one setting, a line for each clip, quantiser and network."""
    header = (
        *("Clip", "Frames", "Objects", "At", "kbit/s", "Network", "mAP50", "over coded"),
        *("over spp", "mAP50-95", "over coded", "over spp", "mAP50 by class"),
    )
    return header, [
        [
            row["clip"],
            str(row["frames"]),
            str(row["boxes"]),
            f"{QUANTISERS[row['codec']]} {row['quantiser']}",
            f"{row['kbps']:.0f}",
            row["network"],
            f"{100 * row['map50']:.1f}",
            _difference(row, "over_coded50"),
            _difference(row, "over_spp50"),
            f"{100 * row['map']:.1f}",
            _difference(row, "over_coded"),
            _difference(row, "over_spp"),
            ", ".join(f"{entry['name']} {100 * entry['map50']:.1f}" for entry in row["classes"]),
        ]
        for row in rows
    ]


def _difference(row: Row, key: str) -> str:
    if row[key] is None:
        return NONE
    low, high = (f"{100 * value:+.1f}" for value in row[f"{key}_interval"])
    return f"{100 * row[key]:+.1f} [{low}, {high}]"
