"""FFmpeg's deblocking post-filters: whether they are here, and how strong they should be."""

import shutil
import subprocess

import numpy as np

from edgecar.errors import MediaError
from edgecar.media.video_codec import VideoCoding

COMMAND = ("ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin")

# Strength ``qp`` by quantiser, for quality 4: for each the whole number with the highest mean PSNR,
# against the sources, over the study set (first 24 to 45 frames; HEVC on five of the clips), which
# is kind to the filters. It has to be given: without, spp and fspp find no QP table of H.264 or
# HEVC and return every frame as it was, and with the decoder's table (-export_side_data
# venc_params) FFmpeg 5.1 stops with "Function not implemented", as that is for MPEG-2 only. Its
# scale is that of MPEG-2, too: the coder's own QP blurs everything. Mean gain of spp in dB at CRF
# 29, 35, 41, 47:
#
#     qp of this table        +0.17  +0.17  +0.14  +0.08
#     mean QP / 4 (8 to 12)   -0.55  -0.07  +0.09  +0.08
#     qp = CRF, at 35: -3.4 on the one clip tried
#
# The best qp of every single clip, which nobody knows without the source, would give +0.20, +0.20,
# +0.16, +0.09. HEVC's own filters leave less to do: at QP 22 nothing gains.
STRENGTHS = {
    ("spp", "h264"): {29: 3, 35: 5, 41: 8, 47: 12},
    ("fspp", "h264"): {29: 2, 35: 3, 41: 4, 47: 5},
    ("spp", "hevc"): {22: 1, 27: 1, 32: 2, 37: 3},
    ("fspp", "hevc"): {22: 1, 27: 1, 32: 1, 37: 2},
}
POSTFILTERS = tuple(dict.fromkeys(name for name, _ in STRENGTHS))
"""Their names."""


def strength_for(name: str, coding: VideoCoding) -> int:
    """The filter's ``qp``, at least 1 (0 would filter nothing).

    Between the quantisers of the study it is interpolated, beyond them it stays.

    Example:
        >>> [strength_for("spp", VideoCoding("h264", crf)) for crf in (20, 29, 38, 51)]
        [3, 3, 6, 12]
    """
    measured = STRENGTHS[name, coding.codec]
    between = np.interp(coding.quantiser, list(measured), list(measured.values()))
    return max(1, round(float(between)))


def check_installed(name: str) -> None:
    """Make sure that the ``ffmpeg`` command has a filter.

    Raises:
        MediaError: There is no command, or it was built without the filter.
    """
    remedy = "install one (Debian, Ubuntu: apt install ffmpeg) or leave this baseline out"
    if shutil.which(COMMAND[0]) is None:
        raise MediaError(f"no ffmpeg command is here; baseline {name} needs one: {remedy}")
    listed = subprocess.run([*COMMAND, "-filters"], capture_output=True, text=True, check=False)
    if not any(line.split()[1:2] == [name] for line in listed.stdout.splitlines()):
        raise MediaError(
            f"this ffmpeg has no filter {name}, which needs a build under the GPL: {remedy}"
        )
