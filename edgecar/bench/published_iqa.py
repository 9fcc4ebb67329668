"""What the paper of deep multi-scale IQA prints: SRCC and PLCC with opinion scores.

Zhou and Chen, "Deep Multi-Scale Features Learning for Distorted Image Quality Assessment", tables 1
(PSNR, SSIM, MS-SSIM, VIF) and 2 (the rest).
"""

from collections.abc import Mapping

DATA_BASES = ("LIVE", "CSIQ", "TID2008", "TID2013")

SrccPlcc = tuple[float, float]

PUBLISHED_IQA: Mapping[str, tuple[SrccPlcc, ...]] = {
    "psnr": ((0.876, 0.872), (0.801, 0.800), (0.525, 0.531), (0.639, 0.702)),
    "ssim": ((0.948, 0.945), (0.876, 0.861), (0.775, 0.773), (0.742, 0.790)),
    "distorted image": ((0.911, 0.913), (0.745, 0.810), (0.529, 0.660), (0.577, 0.713)),
    "residual map": ((0.976, 0.978), (0.917, 0.893), (0.894, 0.898), (0.854, 0.872)),
    "direct concat": ((0.981, 0.981), (0.949, 0.952), (0.923, 0.933), (0.900, 0.918)),
    "proposed": ((0.984, 0.984), (0.960, 0.952), (0.928, 0.937), (0.906, 0.922)),
}
"""By row: SRCC and PLCC on each of `DATA_BASES`."""
