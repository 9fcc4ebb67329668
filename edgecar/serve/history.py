"""What the page draws of the last minutes."""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from edgecar.runtime.camera import StreamFrame
from edgecar.runtime.stats import Snapshot

STEP_SECONDS = 2.0
MINUTES = 5
SAMPLES = round(60 * MINUTES / STEP_SECONDS)
HIGHEST_DB = 99.0
"""Shown where nothing was changed."""

SERIES = ("camera_fps", "process_fps", "age_ms", "computed_share", "qp", "change_db")


@dataclass(frozen=True)
class Sample:
    """Numbers of one moment; None where nothing was measured."""

    camera_fps: float | None = None
    process_fps: float | None = None
    age_ms: float | None = None
    computed_share: float | None = None
    qp: float | None = None
    change_db: float | None = None


class History:
    """The last minutes of a camera, in bounded memory."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._pixels = (0, 0)  # read by the network and shown, up to the last sample

    def add(self, now: Snapshot | None, frame: StreamFrame | None, pixels: tuple[int, int]) -> None:
        """Note a moment.

        Args:
            now: Counters; None where the camera does not run.
            frame: The newest frame.
            pixels: That networks read for the camera so far, and that its restored frames had.
        """
        read, shown = (after - before for after, before in zip(pixels, self._pixels, strict=True))
        self._pixels = pixels
        if now is None:
            self._samples.append(Sample())
            return
        age = now.latencies.get("age")
        self._samples.append(
            Sample(
                camera_fps=round(now.camera_fps, 2),
                process_fps=round(now.process_fps, 2),
                age_ms=round(1e3 * age.p95_seconds, 1) if age and now.camera_fps else None,
                computed_share=round(read / shown, 4) if shown > 0 else None,
                qp=None if now.qp_recent is None else round(now.qp_recent, 1),
                change_db=change_db(frame) if frame and now.camera_fps else None,
            )
        )

    def table(self) -> dict[str, float | list[float | None]]:
        """Series by name, oldest first."""
        samples = list(self._samples)
        series = {name: [getattr(each, name) for each in samples] for name in SERIES}
        return {"step_seconds": STEP_SECONDS, **series}


def change_db(frame: StreamFrame) -> float | None:
    """PSNR of the luma after against that before, in dB; None for frames that passed."""
    if not frame.restored:
        return None
    change = frame.frame.y.astype(np.int16) - frame.before.y
    error = float(np.mean(np.square(change, dtype=np.int32)))
    return HIGHEST_DB if not error else round(min(HIGHEST_DB, 10 * math.log10(255**2 / error)), 2)
