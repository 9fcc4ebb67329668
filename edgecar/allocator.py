"""The C library's memory, kept small in processes that run for days."""

import ctypes

ARENA_MAX = -8  # M_ARENA_MAX of <malloc.h>
ARENAS = 2


def keep_memory_together(arenas: int = ARENAS) -> bool:
    """Let all threads allocate from a few arenas instead of up to eight a core.

    Decoders come and go with their threads whenever a camera connects again. glibc gives threads
    arenas of their own, which keep what was freed in them: a process grows by some megabytes with
    each until all arenas were used. Call it before threads are started; it holds for the process.

    Args:
        arenas: How many there are at most from now on.

    Returns:
        True if the C library could be told: musl and those of other systems cannot.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(ARENA_MAX, arenas))
    except (AttributeError, OSError, TypeError):  # no such function, no such library
        return False


def give_back_memory() -> bool:
    """Return to the system what was freed: glibc keeps most of it, in case it is wanted again.

    Frames, coded pictures and compiled graphs of many sizes leave holes that nothing else fills.
    Takes milliseconds.

    Returns:
        True if the C library has the function.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # no such function, no such library
        return False
    return True
