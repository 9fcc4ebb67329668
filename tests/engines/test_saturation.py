"""Eight bits that saturate: OpenVINO without VNNI adds up pairs of products in 16 bits."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecar.artifact import Artifact, find_artifact, read_artifact
from tests.engines.test_answer import QUALITY, written


def saturating(folder: Path) -> Path:
    """A network of two convolutions whose products are as large as eight bits allow."""
    from edgecar.exporter.checks import known_answer

    wide = np.full((16, 1, 1, 1), 1.0, np.float32)
    signs = np.where(np.arange(16) < 8, 127, -127).astype(np.int8)
    signs[15] = 1  # what remains: 128 of 127 times the picture
    narrow = signs.reshape(1, 16, 1, 1)
    scale = np.float32(1 / 128)
    value = lambda n, x: numpy_helper.from_array(np.asarray(x), n)  # noqa: E731
    picture = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, "h", "w"])
        for name in ("input", "output")
    ]

    def model(nodes, constants) -> onnx.ModelProto:
        graph = helper.make_graph(nodes, "net", [picture[0]], [picture[1]], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)

    conv = helper.make_node
    fp32 = model(
        [
            conv("Conv", ["input", "wide"], ["many"], "first", kernel_shape=[1, 1]),
            conv("Conv", ["many", "narrow"], ["output"], "second", kernel_shape=[1, 1]),
        ],
        [value("wide", wide), value("narrow", narrow * scale)],
    )
    lower = model(
        [
            conv("Conv", ["input", "wide"], ["many"], "first", kernel_shape=[1, 1]),
            conv("QuantizeLinear", ["many", "step", "none"], ["eight"], "quantise"),
            conv("DequantizeLinear", ["eight", "step", "none"], ["read"], "dequantise"),
            conv("DequantizeLinear", ["narrow", "scale", "none"], ["weights"], "weights"),
            conv("Conv", ["read", "weights"], ["output"], "second", kernel_shape=[1, 1]),
        ],
        [
            value("wide", wide),
            value("narrow", narrow),
            value("scale", scale),
            value("step", np.float32(1 / 127)),
            value("none", np.int8(0)),
        ],
    )
    plain = read_artifact(find_artifact("edgecar-xs", "jpeg")).metadata
    metadata = replace(plain, model="pair", trained_on="jpeg 10-40", halo_px=0, align_px=1)
    metadata = replace(metadata, known_answer=known_answer(fp32, metadata))
    written(Artifact(metadata, fp32.SerializeToString()), folder / "pair.onnx")
    metadata = replace(metadata, precision="int8", quality=QUALITY)
    return written(Artifact(metadata, lower.SerializeToString()), folder / "pair.int8.onnx")


@pytest.mark.parametrize(("level", "allowed"), [("AVX2", 127), ("SSE41", 127), ("", 127), ("", 64)])
def test_eight_bits_are_used_only_where_they_are_right(level, allowed, tmp_path) -> None:
    path = saturating(tmp_path)
    script = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from edgecar.artifact import read_artifact\n"
        "from edgecar.engines import select\n"
        "select.LARGEST_WEIGHT = int(sys.argv[2])\n"
        "from edgecar.engines.select import open_engine\n"
        "picture = np.linspace(0, 1, 48 * 48, dtype=np.float32).reshape(1, 1, 48, 48)\n"
        "with open_engine(read_artifact(Path(sys.argv[1])), 'openvino', threads=1) as engine:\n"
        "    wrong = float(np.abs(engine.run(picture) - picture).max())\n"
        "    print(json.dumps([engine.info.precision, engine.info.note, wrong]))\n"
    )
    given = {**os.environ, "ONEDNN_MAX_CPU_ISA": level} if level else os.environ
    done = subprocess.run(
        [sys.executable, "-c", script, path, str(allowed)],
        capture_output=True,
        text=True,
        env=given,
        check=True,
    )
    precision, note, wrong = json.loads(done.stdout)
    # Sums of products in 8 bits lose at most half a step of 1/127 for each of 16 channels.
    assert wrong < 16 * 0.5 / 127
    assert (precision == "int8") == (not note)
    if (level or allowed < 127) and platform.machine().lower() in ("x86_64", "amd64"):
        assert precision == "fp32"
        assert ("loses" if allowed == 127 else "sums overflow") in done.stderr
