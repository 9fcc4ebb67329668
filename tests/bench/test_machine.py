import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecar.bench import machine
from edgecar.bench.machine import (
    commit_id,
    cpu_from_cpuinfo,
    machine_facts,
    machine_line,
    versions,
)

X86 = """processor\t: 0
model name\t: AMD EPYC 9B45
flags\t\t: fpu sse2 avx2 avx512_bf16 avx512_vnni

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp i8mm\nCPU part\t: 0xd42\n"


def test_cpu_of_x86_and_arm() -> None:
    assert cpu_from_cpuinfo(X86) == ("AMD EPYC 9B45", ["avx2", "avx512_vnni", "avx512_bf16"])
    assert cpu_from_cpuinfo(ARM) == (None, ["asimd", "asimdhp", "asimddp", "i8mm"])
    assert cpu_from_cpuinfo("") == (None, [])


def test_this_machine() -> None:
    metadata = machine_facts()
    assert metadata["cpu"]
    assert 1 <= metadata["cores"] <= (os.cpu_count() or 1)
    assert 0.1 < metadata["memory_gib"] < 100_000
    assert metadata["python"] == sys.version.split()[0]
    assert machine_line(metadata).startswith(metadata["jetson"] or metadata["cpu"])


def test_gpus_and_boards_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listing = "NVIDIA H200, 143771 MiB, 570.1\nOrin, [N/A], 540.4\nNo devices were found"
    asked = []
    monkeypatch.setattr(machine, "_output", lambda command, *_: asked.append(command) or listing)
    board = tmp_path / "model"
    board.write_bytes(b"NVIDIA Jetson Orin Nano\0")
    monkeypatch.setattr(machine, "DEVICE_TREE_MODEL", board)
    metadata = machine_facts()
    gpus = ["NVIDIA H200 (143771 MiB, driver 570.1)", "Orin ([N/A], driver 540.4)"]
    assert (metadata["gpus"], metadata["jetson"]) == (gpus, "NVIDIA Jetson Orin Nano")
    assert asked[0][0] == "nvidia-smi"
    assert machine_line(metadata).startswith("NVIDIA Jetson Orin Nano, ")
    assert machine_line(metadata).endswith("Orin ([N/A], driver 540.4)")


def test_a_tool_that_is_missing_or_fails_gives_none() -> None:
    assert machine._output(["edgecar-no-such-tool"]) is None
    assert machine._output([sys.executable, "-c", "raise SystemExit(9)"]) is None
    assert machine._output([sys.executable, "-c", "print(' yes ')"]) == "yes"


def test_versions_are_those_installed_and_import_nothing() -> None:
    found = versions()
    assert found["numpy"] == np.__version__
    assert found["opencv"].startswith(cv2.__version__)
    code = (
        "import sys; from edgecar.bench.results import versions; found = versions();"
        "import edgecar.bench.tables;"
        "print(sorted({'torch', 'openvino', 'onnxruntime', 'matplotlib'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout == "[]\n", done.stderr


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, package = tmp_path / "checkout", tmp_path / "checkout" / "edgecar"
    package.mkdir(parents=True)
    (root / "benchmarks" / "results").mkdir(parents=True)
    for name in ("edgecar/code.py", "benchmarks/results/a.json", "benchmarks/README.md"):
        (root / name).write_text("1")
    git(tmp_path, "init", "-q", str(root))
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    head = git(root, "rev-parse", "HEAD")
    assert len(head) == 40
    assert commit_id(package) == head
    # Results and the tables made from them do not make a checkout dirty.
    for name in ("results/a.json", "README.md", "new.png"):
        (root / "benchmarks" / name).write_text("2")
    assert commit_id(package) == head
    # The environment of a hook does not mislead.
    with monkeypatch.context() as hook:
        hook.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
        assert commit_id(package) == head
    (package / "code.py").write_text("2")
    assert commit_id(package) == f"{head}-dirty"
    # A wheel inside another project's checkout has no commit.
    installed = root / ".venv" / "site-packages" / "edgecar"
    installed.mkdir(parents=True)
    assert commit_id(installed) is None
    assert commit_id(Path("/")) is None
