"""Compression-artifact-reduction networks in real time beside the camera.

Names are loaded on first use: ``import edgecar`` imports neither torch nor an engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecar.engines.fake import FakeEngine
    from edgecar.errors import EdgecarError
    from edgecar.exporter.to_onnx import export
    from edgecar.runtime.capture import VideoCapture
    from edgecar.runtime.cleaner import Cleaner
    from edgecar.runtime.restorer import Restorer
    from edgecar.runtime.stream import stream
    from edgecar.runtime.tiles import plan_windows
    from edgecar.zoo.checkpoints import load_network as load

__all__ = [
    "Cleaner",
    "EdgecarError",
    "FakeEngine",
    "Restorer",
    "VideoCapture",
    "export",
    "load",
    "plan_windows",
    "stream",
]

_HOMES = {
    "Cleaner": ("edgecar.runtime.cleaner", "Cleaner"),
    "EdgecarError": ("edgecar.errors", "EdgecarError"),
    "FakeEngine": ("edgecar.engines.fake", "FakeEngine"),
    "Restorer": ("edgecar.runtime.restorer", "Restorer"),
    "VideoCapture": ("edgecar.runtime.capture", "VideoCapture"),
    "export": ("edgecar.exporter.to_onnx", "export"),
    "load": ("edgecar.zoo.checkpoints", "load_network"),
    "plan_windows": ("edgecar.runtime.tiles", "plan_windows"),
    "stream": ("edgecar.runtime.stream", "stream"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgecar' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
