"""Libraries are imported without telemetry, and keep few kernels."""

import os
import subprocess
import sys

import pytest

from edgecar.engines import libraries
from edgecar.engines.libraries import KERNELS, KERNELS_KEPT

REPORTED = ("ORT_DISABLE_TELEMETRY", "TF_BUILD", "CI", "JENKINS_URL")
"""Variables that turn telemetry off; a machine that runs tests may have them."""

IMPORTS = {
    "openvino": "libraries.imported_openvino().Core()",
    "onnxruntime": "libraries.imported_onnxruntime().SessionOptions()",
    "quantization": "libraries.imported_onnxruntime('quantization')",
}
SCRIPT = """
import os, sys, threading
asked = []
sys.addaudithook(lambda e, _a: asked.append(e) if e.startswith('socket.') else None)
from edgecar.engines import libraries
{imports}
assert not [e for e in asked if e in ('socket.connect', 'socket.getaddrinfo')], asked
assert threading.active_count() == 1, threading.enumerate()
assert sys.modules.get('openvino_telemetry', 0) is not None
print(os.environ.get('TF_BUILD'), os.environ.get({kernels!r}))
"""


@pytest.mark.parametrize(
    ("name", "given", "left"),
    [
        ("openvino", {}, f"None {KERNELS_KEPT}"),
        ("openvino", {"TF_BUILD": "mine", KERNELS: "7"}, "mine 7"),
        ("onnxruntime", {}, "None None"),
        ("quantization", {}, "None None"),
    ],
)
def test_importing_a_library_leaves_nothing_and_asks_nobody(name, given, left, tmp_path) -> None:
    """ONNX Runtime's own threads call no Python; the files that it leaves give it away."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        name: value for name, value in os.environ.items() if name not in (*REPORTED, KERNELS)
    }
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), **given}
    script = SCRIPT.format(imports=IMPORTS[name], kernels=KERNELS)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == left
    assert list(home.iterdir()) == []


def test_who_wants_telemetry_keeps_it(monkeypatch) -> None:
    monkeypatch.setenv(libraries.ONNXRUNTIME_SILENCE, "0")
    libraries.imported_onnxruntime()
    assert os.environ[libraries.ONNXRUNTIME_SILENCE] == "0"
