"""Tables of deep multi-scale IQA: rows of the paper's table 2, ours beside the printed ones."""

from collections.abc import Iterable, Sequence

from edgecar.bench.published_iqa import DATA_BASES, PUBLISHED_IQA
from edgecar.bench.results import Row

IQA_INTRO = """\
How well scores of pictures are predicted, in rank (SRCC) and, after a four-parameter logistic, in
value (PLCC). Ours learned and are measured with a **full-reference proxy**, because no opinion
scores are at hand: 100 × the mean of MS-SSIM and VIF. The columns of the paper are with opinions of
people, on other pictures: the order of the rows compares, the figures do not. References are
photographs that were never trained on; the pictures made of them are JPEG, H.264 and HEVC, what
networks make of those (edgecar-m among them, which restored none that was trained on), blur and
noise. The four rows were trained alike for one epoch; *ships* is the network of the last one after
five, with narrower fully connected layers than the paper's, as have all of ours. *Same verdict* is
the share of restored pictures of which prediction and proxy say alike whether restoring made them
better or worse. Where the paper does not say so, a single stream and *direct concat* are taken
without spatial and feature pyramid."""
NONE = "–"


def table_2_cells(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """SRCC / PLCC by row of the paper and by set, ours first, then printed."""
    sets = list(dict.fromkeys(row["set"] for row in rows))
    found = {(row["method"], row["set"]): row for row in rows}
    methods = dict.fromkeys([*PUBLISHED_IQA, *(row["method"] for row in rows)])
    header = (
        "Row",
        *(f"{name} (proxy)" for name in sets),
        *(f"{name} (paper, opinions)" for name in DATA_BASES),
    )
    lines = []
    for method in methods:
        ours = [found.get((method, name)) for name in sets]
        if not any(ours):
            continue
        printed = PUBLISHED_IQA.get(method)
        lines.append(
            [
                method,
                *(_both(row["srcc"], row["plcc"]) if row else NONE for row in ours),
                *([_both(*pair) for pair in printed] if printed else [NONE] * len(DATA_BASES)),
            ]
        )
    return header, lines


def detail_cells(rows: Iterable[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Sizes, training and measured pictures of every network of a file."""
    header = (
        *("Row", "Streams", "Pyramids", "Fully connected", "Parameters", "Optimiser", "Epochs"),
        *("Steps", "Set", "References", "Pictures", "SRCC", "PLCC", "Same verdict"),
    )
    return header, [
        [
            row["method"],
            row["streams"] or NONE,
            NONE if row["multi_scale"] is None else "yes" if row["multi_scale"] else "no",
            ", ".join(map(str, row["fully_connected"])) if row["fully_connected"] else NONE,
            NONE if row["params"] is None else f"{row['params']:,}",
            row["optimiser"] or NONE,
            NONE if row["epochs"] is None else f"{row['epochs']:g}",
            NONE if row["steps"] is None else f"{row['steps']:,}",
            row["set"],
            str(row["references"]),
            str(row["pictures"]),
            f"{row['srcc']:.3f}",
            f"{row['plcc']:.3f}",
            NONE if row["same_verdict"] is None else f"{100 * row['same_verdict']:.1f} %",
        ]
        for row in rows
    ]


def _both(srcc: float, plcc: float) -> str:
    return f"{srcc:.3f} / {plcc:.3f}"
