"""Fastest settings found on a machine, kept in a file by what they were measured for.

No tuning changes a byte of the output.
"""

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

from edgecar.artifact import Artifact
from edgecar.engines.base import EngineInfo
from edgecar.errors import SettingsError
from edgecar.files import atomic_write, cache_folder
from edgecar.runtime.change_map import COMPARED_PX, KEPT_PX, STEP_PX
from edgecar.spec import Size

MAX_READ_PX = 1 << 20  # larger tiles read less halo but are not faster
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Tuning:
    """How a restorer goes about its work.

    Attributes:
        kept_px: Side of the cells in which stale outputs are gathered; a multiple of 4.
        max_read_px: Pixels that a tile of a full frame reads at most; memory may allow less.
        step_px: Step of the sides of tiles around changed parts.
        reuse: True if looking for what changed is worth its time.
        threads: CPU threads; None: as many as are allowed.

    Raises:
        SettingsError: A value is out of range.
    """

    kept_px: int = KEPT_PX
    max_read_px: int = MAX_READ_PX
    step_px: int = STEP_PX
    reuse: bool = True
    threads: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), bool if field.name == "reuse" else int
            if value is None and field.name == "threads":
                continue
            if type(value) is not kind or (kind is int and value < 1):
                need = "true or false" if kind is bool else "a whole number of at least 1"
                raise SettingsError(f"{field.name} is {value!r}; need {need}")
        if self.kept_px % COMPARED_PX:
            raise SettingsError(f"kept_px is {self.kept_px}; need a multiple of {COMPARED_PX}")

    def __str__(self) -> str:
        """Return what differs from the defaults, in words."""
        words = {
            "kept_px": f"cells of {self.kept_px} px",
            "max_read_px": f"tiles of at most {self.max_read_px} px",
            "step_px": f"tiles in steps of {self.step_px} px",
            "reuse": "no reuse",
            "threads": f"{self.threads} thread(s)",
        }
        default = Tuning()
        changed = [words[name] for name in words if getattr(self, name) != getattr(default, name)]
        return ", ".join(changed) or "defaults"


@dataclass(frozen=True)
class TuningKey:
    """Conditions that a tuning was measured for; it says nothing about others."""

    artifact: str
    """Model and SHA-256 of its weights, or of the ONNX file if they are unknown."""
    engine: str
    provider: str
    """The library's back end and its version."""
    precision: str
    threads: int
    """CPU threads that were allowed."""
    cpu: str
    height: int
    width: int

    @property
    def path(self) -> Path:
        """The file that such a tuning is kept in."""
        text = json.dumps(asdict(self), sort_keys=True)
        return cache_folder("tuning") / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def tuning_key(artifact: Artifact, info: EngineInfo, threads: int, size: Size) -> TuningKey:
    """The key of an artifact on an engine, on this machine, for frames of one size."""
    metadata = artifact.metadata
    weights = metadata.weights_sha256 or hashlib.sha256(artifact.onnx).hexdigest()
    identity = f"{metadata.model} {weights}"
    return TuningKey(identity, info.name, info.provider, info.precision, threads, cpu_name(), *size)


@cache
def cpu_name() -> str:
    """The processor's name, as far as the system tells it."""
    text = CPUINFO.read_text(errors="replace") if CPUINFO.exists() else ""
    names = (line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line)
    return next(names, "") or platform.processor() or platform.machine()


def store_tuning(key: TuningKey, tuning: Tuning, gain: float) -> Path:
    """Keep a tuning and its speed over that of the defaults; returns its file."""
    table = {"key": asdict(key), "tuning": asdict(tuning), "gain": round(gain, 4)}
    with atomic_write(key.path) as temporary:
        temporary.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return key.path


def load_tuning(key: TuningKey) -> Tuning | None:
    """The tuning kept for a key; None if there is none.

    Raises:
        SettingsError: Its file is damaged, or was written by another version.
    """
    try:
        table = json.loads(key.path.read_text(encoding="utf-8"))
        if table["key"] != asdict(key):
            raise SettingsError("it was measured for something else")
        return Tuning(**table["tuning"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, SettingsError) as error:
        raise SettingsError(
            f"{key.path}: no tuning ({error}); the defaults are used: run edgecar tune again"
        ) from error


class Tunings:
    """Tuning used for frames of each size: the one given, else kept, else the defaults.

    Args:
        key: Function that returns the key of a tuning for a size.
        given: For all sizes; no file is looked for.
    """

    def __init__(self, key: Callable[[Size], TuningKey], given: Tuning | None = None) -> None:
        self.key, self._given = key, given
        self._known: dict[Size, Tuning] = {}
        self.loaded: dict[Size, Tuning] = {}
        """Those that came from files."""
        self.warnings: list[str] = []
        """Files that were of no use."""

    def of(self, size: Size) -> Tuning:
        """For frames of ``(height, width)``."""
        if self._given is not None:
            return self._given
        if size not in self._known:
            try:
                kept = load_tuning(self.key(size))
            except SettingsError as error:
                self.warnings.append(str(error))
                kept = None
            if kept is not None:
                self.loaded[size] = kept
            self._known[size] = kept or Tuning()
        return self._known[size]
