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


HOLES = """
import ctypes
from edgecar.allocator import give_back_memory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
blocks = [libc.malloc(ctypes.c_size_t(40_000)) for _ in range(2000)]
for block in blocks:
    ctypes.memset(block, 1, 40_000)
for number, block in enumerate(blocks):
    if number % 10:  # what stays keeps the heap from shrinking by itself
        libc.free(ctypes.c_void_p(block))
def resident():
    return int(open("/proc/self/statm").read().split()[1])
before = resident()
assert give_back_memory()
print((before - resident()) / before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="glibc alone has arenas")
def test_threads_share_arenas(tmp_path) -> None:
    many, few = (arenas(how, str(tmp_path / how)) for how in ("many", "few"))
    assert few <= allocator.ARENAS < many


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc alone keeps it")
def test_holes_are_given_back() -> None:
    command = [sys.executable, "-c", HOLES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0.4  # of 90 MB or so, 72


def test_another_c_library_is_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert not allocator.keep_memory_together()
    assert not allocator.give_back_memory()
