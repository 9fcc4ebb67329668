"""The C library's memory, kept small in processes that run for days."""

import ctypes

ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -8, -3, -1  # M_… of <malloc.h>
ARENAS = 2

LARGE = 4 << 20
"""Bytes: more than a frame of 1080p has, less than a network's buffers for a picture of 720p."""

SPARE = 64 << 20
"""Bytes that are kept at the end of the heap for what comes next."""


def keep_memory_together(arenas: int = ARENAS) -> bool:
    """Let all threads allocate from a few arenas instead of up to eight a core.

    Decoders come and go with their threads whenever a camera connects again. glibc gives threads
    arenas of their own, which keep what was freed in them: a process grows by some megabytes with
    each until all arenas were used. And what is large lies by itself and goes back whole once it is
    freed: glibc stops doing so when it sees such things come and go, and a network's buffers then
    leave holes in which frames settle. Call it before threads are started; it holds for the
    process.

    Args:
        arenas: How many there are at most from now on.

    Returns:
        Whether the C library could be told: musl and those of other systems cannot.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
        limits = {ARENA_MAX: arenas, MMAP_THRESHOLD: LARGE, TRIM_THRESHOLD: SPARE}
        return all(mallopt(limit, value) for limit, value in limits.items())
    except (AttributeError, OSError, TypeError):  # no such function, no such library
        return False


def give_back_memory() -> bool:
    """Return to the system what was freed: glibc keeps most of it, in case it is wanted again.

    Frames, coded pictures and compiled graphs of many sizes leave holes that nothing else fills.
    Takes milliseconds.

    Returns:
        Whether the C library could be told.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # no such function, no such library
        return False
    return True
