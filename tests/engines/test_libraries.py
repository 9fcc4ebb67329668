"""Libraries are imported without telemetry, and what GPUs compute in is what is said."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgecar.engines import libraries
from edgecar.engines.libraries import KERNELS, KERNELS_KEPT
from edgecar.engines.onnxruntime import FULL_PRECISION, PROVIDERS
from edgecar.engines.select import open_engine
from edgecar.engines.tiles import OnnxRuntimeTiles
from edgecar.errors import EngineError
from tests.networks import unanswered

REPORTED = ("ORT_DISABLE_TELEMETRY", "TF_BUILD", "CI", "JENKINS_URL")
"""Variables that turn telemetry off; a machine that runs tests may have them."""

IMPORTS = {
    "openvino": "libraries.imported_openvino().Core()",
    "onnxruntime": "libraries.imported_onnxruntime().SessionOptions()",
    "quantization": "libraries.imported_onnxruntime('quantization')",
}


def ran(script: str, home: Path, **variables: str) -> str:
    """Return what a script prints in a process with an empty home and none of those variables."""
    given = {name: value for name, value in os.environ.items() if name not in REPORTED}
    given |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), **variables}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=given)
    return done.stdout


@pytest.mark.parametrize("name", IMPORTS)
def test_importing_a_library_leaves_nothing_and_asks_nobody(name, tmp_path) -> None:
    """ONNX Runtime's own threads call no Python; the files that it leaves give it away."""
    home = tmp_path / "home"
    home.mkdir()
    script = (
        "import os, sys, threading\n"
        "asked = []\n"
        "sys.addaudithook(lambda e, _a: asked.append(e) if e.startswith('socket.') else None)\n"
        "from edgecar.engines import libraries\n"
        f"{IMPORTS[name]}\n"
        "assert not [e for e in asked if e in ('socket.connect', 'socket.getaddrinfo')], asked\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "assert sys.modules.get('openvino_telemetry', 0) is not None\n"
    )
    ran(script, home)
    assert list(home.iterdir()) == []


def test_the_mark_of_a_build_server_is_gone_afterwards(tmp_path) -> None:
    script = (
        "import os\n"
        "from edgecar.engines import libraries\n"
        "libraries.imported_openvino()\n"
        "print(os.environ.get('TF_BUILD'))\n"
    )
    assert ran(script, tmp_path).strip() == "None"
    assert ran(script, tmp_path, TF_BUILD="mine").strip() == "mine"


def test_who_wants_telemetry_keeps_it(monkeypatch) -> None:
    monkeypatch.setenv(libraries.ONNXRUNTIME_SILENCE, "0")
    libraries.imported_onnxruntime()
    assert os.environ[libraries.ONNXRUNTIME_SILENCE] == "0"


@pytest.mark.parametrize(("own", "kept"), [({}, KERNELS_KEPT), ({KERNELS: "7"}, "7")])
def test_onednn_is_told_to_keep_few_kernels(own, kept, tmp_path) -> None:
    """Unless somebody asked for another number."""
    script = (
        "import os\n"
        "from edgecar.engines.libraries import imported_openvino\n"
        "imported_openvino()\n"
        f"print(os.environ.get({KERNELS!r}))\n"
    )
    assert ran(script, tmp_path, **own).strip() == kept


class Session:
    """Stands for ONNX Runtime on a GPU: remembers what it was asked for."""

    asked: list[tuple[str, dict[str, str]]]

    def __init__(self, _onnx, _options, providers) -> None:
        Session.asked = providers

    def get_providers(self) -> list[str]:
        return [name for name, _ in Session.asked]

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="input")]

    get_outputs = get_inputs

    def run(self, _names, _feed) -> list[np.ndarray]:
        raise AssertionError("nothing is computed here")


@pytest.fixture
def gpu(monkeypatch, reduced) -> None:
    reduced("edgecar-xs", "fp16")  # while the library is still itself
    library = libraries.imported_onnxruntime()
    monkeypatch.delenv(FULL_PRECISION[0], raising=False)
    monkeypatch.setattr(library, "InferenceSession", Session)
    monkeypatch.setattr(library, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(library, "preload_dlls", lambda: None, raising=False)


@pytest.fixture
def artifact(exported):
    return unanswered(exported("edgecar-xs"))  # the session here computes nothing


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("precision", "used", "said"),
    [(None, "0", "fp32"), ("fp32", "0", "fp32"), ("tf32", "1", "tf32")],
)
def test_fp32_on_cuda_is_tf32_only_if_it_is_called_so(artifact, precision, used, said) -> None:
    with open_engine(artifact, "onnxruntime:cuda", precision, 1) as engine:
        assert engine.info.precision == said
    assert [options["use_tf32"] for _, options in Session.asked] == [used]


@pytest.mark.usefixtures("gpu")
def test_lower_precision_on_cuda_keeps_its_fp32_layers(reduced) -> None:
    with open_engine(reduced("edgecar-xs", "fp16"), "onnxruntime:cuda", None, 1) as engine:
        assert engine.info.precision == "fp16"
    assert [options["use_tf32"] for _, options in Session.asked] == ["0"]


@pytest.mark.usefixtures("gpu")
def test_tiles_on_cuda_are_never_tf32(artifact) -> None:
    with OnnxRuntimeTiles(artifact, (1, 64, 64), stream=7) as tiles:
        assert tiles.info.precision == "fp32"
    assert [options["use_tf32"] for _, options in Session.asked] == ["0"]


@pytest.mark.usefixtures("gpu")
def test_tensorrt_in_onnxruntime_is_called_what_it_computes(artifact, monkeypatch) -> None:
    """The TensorRT provider has no option against TF32; NVIDIA's variable is the only way."""
    with open_engine(artifact, "onnxruntime:tensorrt", None, 1) as engine:
        assert engine.info.precision == "tf32"
    with pytest.raises(EngineError, match="in tf32; set NVIDIA_TF32_OVERRIDE=0, or leave"):
        open_engine(artifact, "onnxruntime:tensorrt", "fp32", 1)
    monkeypatch.setenv(*FULL_PRECISION)
    with open_engine(artifact, "onnxruntime:tensorrt", "fp32", 1) as engine:
        assert engine.info.precision == "fp32"


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_tf32_is_nowhere_else(artifact, name) -> None:
    with pytest.raises(EngineError, match=r"got --precision tf32.*leave --precision out"):
        open_engine(artifact, name, "tf32", 1)
