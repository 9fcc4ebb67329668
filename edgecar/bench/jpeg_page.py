"""The table of JPEG quality, beside published rows."""

from collections.abc import Iterable, Sequence

from edgecar.bench.markdown import number
from edgecar.bench.published import published_quality
from edgecar.bench.results import Row

JPEG_INTRO = """\
Means over each set, luma, output rounded to 8 bits, no border cut off. Colour pictures become luma
`16 + (65.481 R + 128.553 G + 24.966 B) / 255`, are rounded, and are coded as grey pictures. *Gain*
is over the coded picture of the same source. SSIM has the uniform 7×7 window that reproduces the
printed values on Classic5; PSNR-B is that of Yim and Bovik with 8×8 blocks."""


def jpeg_cells(
    studies: Sequence[tuple[str, Sequence[Row]]], set_name: str
) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and cells of one set's quality table, published rows of the same set included.

    Args:
        studies: Name and ``jpeg`` rows of each study.
        set_name: Which set.
    """
    lines = [line for name, rows in studies for line in _measured(name, rows, set_name)]
    qualities = {quality for quality, *_ in lines}
    lines += [
        (row.quality, row.network, row.psnr, row.ssim, row.psnr_b, row.source)
        for row in published_quality(set_name)
        if row.quality in qualities
    ]
    return _jpeg_table(lines)


QualityLine = tuple[int, str, float, float | None, float | None, str]


def _measured(name: str, rows: Iterable[Row], set_name: str) -> list[QualityLine]:
    """Lines of one file; the coded picture, which all networks share, once for each quality."""
    source = f"measured, {name}"
    lines: dict[QualityLine, None] = {}
    for row in rows:
        if row["set"] == set_name:
            quality, network = row["quality"], row["network"]
            before = (row["psnr_in"], row["ssim_in"], row["psnrb_in"])
            after = (row["psnr_out"], row["ssim_out"], row["psnrb_out"])
            for line in ((quality, "jpeg", *before, source), (quality, network, *after, source)):
                lines[line] = None
    return list(lines)


def _jpeg_table(lines: Iterable[QualityLine]) -> tuple[tuple[str, ...], list[list[str]]]:
    header = ("Quality", "Network", "PSNR dB", "Gain dB", "SSIM", "PSNR-B dB", "Source")
    ordered = sorted(lines, key=lambda line: (line[0], line[2]))
    coded = {(line[0], line[5]): line[2] for line in ordered if line[1] == "jpeg"}
    cells = []
    for quality, network, psnr, ssim, psnr_b, source in ordered:
        before = coded.get((quality, source))
        gain = "–" if before is None or network == "jpeg" else f"{psnr - before:+.2f}"
        measures = [number(psnr, 2), gain, number(ssim, 3), number(psnr_b, 2)]
        cells.append([str(quality), network, *measures, source])
    return header, cells
