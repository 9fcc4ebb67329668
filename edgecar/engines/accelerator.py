"""Software for full speed on a GPU: the parts that this machine has, and those that it lacks."""

import re
import shutil
import subprocess
import sysconfig
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict

from edgecar.engines.gpu import Gpu, find_gpu
from edgecar.engines.libraries import imported_onnxruntime
from edgecar.engines.targets import LibraryName, target_of
from edgecar.engines.trt_library import INSTALL, MODULES, TITLES
from edgecar.errors import EngineError

POWER_MODE = re.compile(r"NV Power Mode:\s*(\S+)")
DECODERS = ("nvv4l2decoder", "nvh264dec")  # of GStreamer: Jetson's, and that of other GPUs


class Accelerator(TypedDict):
    """Metadata of a GPU and its software; None or empty where there is none."""

    gpu: dict[str, Any] | None
    absence: str
    target: str | None
    libraries: dict[str, str]
    nvcc: str | None
    pycuda: str | None
    providers: list[str]
    decoders: list[str]
    power_mode: str | None
    missing: list[str]


def accelerator_facts() -> Accelerator:
    """This machine's."""
    gpu, absence = gpu_here()
    target = target_of(gpu) if gpu else None
    facts = Accelerator(
        gpu=vars(gpu) if gpu else None,
        absence=absence,
        target=target.name if target else None,
        libraries={name: found for name in MODULES if (found := _version(name)) is not None},
        nvcc=find_nvcc(),
        pycuda=_distribution("pycuda"),
        providers=_providers(),
        decoders=_decoders(),
        power_mode=_power_mode(),
        missing=[],
    )
    if gpu:
        facts["missing"] = missing_for(gpu, facts, target.library if target else "tensorrt")
    return facts


def find_nvcc() -> str | None:
    """The compiler on the path, in the toolkit's folder or from PyPI; None if there is none."""
    wheels = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13"
    folders = (Path("/usr/local/cuda"), wheels)
    usual = (str(each / "bin" / "nvcc") for each in folders if (each / "bin" / "nvcc").exists())
    return shutil.which("nvcc") or next(usual, None)


def gpu_here() -> tuple[Gpu | None, str]:
    """The GPU, or why there is none."""
    try:
        return find_gpu(), ""
    except EngineError as error:
        return None, str(error)


def missing_for(gpu: Gpu, facts: Accelerator, library: LibraryName) -> list[str]:
    """List what keeps a GPU from full speed, each with its remedy.

    Args:
        gpu: The GPU.
        facts: Software that was found.
        library: Name of the library that suits the GPU.
    """
    lacks = []
    if library not in facts["libraries"]:
        lacks.append(f"{TITLES[library]}: {INSTALL[library]}")
    if facts["pycuda"] is None:
        lacks.append("pycuda: pip install pycuda (engines/README.md says what it needs)")
    if facts["nvcc"] is None:
        lacks.append("nvcc, which compiles the kernels: put the CUDA toolkit's bin folder on PATH")
    if not facts["decoders"]:
        wanted = DECODERS[0] if gpu.l4t else DECODERS[1]
        lacks.append(f"GStreamer's {wanted}: without it the CPU decodes")
    mode = facts["power_mode"]
    if gpu.l4t and mode and not mode.startswith("MAXN"):
        lacks.append(f"power mode is {mode}: sudo nvpmodel -m 0 && sudo jetson_clocks, then build")
    return lacks


def power_mode_from(text: str) -> str | None:
    """The mode that ``nvpmodel -q`` names.

    Example:
        >>> power_mode_from("NV Power Mode: MAXN_SUPER")
        'MAXN_SUPER'
    """
    found = POWER_MODE.search(text)
    return found[1] if found else None


def _power_mode() -> str | None:
    return power_mode_from(_said("nvpmodel", "-q"))


def _version(name: LibraryName) -> str | None:
    """Version of TensorRT or its edition, without loading it, which takes seconds and memory."""
    for distribution in (name, name.replace("-", "_")):
        if found := _distribution(distribution):
            return found
    return "found, version unknown" if find_spec(MODULES[name]) else None


def _distribution(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _providers() -> list[str]:
    if not find_spec("onnxruntime"):
        return []
    onnxruntime = imported_onnxruntime()
    return [p.removesuffix("ExecutionProvider") for p in onnxruntime.get_available_providers()]


def _decoders() -> list[str]:
    """Those of GStreamer that decode on the GPU."""
    return [name for name in DECODERS if "Factory Details" in _said("gst-inspect-1.0", name)]


def _said(*command: str) -> str:
    """Output of a program; empty where there is none."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
