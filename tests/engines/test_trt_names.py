"""Code for TensorRT uses names that both 10.3 and 11 have, or asks first."""

import ast
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ENGINES = Path(__file__).parents[2] / "edgecar" / "engines"
SOURCES = [path.read_text() for path in ENGINES.glob("*.py") if "trt" in path.read_text()]
CLASSES = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "_context": "IExecutionContext",
    "_engine": "ICudaEngine",
}
"""What a variable of this name is, in code for TensorRT."""

GUARDS = {
    "IProgressMonitor": 'hasattr(config, "progress_monitor")',
    "config.progress_monitor": 'hasattr(config, "progress_monitor")',
    "builder.num_DLA_cores": 'getattr(builder, "num_DLA_cores", ',
    "engine.device_memory_size_v2": 'getattr(engine, "device_memory_size_v2", ',
    "ComputeCapability": "if library.is_rtx and",
    "config.num_compute_capabilities": "if library.is_rtx and",
    "config.set_compute_capability": "if library.is_rtx and",
}
"""Names that one version lacks, with what is asked before they are used."""

ENTRIES = (
    *("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL"),
    *("createInferRuntime_INTERNAL", "createNvOnnxParserRefitter_INTERNAL"),
    *("createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry", "getNvOnnxParserVersion"),
    *("getPluginRegistry", "initLibNvInferPlugins"),
)
"""What the binding of 10.3 takes from TensorRT's libraries when it is loaded."""

LISTING = """
import ctypes, importlib.util, json, sys
binding, *libraries = sys.argv[1:]
for library in libraries:
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
spec = importlib.util.spec_from_file_location("tensorrt", binding)
trt = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trt)
print(json.dumps({name: dir(getattr(trt, name)) for name in dir(trt)}))
"""


def used_names(source: str) -> set[str]:
    """``X.Y`` of every ``trt.X.Y``, and ``config.y`` of variables of TensorRT's classes."""
    found = set()
    for chain in re.findall(r"(?<![\w.])\w+(?:\.\w+)+", source):
        base, *path = chain.removeprefix("self.").split(".")
        if base == "trt" and path:
            found.add(".".join(part for part in path[:2] if not part.startswith("__")))
        elif base in CLASSES and path:
            found.add(f"{base}.{path[0]}")
    return found - {""}


USED = set().union(*map(used_names, SOURCES))


def has(names: dict[str, list[str]], name: str) -> bool:
    first, _, second = name.partition(".")
    of_class = names.get(CLASSES.get(first, first))
    return of_class is not None and (not second or second in of_class)


@pytest.fixture(scope="module")
def names_of_11() -> dict[str, list[str]]:
    """Names of TensorRT-RTX, which has the bindings of 11."""
    trt = pytest.importorskip("tensorrt_rtx")
    return {name: dir(getattr(trt, name)) for name in dir(trt)}


@pytest.fixture(scope="module")
def names_of_10_3(tmp_path_factory) -> dict[str, list[str]]:
    """Names of the binding that JetPack 6 has, loaded on libraries that are empty."""
    found, compiler = find_spec("tensorrt_bindings"), shutil.which("cc")
    if found is None or compiler is None:
        pytest.skip("no tensorrt-cu12-bindings 10.3.0 here, or no C compiler")
    package = Path(found.origin).parent
    folder = tmp_path_factory.mktemp("libraries")
    source = folder / "empty.c"
    source.write_text("".join(f"void {entry}(void) {{}}\n" for entry in ENTRIES))
    libraries = []
    for name in ("libnvinfer", "libnvonnxparser", "libnvinfer_plugin"):
        libraries.append(folder / f"{name}.so.10")
        options = ("-shared", "-fPIC", f"-Wl,-soname,{name}.so.10", "-o", libraries[-1])
        subprocess.run([compiler, source, *options], check=True)
    command = [sys.executable, "-c", LISTING, package / "tensorrt.so", *libraries]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    in_python = ast.parse((package / "__init__.py").read_text()).body
    functions = {node.name: [] for node in in_python if isinstance(node, ast.FunctionDef)}
    return json.loads(done.stdout) | functions


def test_names_are_found(names_of_11, names_of_10_3) -> None:
    """The control: of code, and of what only one version has."""
    source = "a = 1 << int(trt.A.B)\nconfig.c.d(trt.E)\nself.f.g\nbuilder.h"
    assert used_names(source) == {"A.B", "config.c", "E", "builder.h"}
    assert {"Builder", "config.set_flag", "parser.parse", "_context.infer_shapes"} <= USED
    assert has(names_of_10_3, "BuilderFlag.FP16")
    assert not has(names_of_11, "BuilderFlag.FP16")
    assert not has(names_of_10_3, "ComputeCapability")


@pytest.mark.parametrize("name", sorted(USED))
def test_name_is_in_both_versions_or_asked_for(name, names_of_11, names_of_10_3) -> None:
    if not (has(names_of_11, name) and has(names_of_10_3, name)):
        assert any(GUARDS[name] in source for source in SOURCES)  # KeyError: it is used unasked
