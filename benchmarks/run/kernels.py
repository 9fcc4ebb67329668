"""The kernels, compiled for every GPU they are meant for: registers and spills.

``python -m benchmarks.run.kernels`` needs nvcc and no GPU, and writes `engines/kernels.json`.
nvcc comes with the CUDA toolkit, or from PyPI (``pip install '.[dev]'``).
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edgecar.engines.accelerator import find_nvcc
from edgecar.errors import SettingsError
from edgecar.files import atomic_write
from edgecar.runtime.cuda.device import CAPABILITIES, DEVICE_FLAGS, FOLDER, KERNELS

FUNCTION = re.compile(r"Compiling entry function '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")


def known_capabilities(nvcc: str) -> list[str]:
    """List the `CAPABILITIES` that a compiler knows: 12 has no Thor, 13 nothing before Turing."""
    listed = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True)
    known = set(listed.stdout.split())
    return [c for c in CAPABILITIES if f"compute_{c.replace('.', '')}" in known]


def compiled(nvcc: str, file: str, capability: str) -> dict[str, dict[str, int]]:
    """Compile a file of kernels for one GPU."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(nvcc, *DEVICE_FLAGS, f"-arch=sm_{capability.replace('.', '')}"),
            *("-Xptxas", "-v", "-cubin", str(FOLDER / file), "-o", f"{folder}/kernels.cubin"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SettingsError(f"{file} does not compile for {capability}: {done.stderr.strip()}")
    return usage_from_log(done.stderr)


def usage_from_log(log: str) -> dict[str, dict[str, int]]:
    """Read the log of ``ptxas -v``, kernel by kernel.

    Example:
        >>> usage_from_log('''ptxas info : Compiling entry function 'gather' for 'sm_87'
        ...     0 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
        ... ptxas info : Used 19 registers, used 0 barriers''')
        {'gather': {'stack': 0, 'spill_stores': 4, 'spill_loads': 8, 'registers': 19}}
    """
    usage: dict[str, dict[str, int]] = {}
    name = ""
    for line in log.splitlines():
        if found := FUNCTION.search(line):
            name = found[1]
        elif found := SPILLS.search(line):
            names = ("stack", "spill_stores", "spill_loads")
            usage[name] = dict(zip(names, map(int, found.groups()), strict=True))
        elif found := REGISTERS.search(line):
            usage[name]["registers"] = int(found[1])
    return usage


def sources_sha256() -> str:
    """Hash of all sources, to see whether a result is of these."""
    contents = (path.read_bytes() for path in sorted(FOLDER.iterdir()))
    return hashlib.sha256(b"".join(contents)).hexdigest()


def measured(nvcc: str) -> dict[str, Any]:
    """Every kernel on every GPU that the compiler knows."""
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True)
    release = re.search(r"release [\d.]+, V([\d.]+)", version.stdout)
    return {
        "nvcc": release[1] if release else "unknown",
        "flags": list(DEVICE_FLAGS),
        "sources_sha256": sources_sha256(),
        "kernels": {
            capability: {
                name: row
                for file in KERNELS
                for name, row in compiled(nvcc, file, capability).items()
            }
            for capability in known_capabilities(nvcc)
        },
    }


def main() -> None:
    """Compile and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nvcc", default=find_nvcc())
    parser.add_argument("--save", type=Path, default=Path("engines/kernels.json"))
    given = parser.parse_args()
    if given.nvcc is None:
        parser.error("no nvcc on the path; give --nvcc, or see the top of this file")
    result = measured(given.nvcc)
    with atomic_write(given.save) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    for capability, kernels in result["kernels"].items():
        most = max(row["registers"] for row in kernels.values())
        spills = sum(row["spill_stores"] for row in kernels.values())
        sys.stdout.write(f"sm {capability}: at most {most} registers, {spills} bytes of spills\n")


if __name__ == "__main__":
    main()
