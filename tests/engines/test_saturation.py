"""Eight bits that saturate: OpenVINO without VNNI adds up pairs of products in 16 bits."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecar.artifact import Artifact, find_artifact, read_artifact
from tests.engines.test_answer import QUALITY, written

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from edgecar.artifact import read_artifact
from edgecar.engines import select
select.LARGEST_WEIGHT = int(sys.argv[2])
picture = np.linspace(0, 1, 48 * 48, dtype=np.float32).reshape(1, 1, 48, 48)
with select.open_engine(read_artifact(Path(sys.argv[1])), 'openvino', threads=1) as engine:
    wrong = float(np.abs(engine.run(picture) - picture).max())
    print(json.dumps([engine.info.precision, engine.info.note, wrong]))
"""


def saturating(folder: Path) -> Path:
    """A network of two convolutions whose products are as large as eight bits allow."""
    from edgecar.exporter.checks import known_answer

    signs = np.where(np.arange(16) < 8, 127, -127).astype(np.int8)
    signs[15] = 1  # what remains: 128 of 127 times the picture
    narrow, scale = signs.reshape(1, 16, 1, 1), np.float32(1 / 128)
    wide = np.full((16, 1, 1, 1), 1.0, np.float32)
    node = helper.make_node
    picture = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, "h", "w"])
        for name in ("input", "output")
    ]

    def model(*nodes, **constants):
        first = node("Conv", ["input", "wide"], ["many"], "first", kernel_shape=[1, 1])
        values = {"wide": wide, **constants}
        tensors = [numpy_helper.from_array(np.asarray(x), name) for name, x in values.items()]
        graph = helper.make_graph([first, *nodes], "net", picture[:1], picture[1:], tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)

    fp32 = model(
        node("Conv", ["many", "narrow"], ["output"], "second", kernel_shape=[1, 1]),
        narrow=narrow * scale,
    )
    lower = model(
        node("QuantizeLinear", ["many", "step", "none"], ["eight"], "quantise"),
        node("DequantizeLinear", ["eight", "step", "none"], ["read"], "dequantise"),
        node("DequantizeLinear", ["narrow", "scale", "none"], ["weights"], "weights"),
        node("Conv", ["read", "weights"], ["output"], "second", kernel_shape=[1, 1]),
        narrow=narrow,
        scale=scale,
        step=np.float32(1 / 127),
        none=np.int8(0),
    )
    plain = read_artifact(find_artifact("edgecar-xs", "jpeg")).metadata
    metadata = replace(plain, model="pair", trained_on="jpeg 10-40", halo_px=0, align_px=1)
    metadata = replace(metadata, takes_quantiser=False)
    metadata = replace(metadata, known_answer=known_answer(fp32, metadata))
    written(Artifact(metadata, fp32.SerializeToString()), folder / "pair.onnx")
    metadata = replace(metadata, precision="int8", quality=QUALITY)
    return written(Artifact(metadata, lower.SerializeToString()), folder / "pair.int8.onnx")


@pytest.mark.parametrize(("level", "allowed"), [("AVX2", 127), ("SSE41", 127), ("", 127), ("", 64)])
def test_eight_bits_are_used_only_where_they_are_right(level, allowed, tmp_path) -> None:
    given = {**os.environ, "ONEDNN_MAX_CPU_ISA": level} if level else os.environ
    command = [sys.executable, "-c", SCRIPT, saturating(tmp_path), str(allowed)]
    done = subprocess.run(command, capture_output=True, text=True, env=given, check=True)
    precision, note, wrong = json.loads(done.stdout)
    # Sums of products in 8 bits lose at most half a step of 1/127 for each of 16 channels.
    assert wrong < 16 * 0.5 / 127
    assert (precision == "int8") == (not note)
    if (level or allowed < 127) and platform.machine().lower() in ("x86_64", "amd64"):
        assert precision == "fp32"
        assert ("loses" if allowed == 127 else "sums overflow") in done.stderr
