"""Restoring pictures where they lie in a buffer; knows nothing of GStreamer's bindings."""

import ctypes
import sys
from typing import Any, NamedTuple, get_args

import numpy as np

from edgecar.errors import EngineError, MediaError, SettingsError
from edgecar.media.frame import Colour, Frame, Plane, chroma_size
from edgecar.runtime.cleaner import open_restorer
from edgecar.runtime.restorer import Restorer
from edgecar.spec import WEIGHTS_FOR, Precision, Size

PLANES = {"I420": 3, "NV12": 2}
"""Planes by format: Y, U and V, or Y and pairs of U and V; 8-bit 4:2:0 both."""


class Layout(NamedTuple):
    """Where a picture lies in a buffer."""

    pixels: str
    """``I420`` or ``NV12``."""
    size: Size
    offsets: tuple[int, ...]
    """First byte of each plane."""
    strides: tuple[int, ...]
    """Bytes from one line of each plane to the next."""
    colour: Colour

    def frame(self, data: memoryview) -> Frame:
        """Return the picture without a copy: writing to its planes writes to the buffer.

        Raises:
            MediaError: The format is another, or the buffer ends before the picture.
        """
        if self.pixels not in PLANES:
            raise MediaError(f"got {self.pixels} pixels; convert to {' or '.join(PLANES)}")

        def plane(number: int, size: Size, first: int = 0, step: int = 1) -> Plane:
            offset, stride = self.offsets[number] + first, self.strides[number]
            found: Plane = np.ndarray(size, np.uint8, data, offset, (stride, step))
            return found

        small = chroma_size(self.size)
        try:
            y = plane(0, self.size)
            if self.pixels == "I420":
                u, v = plane(1, small), plane(2, small)
            else:
                u, v = plane(1, small, 0, 2), plane(1, small, 1, 2)
        except (TypeError, ValueError) as error:
            height, width = self.size
            raise MediaError(
                f"a buffer of {len(data)} bytes ends before its {self.pixels} picture of "
                f"{width}x{height}; check the element that sends it"
            ) from error
        return Frame(y, u, v, colour=self.colour)


def restore(restorer: Restorer, data: memoryview, layout: Layout) -> None:
    """Restore a picture in a buffer; bytes between its lines stay as they are."""
    before = layout.frame(data)
    after = restorer.restore(before)
    for old, new in ((before.y, after.y), (before.u, after.u), (before.v, after.v)):
        if new is not old:
            np.copyto(old, new)


def restorer_from(
    network: str,
    coder: str,
    engine: str,
    precision: str,
    reuse: bool,
    threads: int,
    quantiser: int,
) -> Restorer:
    """Open a restorer by the element's properties; no precision is the engine's choice.

    A quantiser of -1 is that of no stream: decoded pictures state none.

    Raises:
        SettingsError: The coder or precision is unknown, or the network takes no such quantiser.
        ArtifactError: There is no such network, or no weights of it for the coder.
        EngineError: The engine is absent or refuses the artifact, or would crash here.
    """
    known: Any = {
        "coder": (coder, WEIGHTS_FOR),
        "precision": (precision, ("", *get_args(Precision))),
    }
    for what, (name, names) in known.items():
        if name not in names:
            given = ", ".join(filter(None, names))
            raise SettingsError(f"{what} is {name!r}; give one of {given}")
    if unwinders_clash(loaded_libraries()):
        raise EngineError(
            "numpy, cv2 or another C++ library was loaded before GStreamer, with which an engine "
            "would crash; import gi and call Gst.init first of all, or set "
            "LD_PRELOAD=libgcc_s.so.1"
        )
    asked = None if quantiser < 0 else quantiser
    options: Any = {"coder": coder, "precision": precision or None, "quantiser": asked}
    return open_restorer(
        coder, network=network, engine=engine, reuse=reuse, threads=threads or None, **options
    )


class _Library(ctypes.Structure):
    """glibc's ``struct link_map``, a list in the order of loading (link.h)."""


_Library._fields_ = [
    ("address", ctypes.c_void_p),
    ("name", ctypes.c_char_p),
    ("dynamic", ctypes.c_void_p),
    ("next", ctypes.POINTER(_Library)),
]


def loaded_libraries() -> list[str]:
    """Return the paths of this process's libraries in the order of loading; empty if unknown."""
    names: list[str] = []
    if sys.platform == "linux":
        library = ctypes.cast(ctypes.CDLL(None)._handle, ctypes.POINTER(_Library))
        while library:
            names.append((library[0].name or b"").decode(errors="replace"))
            library = library[0].next
    return names


def unwinders_clash(libraries: list[str]) -> bool:
    """Return True if an engine loaded now would end the process at its first exception.

    Debian's GStreamer loads libunwind, whose ``_Unwind_Resume`` then comes before that of libgcc
    for every library loaded later. A libstdc++ that was there before is bound to libgcc, and
    handing an exception from one to the other ends the process. So it is in Python programs that
    import numpy before GStreamer, and an engine after it.

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
