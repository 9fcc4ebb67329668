"""TensorRT 10.3 as far as building goes: the builder of TensorRT-RTX under the names of 10.3.

What 10.3 has not is not there either: code that wants it fails as it would on JetPack 6.
"""

from types import ModuleType, SimpleNamespace
from typing import Any

from edgecar.engines.trt_library import Library, new_log

NAMES = {
    *("Builder", "BuilderFlag", "DeviceType", "HardwareCompatibilityLevel", "ILogger"),
    *("IProgressMonitor", "LayerInformationFormat", "Logger", "MemoryPoolType"),
    *("NetworkDefinitionCreationFlag", "OnnxParser", "ProfilingVerbosity", "Runtime"),
    *("TensorIOMode", "nptype"),
}


class Fake103(ModuleType):
    """A module with the names that both versions have."""

    def __init__(self, version: str, timings: list[bytes]) -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self._timings = timings

    def __getattr__(self, name: str) -> Any:
        import tensorrt_rtx

        if name not in NAMES:
            raise AttributeError(f"module 'tensorrt' has no attribute {name!r}")
        if name == "Builder":
            return lambda logger: _builder(tensorrt_rtx.Builder(logger), self._timings)
        if name == "Runtime":  # loads nothing, as on a machine without a GPU
            return lambda _log: SimpleNamespace(deserialize_cuda_engine=lambda _plan: None)
        return getattr(tensorrt_rtx, name)


class _Proxy:
    """Passes on to a real object what it does not replace."""

    def __init__(self, real: Any, **replaced: Any) -> None:
        self.__dict__.update(replaced, real=real)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.real, name, value)


def _builder(real: Any, timings: list[bytes]) -> _Proxy:
    """A builder that keeps timings, which TensorRT-RTX does not."""

    def new_config() -> _Proxy:
        used: list[Any] = []

        def create_timing_cache(content: bytes) -> SimpleNamespace:
            timings.append(content)
            return SimpleNamespace(serialize=lambda: content or b"timings of this GPU")

        def set_timing_cache(cache: Any, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            used.append(cache)
            return True

        return _Proxy(
            real.create_builder_config(),
            create_timing_cache=create_timing_cache,
            set_timing_cache=set_timing_cache,
            get_timing_cache=lambda: used[-1],
        )

    def build(network: Any, config: _Proxy) -> Any:
        return real.build_serialized_network(network, config.real)

    return _Proxy(real, create_builder_config=new_config, build_serialized_network=build)


def fake_tensorrt(version: str, timings: list[bytes] | None = None) -> Library:
    """A library of a version; the timings that every build starts from are added to the list."""
    module = Fake103(version, [] if timings is None else timings)
    return Library("tensorrt", module, new_log(module))
