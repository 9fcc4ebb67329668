"""Where a number comes from: the machine, the libraries, the commit."""

import os
import platform
import shutil
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TypedDict

from edgecar.files import PACKAGE

# What decides which CPU kernels run: vector width, bfloat16 and INT8 arithmetic.
CPU_FEATURES = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16"),  # x86
    *("amx_bf16", "amx_int8", "amx_tile"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve"),  # Arm
)

# Label and the distributions that can provide it.
LIBRARIES = {
    "edgecar": ("edgecar",),
    "numpy": ("numpy",),
    "opencv": (
        *("opencv-python-headless", "opencv-python"),
        *("opencv-contrib-python-headless", "opencv-contrib-python"),
    ),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt-rtx", "tensorrt_rtx"),
    **{name: (name,) for name in ("av", "torch", "torchmetrics", "scipy", "pycocotools")},
}

CPUINFO = Path("/proc/cpuinfo")
DEVICE_TREE_MODEL = Path("/proc/device-tree/model")
# Files that measuring writes; changing them does not change what is measured.
GENERATED = ("benchmarks/results", "benchmarks/README.md", "benchmarks/pages")


class Machine(TypedDict):
    """The facts that a speed depends on; no host name, no user."""

    cpu: str
    cpu_features: list[str]
    cores: int
    memory_gib: float
    os: str
    python: str
    gpus: list[str]
    jetson: str | None


def machine_facts() -> Machine:
    """This machine, as far as it can be asked without a library of an engine."""
    text = CPUINFO.read_text(errors="replace") if CPUINFO.exists() else ""
    cpu, features = cpu_from_cpuinfo(text)
    return Machine(
        cpu=cpu or platform.processor() or platform.machine(),
        cpu_features=features,
        cores=_cores(),
        memory_gib=round(_memory_bytes() / 2**30, 1),
        os=platform.platform(),
        python=platform.python_version(),
        gpus=_gpus(),
        jetson=_jetson(),
    )


def _memory_bytes() -> int:
    """Memory of the whole machine."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    import psutil  # Windows

    total: int = psutil.virtual_memory().total
    return total


def machine_line(machine: Machine) -> str:
    """The machine in a few words, for captions.

    Example:
        >>> machine_line({"cpu": "Atom", "cpu_features": [], "cores": 4, "memory_gib": 8.0,
        ...               "os": "Linux", "python": "3.11", "gpus": [], "jetson": None})
        'Atom, 4 cores, 8 GiB'
    """
    named = [machine["jetson"]] if machine["jetson"] else []
    cores = f"{machine['cores']} core{'s' if machine['cores'] != 1 else ''}"
    facts = [*named, machine["cpu"], cores, f"{machine['memory_gib']:.0f} GiB"]
    return ", ".join([*facts, *machine["gpus"]])


def cpu_from_cpuinfo(text: str) -> tuple[str | None, list[str]]:
    """Model name (None on Arm) and the instruction sets that matter, from ``/proc/cpuinfo``."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())  # the first core speaks for all
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return fields.get("model name"), [feature for feature in CPU_FEATURES if feature in flags]


def versions() -> dict[str, str]:
    """Installed version of each library that a result depends on, without importing any.

    Example:
        >>> "numpy" in versions()
        True
    """
    found: dict[str, str] = {}
    for label, distributions in LIBRARIES.items():
        for distribution in reversed(distributions):
            with suppress(metadata.PackageNotFoundError):
                found[label] = metadata.version(distribution)
    return found


def commit_id(package: Path = PACKAGE) -> str | None:
    """The commit of edgecar's checkout, 40 hexadecimal digits, with ``-dirty`` if files differ.

    Only tracked files count, and result files and the tables made from them do not. None where
    edgecar is installed from a wheel, also one inside another project's checkout.
    """
    root = package.resolve().parent
    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "HEAD")
    if top is None or commit is None or Path(top).resolve() != root:
        return None
    outside = [f":(exclude){path}" for path in GENERATED]
    changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *outside)
    return f"{commit}-dirty" if changes else commit


def _git(folder: Path, *words: str) -> str | None:
    """Output of a git command; None if git is missing or says no."""
    # Inside a hook, GIT_DIR and the like point at the repository of the hook.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return _output(["git", "-C", str(folder), *words], environment)


def _output(command: list[str], environment: dict[str, str] | None = None) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cores() -> int:
    """Cores this process may use, which a container can make fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU."""
    fields = "--query-gpu=name,memory.total,driver_version"
    listed = _output(["nvidia-smi", fields, "--format=csv,noheader"])
    return [
        "{} ({}, driver {})".format(*(part.strip() for part in line.split(",")))
        for line in (listed or "").splitlines()
        if line.count(",") == 2
    ]


def _jetson() -> str | None:
    """Name of the board in the device tree; other Arm boards have one too."""
    try:
        return DEVICE_TREE_MODEL.read_text(errors="replace").strip("\0 \n") or None
    except OSError:
        return None


COMMIT = commit_id()
"""Commit of the code that this process runs, read when it starts."""
