"""What callers are told, as the API's answers."""

from typing import Literal

from pydantic import BaseModel

from edgecar.serve.outputs import OutputStatus
from edgecar.serve.sources import State


class FrameCounts(BaseModel):
    """What became of a camera's frames; the first is the sum of the others, but for ``corrupt``."""

    read: int
    restored: int
    passed: int
    dropped: int
    in_flight: int
    corrupt: int


class AgeMs(BaseModel):
    """From a frame's arrival, decoded, until its outputs have it, in milliseconds."""

    p50: float
    p95: float


class CameraStatus(BaseModel):
    """One camera."""

    name: str
    source: str
    """Without passwords."""
    state: State
    error: str | None
    enabled: bool
    network: str
    """As asked for."""
    running: str
    """At work now; ``pass`` where frames pass as they are."""
    shed: bool
    """Less than asked for, because of load."""
    engine: str | None
    codec: str
    width: int
    height: int
    sequence: int
    """Of the newest frame."""
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
    """The service as a whole."""

    version: str
    uptime_seconds: float
    draining: bool
    networks: list[str]
    """Those that ship."""
    load: float
    """Share of the restoring thread's time that was spent lately; 1 is full."""
    cpu_share: float
    """Of all cores, by this process."""
    memory_mib: float
    engines: list[EngineStatus]


class HistoryTable(BaseModel):
    """Series of the last minutes, oldest first; null where nothing was measured."""

    step_seconds: float
    camera_fps: list[float | None]
    process_fps: list[float | None]
    age_ms: list[float | None]
    computed_share: list[float | None]
    qp: list[float | None]
    change_db: list[float | None]


class Health(BaseModel):
    """Whether the service works."""

    status: Literal["ok", "starting", "draining", "failed"]
