"""What papers print of coded video: the twelve variants of CAR-CNN, BD-rates over HEVC."""

from collections.abc import Mapping

CRFS = (29, 35, 41, 47)
LIMITS_MBPS = (2.0, 1.5, 1.0)

# Aqqa and Shah, "CAR-CNN", VISAPP 2020, tables 1 and 2: luma PSNR in dB and SSIM, on clips of
# their own; limits from 2 to 1 Mb/s, at each CRF 29 to 47. "ssp" is FFmpeg's spp.
_PSNR = {
    "ssp": (
        *(29.65, 28.09, 25.93, 24.53),
        *(29.25, 28.07, 25.90, 24.53),
        *(28.58, 27.70, 25.85, 24.53),
    ),
    "CAR-CNN, MSE": (
        *(30.07, 28.36, 26.65, 25.27),
        *(29.61, 28.36, 26.64, 25.17),
        *(28.88, 27.98, 26.62, 25.05),
    ),
    "CAR-CNN, SSIM": (
        *(29.69, 28.12, 26.02, 24.78),
        *(29.32, 28.12, 25.91, 24.78),
        *(28.54, 27.72, 25.88, 24.78),
    ),
    "CAR-CNN": (
        *(29.76, 28.19, 26.07, 24.81),
        *(29.38, 28.18, 25.96, 24.81),
        *(28.60, 27.78, 25.93, 24.81),
    ),
}
_SSIM = {
    "ssp": (
        *(0.817, 0.789, 0.725, 0.604),
        *(0.807, 0.788, 0.723, 0.604),
        *(0.787, 0.774, 0.720, 0.604),
    ),
    "CAR-CNN, MSE": (
        *(0.827, 0.805, 0.758, 0.681),
        *(0.822, 0.801, 0.757, 0.681),
        *(0.794, 0.784, 0.756, 0.681),
    ),
    "CAR-CNN, SSIM": (
        *(0.845, 0.829, 0.777, 0.689),
        *(0.837, 0.819, 0.763, 0.689),
        *(0.817, 0.794, 0.761, 0.687),
    ),
    "CAR-CNN": (
        *(0.873, 0.867, 0.786, 0.695),
        *(0.858, 0.826, 0.762, 0.693),
        *(0.835, 0.796, 0.765, 0.693),
    ),
}

Variant = tuple[float, int]
"""Limit in Mb/s, and CRF."""


def published_variants(measure: str) -> dict[str, Mapping[Variant, float]]:
    """What the CAR-CNN paper prints for its twelve variants, by method.

    Args:
        measure: ``psnr`` or ``ssim``; there is nothing of others.
    """
    order = [(limit, crf) for limit in LIMITS_MBPS for crf in CRFS]
    tables = {"psnr": _PSNR, "ssim": _SSIM}.get(measure, {})
    return {method: dict(zip(order, row, strict=True)) for method, row in tables.items()}


# Yue et al., "GL-Fusion", table VI: average BD-rate in percent over HM 16.9 with deblocking and
# SAO, on the classes A to E of the standard's test sequences.
BD_RATES: Mapping[str, Mapping[str, float]] = {
    "VRCNN": {"all-intra": -4.85, "low-delay": -3.38, "random-access": -3.03},
    "SEFCNN": {"all-intra": -9.96, "low-delay": -8.04, "random-access": -7.60},
    "GL-Fusion": {"all-intra": -13.55, "low-delay": -11.30, "random-access": -11.70},
}
