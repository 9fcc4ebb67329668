"""Weights stored once: what is read back is what was exported."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from safetensors.torch import save_file

from edgecar.artifact import SMALLEST, compact, read_artifact
from edgecar.errors import ArtifactError
from edgecar.exporter.to_onnx import export
from edgecar.zoo.checkpoints import rounded
from tests.networks import narrow


@pytest.fixture
def exported(tmp_path):
    """Exports a small network with weights in half precision."""

    def write(name):
        checkpoint = tmp_path / f"{name}.safetensors"
        save_file(rounded(narrow(name).state_dict()), checkpoint)
        return checkpoint, export(checkpoint).path

    return write


def compacted(checkpoint, path):
    model = onnx.load(path)
    compact(model, checkpoint)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    "network",
    ["edgecar-s", *(pytest.param(n, marks=pytest.mark.slow) for n in ("msfan", "fastarcnn"))],
)
def test_compact_artifact_reads_back_as_it_was_exported(exported, network) -> None:
    checkpoint, path = exported(network)
    whole = read_artifact(path)
    before = path.stat().st_size
    assert read_artifact(compacted(checkpoint, path)).onnx == whole.onnx
    assert path.stat().st_size < before


def test_weights_of_the_checkpoint_are_not_stored_again(exported) -> None:
    checkpoint, path = exported("carcnn")
    compacted(checkpoint, path)
    weights = onnx.load(path, load_external_data=False).graph.initializer
    large = [tensor for tensor in weights if np.prod(tensor.dims) >= SMALLEST]
    assert large
    for tensor in large:
        assert tensor.data_location == onnx.TensorProto.EXTERNAL
        assert not tensor.raw_data


def test_other_runtimes_load_a_compact_artifact(exported) -> None:
    checkpoint, path = exported("edgecar-s")
    picture = np.random.default_rng(0).random((1, 1, 24, 32), np.float32)
    outputs = []
    for _ in range(2):
        onnx.checker.check_model(path, full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        given = {"input": picture, "quantiser": np.full(1, 0.6, np.float32)}
        outputs.append(session.run(None, given)[0])
        compacted(checkpoint, path)
    np.testing.assert_array_equal(*outputs)


@pytest.mark.slow  # exports a deep network
def test_folded_normalisation_is_halved_in_the_graph(exported) -> None:
    checkpoint, path = exported("dncnn")
    whole = [numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer]
    before = onnx.load(path).graph.ByteSize()
    artifact = read_artifact(compacted(checkpoint, path))
    assert onnx.load(path).graph.ByteSize() < 0.7 * before
    halved = [
        numpy_helper.to_array(t) for t in onnx.load_from_string(artifact.onnx).graph.initializer
    ]
    for old, new in zip(whole, halved, strict=True):
        assert new.dtype == old.dtype
        np.testing.assert_allclose(new, old, rtol=2**-10, atol=2**-24)


def test_missing_checkpoint_is_named(exported) -> None:
    checkpoint, path = exported("edgecar-s")
    compacted(checkpoint, path)
    checkpoint.unlink()
    with pytest.raises(ArtifactError, match=checkpoint.name):
        read_artifact(path)
