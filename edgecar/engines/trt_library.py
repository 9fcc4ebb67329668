"""TensorRT and its edition for RTX cards, behind the names that 10.3 and 11 have in common.

Version 10.3 comes with JetPack 6 and stays there; 11 is current elsewhere; TensorRT-RTX is of the
line of 11. What only one of them has is asked for with `hasattr`. Enumerations are always taken by
name: 11 numbers some of them anew.
"""

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from edgecar.engines.targets import LibraryName
from edgecar.errors import EngineError

MODULES: dict[LibraryName, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
TITLES: dict[LibraryName, str] = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}
INSTALL: dict[LibraryName, str] = {
    "tensorrt": "on a Jetson it comes with JetPack (sudo apt install tensorrt "
    "python3-libnvinfer-dev; python3 -m venv --system-site-packages), on a server: pip install "
    "tensorrt; build on the box that will run the plan",
    "tensorrt-rtx": "pip install tensorrt-rtx, on any x86 machine, with or without a GPU",
}


@dataclass(frozen=True)
class Library:
    """One of the two, imported."""

    name: LibraryName
    trt: Any  # its module
    log: Any  # its complaints, to be quoted when it refuses

    @property
    def version(self) -> str:
        """Version, such as ``10.3.0``."""
        return str(self.trt.__version__)

    @property
    def title(self) -> str:
        """Name and version for people."""
        return f"{TITLES[self.name]} {self.version}"

    @property
    def is_rtx(self) -> bool:
        """True if plans are made for RTX cards, without a GPU if need be."""
        return self.name == "tensorrt-rtx"

    def cause(self, otherwise: str = "it does not say why") -> str:
        """Return the first complaint since the log was cleared; the rest follows from it."""
        return self.log.complaints[0] if self.log.complaints else otherwise


@cache
def load_library(name: LibraryName) -> Library:
    """Import a library; once a process, because its logger must outlive all that it makes."""
    try:
        trt: Any = importlib.import_module(MODULES[name])
    except (ImportError, OSError) as error:  # OSError: its own libraries are missing
        raise EngineError(f"{TITLES[name]} is not installed; {INSTALL[name]}") from error
    return Library(name, trt, new_log(trt))


def new_log(trt: Any) -> Any:
    """Return a logger that keeps complaints, for the one line of an `EngineError`."""
    serious = (trt.Logger.INTERNAL_ERROR, trt.Logger.ERROR)

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.complaints: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in serious:
                self.complaints.append(" ".join(message.split())[:300])

    return Log()
