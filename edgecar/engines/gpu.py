"""The GPU of this machine, as its driver describes it.

Asked through the driver's own library: neither the CUDA toolkit nor a Python package is needed, so
that `edgecar build` and `edgecar doctor` can say what is missing.
"""

import ctypes
from ctypes import byref, c_char_p, c_int, c_size_t
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecar.errors import EngineError

DRIVER = "libcuda.so.1"
DEVICE_TREE_MODEL = Path("/proc/device-tree/model")
L4T_RELEASE = Path("/etc/nv_tegra_release")
NAME_BYTES = 256

# Numbers of CUdevice_attribute in cuda.h.
MULTIPROCESSORS, INTEGRATED, MAJOR, MINOR = 16, 18, 75, 76


@dataclass(frozen=True)
class Gpu:
    """One GPU."""

    name: str  # that its driver gives
    compute_capability: str  # such as 8.7
    multiprocessors: int
    memory_mib: int  # on a Jetson shared with the CPU
    integrated: bool  # it shares memory with the CPU, so that nothing has to be copied
    cuda: str  # newest version that the driver runs, such as 12.6
    board: str  # name in the device tree; empty on servers
    l4t: str  # first line of a Jetson's release file; empty elsewhere


def find_gpu(ordinal: int = 0) -> Gpu:
    """Return the GPU of this number.

    Raises:
        EngineError: There is no NVIDIA driver, or no such GPU.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError as error:
        raise EngineError(f"no NVIDIA driver here ({error})") from error

    def call(name: str, *arguments: Any) -> None:
        code = getattr(driver, name)(*arguments)
        if code:
            text = c_char_p()
            driver.cuGetErrorString(code, byref(text))
            words = f"{text.value.decode()} ({code})" if text.value else f"error {code}"
            raise EngineError(f"the NVIDIA driver refuses {name}: {words}")

    def number(name: str, *arguments: int) -> int:
        answer = c_int()
        call(name, byref(answer), *arguments)
        return answer.value

    call("cuInit", 0)
    count = number("cuDeviceGetCount")
    if ordinal >= count:
        raise EngineError(f"the NVIDIA driver lists {count} GPU(s), asked for number {ordinal}")
    device = number("cuDeviceGet", ordinal)
    multiprocessors, integrated, major, minor = (
        number("cuDeviceGetAttribute", attribute, device)
        for attribute in (MULTIPROCESSORS, INTEGRATED, MAJOR, MINOR)
    )
    name, memory = ctypes.create_string_buffer(NAME_BYTES), c_size_t()
    call("cuDeviceGetName", name, NAME_BYTES, device)
    call("cuDeviceTotalMem_v2", byref(memory), device)
    cuda = number("cuDriverGetVersion")  # 1000 times the major, 10 times the minor
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major}.{minor}",
        multiprocessors=multiprocessors,
        memory_mib=memory.value >> 20,
        integrated=bool(integrated),
        cuda=f"{cuda // 1000}.{cuda % 1000 // 10}",
        board=_first_line(DEVICE_TREE_MODEL) if L4T_RELEASE.exists() else "",
        l4t=_first_line(L4T_RELEASE),
    )


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip("\0 \n").splitlines()
    except OSError:
        return ""
    return lines[0].strip("\0 ") if lines else ""
