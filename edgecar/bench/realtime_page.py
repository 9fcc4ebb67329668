"""The table of the real-time benchmark."""

from collections.abc import Sequence

from edgecar.bench.results import Row

REALTIME_INTRO = """\
Clips coded again with x264 go through edgecar (*reuse*: only what changed is computed; *dense*:
every frame in full; both from file to null, decoding included), through the *bare* engine on whole
frames that lie ready as floats, and through FFmpeg's post-filters on the same file with as many
threads (decoding included; they filter chroma, too). All take turns, after reuse went through 1,000
frames: engines compile shapes that keep coming back. Figures are frames a second, medians over the
rounds; ratios are medians of those inside a round. *Changed* is the mean share of 64-px tiles in
which luma differs from the frame before, *computed* what reuse reads, halos included, over all
pixels. The outputs with reuse and without are the same bytes: every frame was
compared, and there is no row where one differed."""

HEADER = (
    *(
        "Clip",
        "Coding",
        "Changed",
        "Computed",
        "reuse",
        "dense",
        "bare",
        "spp=3",
        "spp=4",
        "fspp=4",
    ),
    *("reuse / dense", "reuse / bare", "reuse / spp=3"),
)


def realtime_cells(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and cells, a line a case; the quietest clip first, its codings together.

    Args:
        rows: Of a ``realtime`` result file.
    """
    quietest: dict[str, float] = {}
    for row in rows:
        share = row["changed_tiles_share"]
        quietest[row["clip"]] = min(share, quietest.get(row["clip"], share))
    ordered = sorted(rows, key=lambda row: (quietest[row["clip"]], row["clip"]))
    return HEADER, [_cells(row) for row in ordered]


def realtime_settings(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by what they share, in words: network, arithmetic, engine, threads."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        setting = (
            f"{row['network']} in {row['precision']} on {row['provider']}, "
            f"{row['threads']} thread(s):"
        )
        found.setdefault(setting, []).append(row)
    return found


def _cells(row: Row) -> list[str]:
    return [
        f"{row['clip']}, {row['width']}×{row['height']}",
        f"{row['preset']}, CRF {row['crf']}, B {row['b_frames']}, GOP {row['gop']}",
        *(f"{row[key]:.0%}" for key in ("changed_tiles_share", "computed_share")),
        *(_number(row[f"fps_{name}"], 1) for name in ("reuse", "dense", "bare")),
        *(_number(row[f"fps_{name}"], 1) for name in ("spp3", "spp4", "fspp4")),
        *(_number(row[f"reuse_to_{name}"], 2) for name in ("dense", "bare", "spp3")),
    ]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
