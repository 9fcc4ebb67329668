"""The papers' settings of the coders: twelve variants of H.264, and six ways to code HEVC.

Aqqa and Shah, "CAR-CNN", VISAPP 2020, section 4.1, code surveillance video at four CRFs under three
limits of the rate; Yue et al., "GL-Fusion", compare BD-rates of all-intra, low-delay and
random-access HEVC.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from edgecar.media.video_codec import RATE_FPS, VideoCodec, VideoCoding
from edgecar.spec import Size

LIMITS_MBPS = (2.0, 1.5, 1.0)
"""Limits of the rate of 1080p video at 30 frames a second."""
LIMITS_MEANT_AT = (1080 * 1920, 30)  # px, frames a second
CRFS = (29, 35, 41, 47)

STRUCTURES: dict[str, tuple[int, int | None]] = {
    "all-intra": (1, 0),
    "low-delay": (10_000, 0),  # one key frame, then P-frames
    "random-access": (32, None),  # B-frames as the preset has them
}
"""Frames from one key frame to the next, and B-frames in a row, by name."""
DEFAULT = "default"
CODING_COLUMNS = ("codec", "quantiser", "max_kbps", "in_loop_filters")
Row = dict[str, Any]


def variant_words(row: Mapping[str, Any]) -> str:
    """Describe the coding of a row of variants, besides the quantiser.

    Example:
        >>> variant_words({"limit_mbps": 1.5, "structure": "default", "in_loop_filters": True})
        'limit 1.5 Mb/s'
    """
    limit = row["limit_mbps"]
    words = row["structure"] if limit is None else f"limit {limit:g} Mb/s"
    return words if row["in_loop_filters"] else f"{words}, no filters"


def scaled_kbps(limit_mbps: float, size: Size) -> int:
    """Scale a limit for 1080p at 30 frames a second by the pixels of 25 frames of this size.

    Example:
        >>> scaled_kbps(2.0, (1080, 1920)), scaled_kbps(1.0, (540, 960))
        (1667, 208)
    """
    pixels, fps = LIMITS_MEANT_AT
    share = size[0] * size[1] * float(RATE_FPS) / (pixels * fps)
    return max(1, round(1000 * limit_mbps * share))


def variants(
    codec: VideoCodec, size: Size, quantisers: Sequence[int] = CRFS
) -> list[tuple[VideoCoding, Row]]:
    """Return the paper's codings of frames of ``(height, width)``, and their columns in rows.

    H.264 is coded under each limit, which ``limit_mbps`` has as the paper has it; HEVC in each
    structure, with the coder's filters and without.
    """
    found: list[tuple[VideoCoding, Row]] = []

    def add(limit_mbps: float | None, structure: str, **settings: Any) -> None:
        for quantiser in quantisers:
            coding = VideoCoding(codec, quantiser, **settings)
            facts = {key: getattr(coding, key) for key in CODING_COLUMNS}
            found.append((coding, {**facts, "limit_mbps": limit_mbps, "structure": structure}))

    if codec == "h264":
        for limit in LIMITS_MBPS:
            add(limit, DEFAULT, max_kbps=scaled_kbps(limit, size))
    else:
        for structure, (gop, b_frames) in STRUCTURES.items():
            for filters in (True, False):
                add(None, structure, gop=gop, b_frames=b_frames, in_loop_filters=filters)
    return found
