"""Models of the API's answers, and what the page shows of a camera: history and newest picture."""

import math
import threading
from collections import deque
from typing import Literal

import cv2
import numpy as np
from pydantic import BaseModel

from edgecar.engines.base import Codes
from edgecar.errors import MediaError
from edgecar.media.color import upright_bgr
from edgecar.media.frame import Frame
from edgecar.runtime.camera import StreamFrame
from edgecar.runtime.stats import Snapshot
from edgecar.serve.outputs import OutputStatus
from edgecar.serve.source import State

STEP_SECONDS = 2.0
"""Time from one sample of the history to the next."""

HISTORY_MINUTES = 5
HIGHEST_DB = 99.0
"""PSNR shown if nothing was changed."""

JPEG_QUALITY = 85
SMALLEST_WIDTH = 16
CACHED_JPEGS = 4
"""Coded pictures kept: several people look at one camera."""

View = Literal["before", "after", "pair"]


class FrameCounts(BaseModel):
    """Outcome of a camera's frames: ``read`` is the sum of the next four."""

    read: int
    restored: int
    passed: int
    dropped: int
    in_flight: int
    corrupt: int


class AgeMs(BaseModel):
    """Milliseconds from the arrival of a decoded frame until its outputs have it."""

    p50: float
    p95: float


class CameraStatus(BaseModel):
    """State of one camera, as the API answers it."""

    name: str
    source: str
    """Address without passwords."""
    state: State
    error: str | None
    enabled: bool
    network: str
    """Network asked for."""
    running: str
    """Network at work; ``pass`` if frames pass unchanged."""
    shed: bool
    """True if load forces a smaller network than asked for."""
    engine: str | None
    codec: str
    width: int
    height: int
    sequence: int
    """Number of the newest frame."""
    camera_fps: float
    process_fps: float
    skipped_fps: float
    frames: FrameCounts
    passed_because: dict[str, int]
    age_ms: AgeMs | None
    computed_share: float
    qp: float | None
    reconnects: int
    restarts: int
    outputs: list[OutputStatus]


class EngineStatus(BaseModel):
    """An engine at work."""

    network: str
    coder: str
    engine: str
    provider: str
    precision: str
    device: str


class ServiceStatus(BaseModel):
    """State of the service as a whole."""

    version: str
    uptime_seconds: float
    draining: bool
    networks: list[str]
    """Networks that ship."""
    load: float
    """Share of the restoring thread's time spent in the latest seconds; 1 is full."""
    cpu_share: float
    """Share of all cores that this process uses."""
    memory_mib: float
    engines: list[EngineStatus]


class Health(BaseModel):
    """Health of the service."""

    status: Literal["ok", "starting", "draining", "failed"]


class HistoryTable(BaseModel):
    """Series of the last minutes, oldest first; null where nothing was measured."""

    step_seconds: float
    camera_fps: list[float | None]
    process_fps: list[float | None]
    age_ms: list[float | None]
    computed_share: list[float | None]
    qp: list[float | None]
    change_db: list[float | None]


class History:
    """Figures of a camera over the last minutes."""

    def __init__(self) -> None:
        length = round(60 * HISTORY_MINUTES / STEP_SECONDS)
        self._samples: deque[dict[str, float | None]] = deque(maxlen=length)
        self._pixels = (0, 0)

    def add(self, now: Snapshot | None, frame: StreamFrame | None, pixels: tuple[int, int]) -> None:
        """Add a sample; ``pixels`` are those networks read so far, and those of the frames."""
        read, shown = (after - before for after, before in zip(pixels, self._pixels, strict=True))
        self._pixels = pixels
        sample: dict[str, float | None] = {}
        if now:
            age = now.latencies.get("age")
            sample = {
                "camera_fps": round(now.camera_fps, 2),
                "process_fps": round(now.process_fps, 2),
                "age_ms": round(1e3 * age.p95_seconds, 1) if age and now.camera_fps else None,
                "computed_share": round(read / shown, 4) if shown > 0 else None,
                "qp": rounded(now.qp_recent, 1),
                "change_db": change_db(frame) if frame and now.camera_fps else None,
            }
        self._samples.append(sample)

    def table(self) -> HistoryTable:
        """Return all series."""
        samples = list(self._samples)
        names = HistoryTable.model_fields.keys() - {"step_seconds"}
        series = {name: [each.get(name) for each in samples] for name in names}
        return HistoryTable.model_validate({"step_seconds": STEP_SECONDS, **series})


def change_db(frame: StreamFrame) -> float | None:
    """Return the PSNR between luma before and after, in dB; None for frames that passed."""
    if not frame.restored:
        return None
    change = frame.frame.y.astype(np.int16) - frame.before.y
    error = float(np.mean(np.square(change, dtype=np.int32)))
    return HIGHEST_DB if not error else round(min(HIGHEST_DB, 10 * math.log10(255**2 / error)), 2)


class LatestFrame:
    """Newest frame of a camera, coded as JPEG on demand; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._coded: dict[tuple[View, int], bytes] = {}
        self.frame: StreamFrame | None = None
        self.sequence = 0
        """Number of the frame, counted from 1; 0 if there is none yet."""

    def put(self, frame: StreamFrame) -> None:
        """Take a newer frame."""
        with self._lock:
            self.frame = frame
            self.sequence += 1
            self._coded.clear()

    def jpeg(self, view: View, width: int) -> tuple[bytes, int]:
        """Return the newest picture, at most ``width`` pixels wide, and its number.

        A ``pair`` is before and after side by side, twice as wide.

        Raises:
            MediaError: There is no picture yet.
        """
        with self._lock:
            frame, sequence = self.frame, self.sequence
            if frame is None:
                raise MediaError("no picture yet; wait for the camera")
            width = max(SMALLEST_WIDTH, min(width, frame.frame.size[1]))
            if (view, width) in self._coded:
                return self._coded[view, width], sequence
        frames = {"before": [frame.before], "after": [frame.frame]}
        picture = np.hstack(
            [_scaled(each, width) for each in frames.get(view, [frame.before, frame.frame])]
        )
        coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
        with self._lock:
            if sequence == self.sequence:
                if len(self._coded) >= CACHED_JPEGS:
                    self._coded.clear()
                self._coded[view, width] = coded
        return coded, sequence


def _scaled(frame: Frame, width: int) -> Codes:
    bgr = upright_bgr(frame, fast=True)
    height = max(1, round(bgr.shape[0] * width / bgr.shape[1]))
    if bgr.shape[1] == width:
        return bgr
    return np.asarray(cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def rounded(value: float | None, digits: int) -> float | None:
    """Round a value that may not have been measured."""
    return None if value is None else round(value, digits)
