"""GPUs that are made up, and plans that are built without one."""

from pathlib import Path

import pytest

from edgecar.artifact import read_artifact
from edgecar.engines.gpu import Gpu

SMALL = {"tile": (64, 64), "batch": 2, "level": 0}
CARD = Gpu("NVIDIA GeForce RTX 4090", "8.9", 128, 24564, False, "13.0", "", "")
T4 = Gpu("Tesla T4", "7.5", 40, 15360, False, "12.6", "", "")


@pytest.fixture(scope="session")
def library():
    """TensorRT-RTX, which builds plans on any machine."""
    pytest.importorskip("tensorrt_rtx")
    from edgecar.engines.trt_library import load_library

    return load_library("tensorrt-rtx")


@pytest.fixture(scope="module")
def built(exported, library, tmp_path_factory) -> Path:
    """A plan of edgecar-s for RTX cards, with its metadata and graph; not to be changed."""
    from edgecar.engines.plan import plan_path
    from edgecar.engines.targets import target_named
    from edgecar.engines.trt_build import settings_for, write_plan

    onnx = tmp_path_factory.mktemp("plan") / "net.onnx"
    onnx.write_bytes(exported("edgecar-s").onnx)
    artifact, target = read_artifact(onnx), target_named("rtx")
    path = plan_path(onnx, target)
    write_plan(artifact, path, library, target, settings_for(artifact, target, **SMALL), None)
    return path
