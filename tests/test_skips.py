"""The rule by which a skipped test fails a run that has everything installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import REFUSE, refused

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "reason",
    [
        "Skipped: needs a GPU",
        "Skipped: there is a GPU here",
        "Skipped: this ONNX Runtime has CUDA",
        "Skipped: could not import 'ultralytics': No module named 'ultralytics'",
    ],
)
def test_gpus_and_named_packages_are_no_fault(reason) -> None:
    assert refused([reason]) == []


@pytest.mark.parametrize(
    "reason",
    [
        "Skipped: needs Debian's chromium",
        "Skipped: no RTSP server of GStreamer",
        "Skipped: could not import 'pycocotools': No module named 'pycocotools'",
        "Skipped: unconditional skip",
        "Skipped",
    ],
)
def test_all_else_is(reason) -> None:
    assert refused(["Skipped: needs a GPU", reason]) == [reason]


@pytest.mark.parametrize(
    ("reason", "code", "workers"),
    [
        ("needs a tool", 1, "0"),
        pytest.param("needs a tool", 1, "1", marks=pytest.mark.slow),
        pytest.param("needs a GPU", 0, "0", marks=pytest.mark.slow),
    ],
)
def test_a_run_with_such_a_skip_fails(reason, code, workers, tmp_path) -> None:
    (tmp_path / "conftest.py").write_text(
        "from tests.skips import pytest_sessionfinish, pytest_terminal_summary\n"
    )
    (tmp_path / "test_one.py").write_text(
        f"import pytest\ndef test_one(): pytest.skip({reason!r})\ndef test_two(): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", workers, "-c", "/dev/null", tmp_path],
        env={**os.environ, REFUSE: "1", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert ("got 1 skipped tests, need none" in done.stdout) == bool(code)
