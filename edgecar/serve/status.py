"""Models of the API's answers."""

from typing import Literal

from pydantic import BaseModel

from edgecar.serve.outputs import OutputStatus
from edgecar.serve.source import State

View = Literal["before", "after", "pair"]
"""Picture of a camera; a pair is before and after side by side."""

Series = list[float | None]


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
    frames: dict[str, int]
    """Counts by outcome: ``read`` is ``restored``, ``passed``, ``dropped`` and ``in_flight``."""
    passed_because: dict[str, int]
    age_ms: dict[str, float] | None
    """Time from the arrival of a frame until its outputs have it: ``p50`` and ``p95``."""
    computed_share: float
    qp: float | None
    quantiser: float | None
    """Told to the network: QP, or quality of weights for JPEG; null if it takes none."""
    quantiser_moves: int
    quantiser_unknown_frames: int
    """Frames whose stream states none: the middle of the range was told."""
    reconnects: int
    restarts: int
    outputs: list[OutputStatus]


class EngineStatus(BaseModel):
    """An engine at work."""

    network: str
    weights_for: str
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

    status: Literal["ok", "draining", "failed"]


class HistoryTable(BaseModel):
    """Series of the last minutes, oldest first; null where nothing was measured."""

    step_seconds: float
    camera_fps: Series
    process_fps: Series
    age_ms: Series
    computed_share: Series
    qp: Series
    change_db: Series
