"""The kernels' sources, their arguments, and how they are compiled."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

FOLDER = Path(__file__).parent / "kernels"
STANDARD = "c++17"
WORD = 16
"""Bytes that a thread of ``changed`` compares."""

CAPABILITIES = ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "11.0")
"""GPUs that the kernels are kept compiling for: T4 to Thor."""

Kind = Literal["p", "i", "f"]
"""Of an argument: address, 32-bit integer, 32-bit float."""

_TILES = "ppp" + "iiii"  # windows, chosen, found; first, batch, tile height and width
_PICTURE = "pipi" + "ii" + "iiiiii"  # luma and chroma with pitches; height, width; matrix

ARGUMENTS: Mapping[str, str] = MappingProxyType(
    {
        "changed": "pp" + "iiii" + "pi" + "ii" + "ip",
        "listed": "piipp",
        **{f"gather_{kind}": "piiii" + _TILES + "fp" for kind in ("fp32", "fp16", "int8")},
        **{f"scatter_{kind}": "pi" + _TILES + "pii" for kind in ("fp32", "fp16")},
        "nv12_to_bgr": _PICTURE + "p",
        **{f"letterbox_{kind}": _PICTURE + "iiiiiii" + "p" for kind in ("fp32", "fp16")},
    }
)
"""What each kernel takes, a letter of `Kind` an argument, in the order of its source."""

FILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "changed.cu": ("changed", "listed"),
        "gather.cu": ("gather_fp32", "gather_fp16", "gather_int8"),
        "scatter.cu": ("scatter_fp32", "scatter_fp16"),
        "detector.cu": ("nv12_to_bgr", "letterbox_fp32", "letterbox_fp16"),
    }
)
"""Kernels by file."""

HOST_FLAGS = (f"-std={STANDARD}", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off")
"""For a C++ compiler, which makes functions of kernels: no fused multiply-add, as on the GPU."""

DEVICE_FLAGS = (f"-std={STANDARD}", "-O3", "-fmad=false")
"""For nvcc. What is rounded must not depend on the compiler: no fused multiply-add."""
