"""Arrays that are used again once nobody holds them any more."""

import weakref

import numpy as np

from edgecar.engines.base import Codes

MOST_FREE = 8  # a pipeline holds about as many frames; what is more is given back


class FramePool:
    """Hands out arrays of one shape without allocating for every frame.

    An array comes back when it and all views of it are gone, whoever held them. Allocating anew
    costs more than filling: the system hands out large arrays page by page, each zeroed.

    Example:
        >>> leases = FramePool((1, 2, 3))
        >>> first = leases.array()
        >>> place = first.ctypes.data
        >>> del first
        >>> leases.array().ctypes.data == place
        True
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._free: list[Codes] = []

    def array(self) -> Codes:
        """An array of the shape, with anything in it."""
        memory = self._free.pop() if self._free else np.empty(self._shape, np.uint8)
        lease = _Lease(memory)
        weakref.finalize(lease, _give_back, self._free, memory).atexit = False
        return np.asarray(lease)


class _Lease:
    """What numpy keeps alive for as long as an array or a view of it lives."""

    def __init__(self, memory: Codes) -> None:
        self.__array_interface__ = memory.__array_interface__


def _give_back(free: list[Codes], memory: Codes) -> None:
    if len(free) < MOST_FREE:
        free.append(memory)
