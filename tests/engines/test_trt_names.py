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
NAMES = json.loads(Path(__file__).with_name("tensorrt_names.json").read_text())
CLASSES = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
}
"""What a variable of this name is, in code for TensorRT."""


def used_names(source: str) -> set[str]:
    """``X.Y`` of every ``trt.X.Y``, and ``config.y`` of variables of TensorRT's classes."""
    found = set()
    for chain in re.findall(r"(?<![\w.])\w+(?:\.\w+)+", source):
        base, *path = chain.split(".")
        if base == "trt":
            found.add(".".join(part for part in path[:2] if not part.startswith("__")))
        elif base in CLASSES:
            found.add(f"{base}.{path[0]}")
    return found


def all_used() -> set[str]:
    sources = [path.read_text() for path in ENGINES.glob("*.py") if "trt" in path.read_text()]
    return set().union(*map(used_names, sources)) - {""}


def test_names_are_found() -> None:
    """The control."""
    source = "a = 1 << int(trt.A.B)\nconfig.c.d(trt.E)\nself.f.g\nbuilder.h"
    assert used_names(source) == {"A.B", "config.c", "E", "builder.h"}
    assert {"Builder", "config.set_flag", "parser.parse"} <= all_used()


@pytest.mark.parametrize("name", sorted(all_used()))
def test_name_is_in_both_versions_or_asked_for(name) -> None:
    assert name not in NAMES["gone in 11"]
    if name in NAMES["both"]:
        return
    guard = NAMES["only in one"][name]  # KeyError: a name that nobody looked up yet
    sources = "".join(path.read_text() for path in ENGINES.glob("*.py"))
    variable, _, attribute = guard.partition(".")
    asked = (f'hasattr({variable}, "{attribute}")', f'getattr({variable}, "{attribute}", ')
    assert guard in ("library.is_rtx", "names in LOWER") or any(a in sources for a in asked)


def test_names_are_in_the_line_of_11() -> None:
    """TensorRT-RTX has the bindings of 11; what it lacks is not there either."""
    trt = pytest.importorskip("tensorrt_rtx")
    for name in NAMES["both"]:
        first, _, second = name.partition(".")
        assert hasattr(getattr(trt, CLASSES.get(first, first)), second or "__name__"), name
    for name in NAMES["gone in 11"]:
        first, _, second = name.partition(".")
        assert not hasattr(getattr(trt, CLASSES.get(first, first)), second), name


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
        subprocess.run(
            [compiler, "-shared", "-fPIC", source, f"-Wl,-soname,{name}.so.10",
             "-o", libraries[-1]],
            check=True,
        )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", LISTING, package / "tensorrt.so", *libraries],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = json.loads(done.stdout)
    in_python = ast.parse((package / "__init__.py").read_text()).body
    return names | {node.name: [] for node in in_python if isinstance(node, ast.FunctionDef)}


def test_names_are_in_the_binding_of_10_3(names_of_10_3) -> None:
    for name in [*NAMES["both"], *NAMES["gone in 11"]]:
        first, _, second = name.partition(".")
        names = names_of_10_3[CLASSES.get(first, first)]  # KeyError: not even the class is there
        assert not second or second in names, name
    assert "ComputeCapability" not in names_of_10_3  # the control: TensorRT-RTX alone has it
