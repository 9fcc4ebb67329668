"""The papers' settings of the coders: twelve variants of H.264, and six ways to code HEVC.

Aqqa and Shah, "CAR-CNN", VISAPP 2020, section 4.1, code surveillance video at four CRFs under three
limits of the rate; Yue et al., "GL-Fusion", compare BD-rates of all-intra, low-delay and
random-access HEVC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgecar.media.video_codec import RATE_FPS, VideoCoding
from edgecar.spec import Size

LIMITS_MBPS = (2.0, 1.5, 1.0)
"""Limits of the rate of 1080p video at 30 frames a second."""
LIMITS_MEANT_AT = (1080 * 1920, 30)  # px, frames a second
CRFS = (29, 35, 41, 47)
QPS = (22, 27, 32, 37)

STRUCTURES: dict[str, tuple[int, int | None]] = {
    "all-intra": (1, 0),
    "low-delay": (10_000, 0),  # one key frame, then P-frames
    "random-access": (32, None),  # B-frames as the preset has them
}
"""Frames from one key frame to the next, and B-frames in a row, by name."""
DEFAULT = "default"


@dataclass(frozen=True)
class Variant:
    """One way to code a clip.

    Attributes:
        coding: Settings of the coder.
        limit_mbps: The value of ``coding.max_kbps`` at 1080p and 30 frames a second; None: no
            limit.
        structure: One of `STRUCTURES`, or ``default``.
    """

    coding: VideoCoding
    limit_mbps: float | None = None
    structure: str = DEFAULT

    @property
    def key(self) -> tuple[Any, ...]:
        """Key of the variant in the keys of rows."""
        coding = self.coding
        return coding.quantiser, self.limit_mbps, self.structure, coding.in_loop_filters

    @property
    def words(self) -> str:
        """Description of everything but the quantiser.

        Example:
            >>> Variant(VideoCoding("h264", 41, max_kbps=100), limit_mbps=1.5).words
            'limit 1.5 Mb/s'
        """
        limit = [] if self.limit_mbps is None else [f"limit {self.limit_mbps:g} Mb/s"]
        structure = [] if self.structure == DEFAULT else [self.structure]
        filters = [] if self.coding.in_loop_filters else ["without the coder's filters"]
        return ", ".join([*limit, *structure, *filters])


def scaled_kbps(limit_mbps: float, size: Size) -> int:
    """Scale a limit for 1080p at 30 frames a second by the pixels of 25 frames of this size.

    Example:
        >>> scaled_kbps(2.0, (1080, 1920)), scaled_kbps(1.0, (540, 960))
        (1667, 208)
    """
    pixels, fps = LIMITS_MEANT_AT
    share = size[0] * size[1] * float(RATE_FPS) / (pixels * fps)
    return max(1, round(1000 * limit_mbps * share))


def h264_variants(size: Size, crfs: Sequence[int] = CRFS) -> list[Variant]:
    """Return the paper's variants for frames of ``(height, width)``: each limit with each CRF."""
    return [
        Variant(VideoCoding("h264", crf, max_kbps=scaled_kbps(limit, size)), limit)
        for limit in LIMITS_MBPS
        for crf in crfs
    ]


def hevc_variants(size: Size, qps: Sequence[int] = QPS) -> list[Variant]:
    """Return each structure with the coder's filters and without, at each QP."""
    del size  # constant QP has no limit
    return [
        Variant(
            VideoCoding("hevc", qp, gop=gop, b_frames=b_frames, in_loop_filters=filters),
            structure=structure,
        )
        for structure, (gop, b_frames) in STRUCTURES.items()
        for filters in (True, False)
        for qp in qps
    ]


VARIANTS = {"h264": h264_variants, "hevc": hevc_variants}
