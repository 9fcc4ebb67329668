"""Check that C++ exceptions work in this process: GStreamer can break them.

Debian's GStreamer loads libunwind, whose ``_Unwind_Resume`` then comes before that of libgcc for
every library loaded later. A libstdc++ that was there before is bound to libgcc, and handing an
exception from one to the other ends the process. So it is in Python programs that import numpy
before GStreamer, and an engine after it (OpenVINO throws, and catches, when it is opened).
"""

import ctypes
import sys

from edgecar.errors import EngineError


class _Library(ctypes.Structure):
    """glibc's ``struct link_map``, a list in the order of loading (link.h)."""


_Library._fields_ = [
    ("address", ctypes.c_void_p),
    ("name", ctypes.c_char_p),
    ("dynamic", ctypes.c_void_p),
    ("next", ctypes.POINTER(_Library)),
]


def loaded_libraries() -> list[str]:
    """Paths of the libraries in this process, in the order of loading; empty where not known."""
    if sys.platform != "linux":
        return []
    library = ctypes.cast(ctypes.CDLL(None)._handle, ctypes.POINTER(_Library))
    names = []
    while library:
        names.append((library[0].name or b"").decode(errors="replace"))
        library = library[0].next
    return names


def unwinders_clash(libraries: list[str]) -> bool:
    """Return True if an engine loaded now would end the process at its first exception.

    Args:
        libraries: In the order of loading. The program's own come up to the dynamic linker.

    Example:
        >>> unwinders_clash(["ld-linux.so.2", "libstdc++.so.6", "libgcc_s.so.1", "libunwind.so.8"])
        True
        >>> unwinders_clash(["ld-linux.so.2", "libunwind.so.8", "libstdc++.so.6", "libgcc_s.so.1"])
        False
    """

    def place(name: str) -> int:
        return next((n for n, path in enumerate(libraries) if name in path), len(libraries))

    linker, unwind, engine = place("ld-linux"), place("libunwind.so"), place("libopenvino.so")
    # What the program itself or LD_PRELOAD brings along is the same for all that come later.
    late = linker < place("libgcc_s.so")
    after = linker < place("libstdc++.so") < unwind < len(libraries)
    return late and after and unwind < engine


def check_unwinding() -> None:
    """Refuse to go on where that would crash.

    Raises:
        EngineError: Libraries were loaded in an order in which C++ exceptions do not work.
    """
    if unwinders_clash(loaded_libraries()):
        raise EngineError(
            "numpy, cv2 or another C++ library was loaded before GStreamer, with which an engine "
            "would crash; import gi and call Gst.init first of all, or set "
            "LD_PRELOAD=libgcc_s.so.1"
        )
