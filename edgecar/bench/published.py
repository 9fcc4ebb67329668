"""Figures printed in papers, as data: what our own tables stand beside.

Nothing here is measured by edgecar.
"""

from dataclasses import dataclass

MSFAN = "Kim and Jun, CMC 2022"
LECTURE = "lecture “AI-Based Artifact Removal”"
IDCN = "IDCN, IEEE TCSVT 2019"
QUOTED = "as quoted by later papers"

FRAME_RATE = 30  # of the "TFLOPS" column


@dataclass(frozen=True)
class PublishedComplexity:
    """One printed row of network cost.

    Attributes:
        network: Name in the zoo; ``dcsc`` is not there, its layout cannot be told from the text.
        channels: 1 luma, 3 RGB.
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        params: Trainable scalars.
        memory_mb: Both passes of training plus parameters, in units of 2^20 bytes.
        tflops: Multiply-accumulates at 30 frames/s, in 1e12 a second; None where not printed.
        source: Where it is printed.
    """

    network: str
    channels: int
    height: int
    width: int
    params: int
    memory_mb: float
    tflops: float | None
    source: str


@dataclass(frozen=True)
class PublishedQuality:
    """One printed row of picture quality.

    Attributes:
        network: Name in the zoo, or ``jpeg`` for the coded picture itself.
        set_name: Test set.
        quality: JPEG quality.
        psnr: In dB.
        ssim: None where not printed; the window differs between sources.
        psnr_b: In dB; None where not printed.
        source: Where it is printed.
    """

    network: str
    set_name: str
    quality: int
    psnr: float
    ssim: float | None
    psnr_b: float | None
    source: str


def published_rows() -> tuple[PublishedComplexity, ...]:
    """The printed table of network cost."""
    return _COMPLEXITY


def published_quality(set_name: str | None = None) -> tuple[PublishedQuality, ...]:
    """The printed tables of picture quality.

    Args:
        set_name: Only this set, in any case of letters; all sets if None.

    Example:
        >>> [row.network for row in published_quality("classic5") if row.quality == 10]
        ['jpeg', 'arcnn', 'dncnn', 'dcsc', 'msfan']
    """
    wanted = None if set_name is None else set_name.lower()
    return tuple(row for row in _QUALITY if wanted in (None, row.set_name.lower()))


def tflops_as_printed(tflops: float) -> str:
    """TFLOPS at 30 frames/s to two decimals, the way the printed column was made.

    Its GMAC a frame were rounded to two decimals first: 3.255027 for ARCNN at 720p is 108.50 GMAC,
    hence 3.255 and, as no binary fraction is quite that much, the printed 3.25.

    Example:
        >>> tflops_as_printed(3.255027), tflops_as_printed(2.056534)
        ('3.25', '2.06')
    """
    gmacs = round(tflops * 1000 / FRAME_RATE, 2)
    return f"{gmacs * FRAME_RATE / 1000:.2f}"


_COMPLEXITY = (
    PublishedComplexity("arcnn", 3, 480, 720, 117_734, 602.94, 1.22, LECTURE),
    PublishedComplexity("arcnn", 3, 720, 1280, 117_734, 1607.09, 3.25, LECTURE),
    PublishedComplexity("arcnn", 3, 1080, 1920, 117_734, 3615.39, 7.32, LECTURE),
    PublishedComplexity("fastarcnn", 3, 480, 720, 85_575, 265.32, 0.34, LECTURE),
    PublishedComplexity("fastarcnn", 3, 720, 1280, 85_575, 706.97, 0.91, LECTURE),
    PublishedComplexity("fastarcnn", 3, 1080, 1920, 85_575, 1590.27, 2.06, LECTURE),
    PublishedComplexity("arcnn", 1, 32, 32, 106_561, 2.17, None, MSFAN),
    PublishedComplexity("dncnn", 1, 32, 32, 667_072, 30.56, None, MSFAN),
    PublishedComplexity("dcsc", 1, 32, 32, 93_697, 67.60, None, MSFAN),
    PublishedComplexity("msfan", 1, 32, 32, 765_587, 29.45, None, MSFAN),
)


def _column(
    network: str,
    set_name: str,
    source: str,
    psnr: dict[int, float],
    ssim: dict[int, float] | None = None,
    psnr_b: dict[int, float] | None = None,
) -> tuple[PublishedQuality, ...]:
    """Rows of one network from its printed columns, each keyed by JPEG quality."""
    ssim, psnr_b = ssim or {}, psnr_b or {}
    return tuple(
        PublishedQuality(network, set_name, q, value, ssim.get(q), psnr_b.get(q), source)
        for q, value in psnr.items()
    )


_CLASSIC5, _LIVE1, _LIVE1_RGB = "Classic5", "LIVE1", "LIVE1 RGB"

_QUALITY = (
    # Tables 5 and 6 of the MSFAN paper.
    *_column(
        "jpeg",
        _CLASSIC5,
        MSFAN,
        {10: 27.82, 20: 30.12, 30: 31.48},
        {10: 0.769, 20: 0.845, 30: 0.876},
    ),
    *_column(
        "arcnn",
        _CLASSIC5,
        MSFAN,
        {10: 29.03, 20: 31.15, 30: 32.51},
        {10: 0.792, 20: 0.852, 30: 0.881},
    ),
    *_column(
        "dncnn",
        _CLASSIC5,
        MSFAN,
        {10: 29.40, 20: 31.63, 30: 32.91},
        # At quality 10 the paper repeats the .886 of quality 30, a misprint: left out.
        {20: 0.861, 30: 0.886},
    ),
    *_column(
        "dcsc",
        _CLASSIC5,
        MSFAN,
        {10: 29.25, 20: 31.43, 30: 32.68},
        {10: 0.803, 20: 0.860, 30: 0.885},
    ),
    *_column(
        "msfan",
        _CLASSIC5,
        MSFAN,
        {10: 29.39, 20: 31.55, 30: 32.85},
        {10: 0.811, 20: 0.868, 30: 0.893},
    ),
    *_column("jpeg", _LIVE1, QUOTED, {10: 27.77, 20: 30.07, 30: 31.41, 40: 32.35}),
    *_column("arcnn", _LIVE1, QUOTED, {10: 28.96, 20: 31.29, 30: 32.67, 40: 33.63}),
    *_column("dncnn", _LIVE1, QUOTED, {10: 29.19, 20: 31.59, 30: 32.98, 40: 33.96}),
    *_column(
        "jpeg",
        _LIVE1_RGB,
        IDCN,
        {10: 25.69, 20: 28.06},
        {10: 0.7592, 20: 0.8409},
        {10: 25.49, 20: 27.82},
    ),
    *_column(
        "arcnn",
        _LIVE1_RGB,
        IDCN,
        {10: 26.91, 20: 29.23},
        {10: 0.7946, 20: 0.8659},
        {10: 26.92, 20: 29.24},
    ),
)
