"""Standard output that is closed, full, a pipe that ended, or takes ASCII alone."""

import subprocess
import sys
from pathlib import Path

import pytest

EDGECAR = (sys.executable, "-m", "edgecar")

# What a shell does with each command, and the exit code that follows.
SHELLS = {
    "closed output": ("{} >&-", 0),
    "closed output and error": ("{} >&- 2>&-", 0),
    "everything closed": ("{} <&- >&- 2>&-", 0),
    "full disk": ("{} > /dev/full", 1),
    "reader that left": ("{} | true; exit ${{PIPESTATUS[0]}}", None),
    "ASCII": ("PYTHONIOENCODING=ascii LC_ALL=C {}", 0),
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("shell", SHELLS)
def test_any_output_is_no_traceback(shell):
    line, code = SHELLS[shell]
    # Tables and JSON are written in different ways, and fail in different ways.
    for words in ("models", "models --json")[: 1 + (shell == "full disk")]:
        command = line.format(f"{sys.executable} -m edgecar {words}")
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
        assert b"Traceback" not in done.stderr
        assert b"Exception" not in done.stderr
        if code is not None:
            assert done.returncode == code
        assert done.stderr.count(b"edgecar: ") == (shell == "full disk")
        if shell == "ASCII":
            assert done.stdout.isascii()
            assert b"\\u" not in done.stdout


def test_what_is_opened_first_is_not_taken_for_a_closed_output(tmp_path):
    """A library that prints would else write into the file that got the number of the output."""
    command = (
        "from edgecar.cli.process import open_streams; open_streams()\n"
        "import os; file = open('result', 'wb'); os.write(1, b'printed'); os.write(2, b'printed')"
    )
    line = f'{sys.executable} -c "{command}" <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", line], cwd=tmp_path, check=False).returncode == 0
    assert (tmp_path / "result").read_bytes() == b""


def test_package_runs_as_a_module():
    done = subprocess.run([*EDGECAR, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Usage: edgecar [OPTIONS]" in done.stdout
