"""The GPU of this machine, as its driver describes it.

Asked through the driver's own library: neither the CUDA toolkit nor a Python package is needed, so
that `edgecar build` and `edgecar doctor` can say what is missing.
"""

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t
from dataclasses import dataclass
from pathlib import Path

from edgecar.errors import EngineError

DRIVER = "libcuda.so.1"
DEVICE_TREE_MODEL = Path("/proc/device-tree/model")
L4T_RELEASE = Path("/etc/nv_tegra_release")
NAME_BYTES = 256

# Numbers of CUdevice_attribute in cuda.h.
MULTIPROCESSORS, INTEGRATED, MAJOR, MINOR = 16, 18, 75, 76


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: Name that its driver gives.
        compute_capability: Such as ``8.7``.
        multiprocessors: Number of multiprocessors.
        memory_mib: Device memory in MiB. On a Jetson this is shared with the CPU.
        integrated: It shares memory with the CPU, so that nothing has to be copied.
        cuda: Newest version of CUDA that the driver runs, such as ``12.6``.
        board: Name of the board in the device tree; empty on servers.
        l4t: First line of a Jetson's release file; empty elsewhere.
    """

    name: str
    compute_capability: str
    multiprocessors: int
    memory_mib: int
    integrated: bool
    cuda: str
    board: str
    l4t: str


def find_gpu(ordinal: int = 0) -> Gpu:
    """Return the GPU of this number.

    Raises:
        EngineError: There is no NVIDIA driver, or no such GPU.
    """
    driver = _Driver()
    count = driver.number("cuDeviceGetCount")
    if ordinal >= count:
        raise EngineError(f"the NVIDIA driver lists {count} GPU(s), asked for number {ordinal}")
    device = driver.number("cuDeviceGet", ordinal)
    cuda = driver.number("cuDriverGetVersion")  # 1000 times the major, 10 times the minor
    return Gpu(
        name=driver.name(device),
        compute_capability=f"{driver.fact(device, MAJOR)}.{driver.fact(device, MINOR)}",
        multiprocessors=driver.fact(device, MULTIPROCESSORS),
        memory_mib=driver.memory(device) >> 20,
        integrated=bool(driver.fact(device, INTEGRATED)),
        cuda=f"{cuda // 1000}.{cuda % 1000 // 10}",
        board=_first_line(DEVICE_TREE_MODEL) if L4T_RELEASE.exists() else "",
        l4t=_first_line(L4T_RELEASE),
    )


class _Driver:
    """The few calls that need no context."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(DRIVER)
        except OSError as error:
            raise EngineError(f"no NVIDIA driver here ({error})") from error
        self._call("cuInit", 0)

    def number(self, name: str, *arguments: int) -> int:
        """Return what a call writes to the integer it is given first."""
        answer = c_int()
        self._call(name, byref(answer), *arguments)
        return answer.value

    def fact(self, device: int, attribute: int) -> int:
        answer = c_int()
        self._call("cuDeviceGetAttribute", byref(answer), attribute, device)
        return answer.value

    def name(self, device: int) -> str:
        text = ctypes.create_string_buffer(NAME_BYTES)
        self._call("cuDeviceGetName", text, NAME_BYTES, device)
        return text.value.decode(errors="replace")

    def memory(self, device: int) -> int:
        answer = c_size_t()
        self._call("cuDeviceTotalMem_v2", byref(answer), device)
        return answer.value

    def _call(self, name: str, *arguments: object) -> None:
        error: int = getattr(self._library, name)(*arguments)
        if error:
            raise EngineError(f"the NVIDIA driver refuses {name}: {self._words(error)}")

    def _words(self, error: int) -> str:
        text = c_char_p()
        describe = self._library.cuGetErrorString
        describe.argtypes = [c_int, POINTER(c_char_p)]
        described = describe(error, byref(text)) == 0 and text.value
        return f"{text.value.decode()} ({error})" if described and text.value else f"error {error}"


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip("\0 \n").splitlines()
    except OSError:
        return ""
    return lines[0].strip("\0 ") if lines else ""
