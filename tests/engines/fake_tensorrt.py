"""TensorRT 10.3 as far as building goes: the builder of TensorRT-RTX under the names of 10.3.

What 10.3 has not is not there either: code that wants it fails as it would on JetPack 6.
"""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

from edgecar.engines.trt_library import Library, new_log

BOTH = json.loads(Path(__file__).with_name("tensorrt_names.json").read_text())["both"]
MODULE_NAMES = {name.partition(".")[0] for name in BOTH} - {
    *("builder", "config", "context", "engine", "inspector", "network", "parser", "profile")
}
FROM_10 = {"IProgressMonitor"}


class Fake103(ModuleType):
    """A module with the names that both versions have, and enumerations cut down to them."""

    def __init__(self, version: str, timings: list[bytes]) -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self._timings = timings

    def __getattr__(self, name: str) -> Any:
        import tensorrt_rtx

        if name not in MODULE_NAMES | FROM_10:
            raise AttributeError(f"module 'tensorrt' has no attribute {name!r}")
        if name == "Builder":
            return lambda logger: _Builder(tensorrt_rtx.Builder(logger), self._timings)
        if name == "Runtime":
            return _Runtime
        return getattr(tensorrt_rtx, name)


class _Passing:
    """Passes everything on to the real object."""

    def __init__(self, real: Any) -> None:
        object.__setattr__(self, "real", real)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.real, name, value)


class _Builder(_Passing):
    def __init__(self, real: Any, timings: list[bytes]) -> None:
        super().__init__(real)
        object.__setattr__(self, "timings", timings)

    def create_builder_config(self) -> Any:
        return _Config(self.real.create_builder_config(), self.timings)

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        return self.real.build_serialized_network(network, config.real)


class _Config(_Passing):
    """Keeps timings, which TensorRT-RTX does not."""

    def __init__(self, real: Any, timings: list[bytes]) -> None:
        super().__init__(real)
        object.__setattr__(self, "timings", timings)

    def create_timing_cache(self, content: bytes) -> "_Cache":
        self.timings.append(content)
        return _Cache(content)

    def set_timing_cache(self, cache: "_Cache", ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        object.__setattr__(self, "cache", cache)
        return True

    def get_timing_cache(self) -> "_Cache":
        return self.cache


class _Cache:
    def __init__(self, content: bytes) -> None:
        self._content = content or b"timings of this GPU"

    def serialize(self) -> bytes:
        return self._content


class _Runtime:
    """Loads nothing, as on a machine without a GPU."""

    def __init__(self, _logger: Any) -> None:
        pass

    def deserialize_cuda_engine(self, _plan: bytes) -> None:
        return None


def fake_tensorrt(version: str, timings: list[bytes] | None = None) -> Library:
    """The library to hand to `write_plan`.

    Args:
        version: That it claims.
        timings: Gets the timings that every build starts from.
    """
    module = Fake103(version, [] if timings is None else timings)
    return Library("tensorrt", module, new_log(module))
