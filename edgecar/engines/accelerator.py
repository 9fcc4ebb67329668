"""Software for full speed on a GPU: the parts that this machine has, and those that it lacks."""

import re
import shutil
import subprocess
import sysconfig
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgecar.engines.gpu import Gpu, find_gpu
from edgecar.engines.libraries import imported_onnxruntime
from edgecar.engines.targets import target_of
from edgecar.engines.trt_library import INSTALL, MODULES, TITLES
from edgecar.errors import EngineError

DECODERS = ("nvv4l2decoder", "nvh264dec")  # of GStreamer: Jetson's, and that of other GPUs


def accelerator_facts() -> dict[str, Any]:
    """Describe this machine's GPU and the software for it.

    Returns:
        ``gpu``, the fields of `Gpu`, or None and in ``absence`` why; ``target``, the name of its
        target file; ``libraries``, TensorRT's editions with their versions; ``nvcc``; ``pycuda``;
        ``providers`` of ONNX Runtime; ``decoders`` of GStreamer on the GPU; ``power_mode`` of a
        Jetson; and ``missing``, what keeps the GPU from full speed, each with its remedy. None or
        empty where there is none.
    """
    gpu, absence = gpu_here()
    target = target_of(gpu) if gpu else None
    mode = re.search(r"NV Power Mode:\s*(\S+)", _said("nvpmodel", "-q"))
    facts: dict[str, Any] = {
        "gpu": vars(gpu) if gpu else None,
        "absence": absence,
        "target": target.name if target else None,
        "libraries": {},
        "nvcc": find_nvcc(),
        "pycuda": _distribution("pycuda"),
        "providers": [],
        "decoders": [n for n in DECODERS if "Factory Details" in _said("gst-inspect-1.0", n)],
        "power_mode": mode[1] if mode else None,
    }
    for name, module in MODULES.items():  # without loading it, which takes seconds and memory
        version = _distribution(name)
        if version or find_spec(module):
            facts["libraries"][name] = version or "found, version unknown"
    if find_spec("onnxruntime"):
        providers = imported_onnxruntime().get_available_providers()
        facts["providers"] = [each.removesuffix("ExecutionProvider") for each in providers]
    library = target.library if target else "tensorrt"
    lacks = []
    if library not in facts["libraries"]:
        lacks.append(f"{TITLES[library]}: {INSTALL[library]}")
    if facts["pycuda"] is None:
        lacks.append("pycuda: pip install pycuda (engines/README.md says what it needs)")
    if facts["nvcc"] is None:
        lacks.append("nvcc, which compiles the kernels: put the CUDA toolkit's bin folder on PATH")
    if not facts["decoders"]:
        wanted = DECODERS[0] if gpu and gpu.l4t else DECODERS[1]
        lacks.append(f"GStreamer's {wanted}: without it the CPU decodes")
    if gpu and gpu.l4t and mode and not mode[1].startswith("MAXN"):
        lacks.append(
            f"power mode is {mode[1]}: sudo nvpmodel -m 0 && sudo jetson_clocks, then build"
        )
    return {**facts, "missing": lacks if gpu else []}


def gpu_here() -> tuple[Gpu | None, str]:
    """Return the GPU, or why there is none."""
    try:
        return find_gpu(), ""
    except EngineError as error:
        return None, str(error)


def find_nvcc() -> str | None:
    """Return the compiler on the path, in the toolkit's folder or from PyPI, if there is one."""
    wheels = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13"
    usual = (folder / "bin" / "nvcc" for folder in (Path("/usr/local/cuda"), wheels))
    return shutil.which("nvcc") or next((str(path) for path in usual if path.exists()), None)


def _distribution(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _said(*command: str) -> str:
    """Return the output of a program; empty where there is none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
