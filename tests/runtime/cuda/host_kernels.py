"""The kernels' own sources, compiled by a C++ compiler and run over the grid in loops."""

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest

from edgecar.runtime.cuda.device import FOLDER, KERNELS

# No fused multiply-add, as on the GPU.
FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off")
TYPES = {"p": ctypes.c_void_p, "i": ctypes.c_int, "f": ctypes.c_float}


@cache
def _libraries() -> dict[str, Any]:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler here to compile the kernels' bodies with")
    folder = Path(mkdtemp(prefix="kernels-"))
    functions = {}
    for file, kernels in KERNELS.items():
        library = folder / f"{file}.so"
        command = [compiler, *FLAGS, "-shared", "-fPIC", "-x", "c++", FOLDER / file]
        subprocess.run([*command, "-o", library], check=True)
        loaded = ctypes.CDLL(str(library))
        for name, kinds in kernels.items():
            functions[name] = getattr(loaded, name)
            functions[name].restype = None
            functions[name].argtypes = [TYPES[kind] for kind in kinds]
    shutil.rmtree(folder)  # they stay loaded
    return functions


def run(name: str, *arguments: Any) -> None:
    """Run a kernel over its whole grid; arrays stand for their addresses, None for a null one."""
    kernel = _libraries()[name]
    assert len(arguments) == len(kernel.argtypes)
    given = [
        argument.ctypes.data if isinstance(argument, np.ndarray) else argument
        for argument in arguments
    ]
    kernel(*given)
