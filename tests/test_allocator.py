"""Arenas of the C library: as few as asked for, whatever threads come and go."""

import ctypes
import subprocess
import sys

import pytest

from edgecar import allocator

COUNT = """
import ctypes, re, sys, threading
from edgecar.allocator import keep_memory_together
if sys.argv[1] == "few":
    assert keep_memory_together()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
barrier = threading.Barrier(8)
def allocate():
    barrier.wait()
    for _ in range(100):
        libc.malloc(ctypes.c_size_t(1000))
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
print(len(re.findall("<heap nr=", open(sys.argv[2]).read())))
"""


def arenas(how: str, path: str) -> int:
    command = [sys.executable, "-c", COUNT, how, path]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="glibc alone has arenas")
def test_threads_share_arenas(tmp_path) -> None:
    many, few = (arenas(how, str(tmp_path / how)) for how in ("many", "few"))
    assert few <= allocator.ARENAS < many


def test_another_c_library_is_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert not allocator.keep_memory_together()
