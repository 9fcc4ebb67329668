"""What `import edgecar` gives, and what it does not load."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgecar

ROOT = Path(edgecar.__file__).parents[1]
HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "av", "cv2", "numpy", "safetensors", "typer")


def in_a_fresh_interpreter(script: str, *arguments: object) -> str:
    """What a script prints."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_names_are_sorted_and_all_there_is() -> None:
    assert edgecar.__all__ == sorted(edgecar.__all__)
    assert len(set(edgecar.__all__)) == len(edgecar.__all__)
    assert dir(edgecar) == edgecar.__all__


@pytest.mark.parametrize("name", edgecar.__all__)
def test_every_name_resolves_to_something_documented(name) -> None:
    thing = getattr(edgecar, name)
    assert callable(thing)
    assert inspect.getdoc(thing)
    assert thing.__module__.startswith("edgecar.")


def test_names_are_what_type_checkers_are_told() -> None:
    """The imports for type checkers and the table for run time must not drift apart."""
    source = inspect.getsource(edgecar).partition("if TYPE_CHECKING:")[2].partition("__all__")[0]
    told = {}
    for line in source.strip().splitlines():
        _, module, _, names = line.strip().split(maxsplit=3)
        attribute, _, public = names.partition(" as ")
        told[public or attribute] = (module, attribute)
    assert told == edgecar._HOMES
    assert sorted(told) == edgecar.__all__


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'edgecar' has no attribute 'restore'"):
        _ = edgecar.restore
    assert not hasattr(edgecar, "nothing")


def test_import_loads_no_library() -> None:
    script = (
        "import sys, edgecar; dir(edgecar); edgecar.EdgecarError; "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert in_a_fresh_interpreter(script) == "[]"


def test_export_stays_a_function() -> None:
    """A subpackage of that name would take its place on first import."""
    script = """
import edgecar
before = edgecar.export
import edgecar.exporter.to_onnx
from edgecar.exporter import checks, receptive, recipe
assert callable(before) and edgecar.export is before
assert edgecar.export is edgecar.exporter.to_onnx.export
print(type(edgecar.export).__name__)
"""
    assert in_a_fresh_interpreter(script) == "function"


RESTORE = """
import sys
import numpy as np
from edgecar.runtime.restorer import Restorer
with Restorer(sys.argv[1], engine=sys.argv[2], threads=1) as restorer:
    frame = np.arange(64 * 80, dtype=np.uint32).astype(np.uint8).reshape(64, 80)
    restored = restorer.luma(frame)
    assert restored.shape == frame.shape and (restored != frame).any()
loaded = [name for name in sys.modules if name.split(".")[0] in ("torch", "safetensors")]
loaded += [name for name in sys.modules if name.startswith(("edgecar.zoo", "edgecar.exporter"))]
print(restorer.engine.info.name, loaded)
"""


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_artifact_runs_without_torch_and_without_the_network(engine, exported, tmp_path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(exported("edgecar-xs").onnx)
    assert in_a_fresh_interpreter(RESTORE, path, engine) == f"{engine} []"


def test_torch_engine_is_the_control(exported, tmp_path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(exported("edgecar-xs").onnx)
    printed = in_a_fresh_interpreter(RESTORE, path, "torch")
    assert "'torch'" in printed
    assert "edgecar.zoo" not in printed  # the reference needs no network class either
