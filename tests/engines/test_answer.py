"""An artifact's known answer: engines that compute something else are found when opened."""

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from edgecar.artifact import Artifact, find_artifact, read_artifact
from edgecar.engines import select
from edgecar.engines.answer import check_answer
from edgecar.engines.fake import FakeEngine
from edgecar.engines.select import open_engine
from edgecar.engines.trt_build import metadata_at_tile
from edgecar.errors import AnswerError, ArtifactError
from edgecar.metadata import Quality, answer_from_table, packed_answer, write_metadata
from edgecar.runtime.restorer import Restorer
from tests.cli.conftest import edgecar  # noqa: F401  # a fixture

CODE = 1 / 255
QUALITY = Quality(0.01, 0.03, 0.01, 0.05, 0.15, 6, "photos", "", "min-max", 6, (), ("fake",), "")


def ten_bits(values: np.ndarray) -> np.ndarray:
    """Round values to the mantissas of TF32."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32)
    return ((bits + (1 << 12)) & ~((1 << 13) - 1)).view(np.float32)


def noise(batch: np.ndarray, codes: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, codes * CODE, batch.shape).astype(np.float32)


def one_pixel(_batch: np.ndarray, output: np.ndarray) -> np.ndarray:
    changed = output.copy()
    changed[..., 20, 20] += 0.2
    return changed


WRONG = {
    "not a number": lambda _batch, output: np.full_like(output, np.nan),
    "some not a number": lambda _batch, output: np.where(output > 0.5, np.nan, output),
    "infinite": lambda _batch, output: np.full_like(output, np.inf),
    "constant": lambda _batch, output: np.full_like(output, output.mean()),
    "nothing done": lambda batch, _output: batch,
    "moved": lambda _batch, output: np.roll(output, 1, axis=3),
    "mirrored": lambda _batch, output: output[..., ::-1],
    "doubled change": lambda batch, output: 2 * output - batch,
    "saturated": lambda batch, output: batch + np.clip(output - batch, -2 * CODE, 2 * CODE),
    "noisy": lambda batch, output: output + noise(batch, 2),
    "one pixel": one_pixel,
}
"""Faults that are wrong in any arithmetic."""

WRONG_IN_FP32 = {
    "TF32": lambda _batch, output: ten_bits(output),
    "FP16 sums": lambda _batch, output: output.astype(np.float16).astype(np.float32),
    "a little darker": lambda _batch, output: output - 0.05 * CODE,
    "a little noise": lambda batch, output: output + noise(batch, 0.05),
}
"""Changes that a lower precision may make."""


@pytest.fixture(scope="module")
def network() -> Artifact:
    return read_artifact(find_artifact("edgecar-xs", "jpeg"))


@pytest.fixture(scope="module")
def truth(network):
    """The network's output in float32, told the quantiser of its known answer."""
    told = network.metadata.known_answer.quantiser
    with open_engine(network, "onnxruntime", threads=1) as engine:
        yield lambda batch: engine.run(batch, [told] * len(batch)).copy()


def fake(metadata, function, precision="fp32", shape=None) -> FakeEngine:
    engine = FakeEngine(function, metadata.channels, shape, metadata.align_px)
    engine.info = replace(engine.info, precision=precision)
    return engine


@pytest.fixture
def opens(monkeypatch):
    """Has every engine replaced by a function of the artifact and the precision asked for."""

    def by(make) -> None:
        monkeypatch.setattr(
            select, "_unchecked", lambda artifact, _name, precision, _n: make(artifact, precision)
        )

    return by


def int8(network: Artifact, **metadata: object) -> Artifact:
    lower = replace(network.metadata, precision="int8", quality=QUALITY, **metadata)
    return Artifact(lower, network.onnx, network.path)


def written(artifact: Artifact, path: Path) -> Path:
    model = onnx.load_model_from_string(artifact.onnx)
    write_metadata(model, artifact.metadata)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("name", [*WRONG, *WRONG_IN_FP32])
def test_what_is_computed_wrongly_is_refused(name, network, truth, opens) -> None:
    """In FP32 every fault; in a lower precision those that lose more than is stated."""
    fault, opened = (WRONG | WRONG_IN_FP32)[name], []

    def make(artifact, _precision):
        wrong = lambda batch: fault(batch, truth(batch))  # noqa: E731
        opened.append(fake(artifact.metadata, wrong, artifact.metadata.precision))
        return opened[-1]

    opens(make)
    said = r"differs by \d.*allowed 0\.010.*: give --engine"
    with pytest.raises(AnswerError, match=said) as refused:
        open_engine(network)
    assert "\n" not in str(refused.value)
    assert not opened[0].is_open
    lower = int8(network, trained_on="", weights_sha256="other")
    if name in WRONG:
        said = r"edgecar-xs in int8 on .* loses .* \(allowed 0\.050\)"
        with pytest.raises(AnswerError, match=said):
            open_engine(lower)
        return
    with open_engine(lower) as engine:
        assert engine.check.passed
        assert 0 <= engine.check.loss_db < 0.01
        assert not engine.info.note


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "torch"])
@pytest.mark.parametrize("network", ["edgecar-s", "msfan", "dncnn"])
def test_every_engine_reproduces_untrained_networks(name, network, exported) -> None:
    """Their sums are larger than those of trained ones, and so is what their order changes."""
    with open_engine(exported(network), name, "fp32", threads=2) as engine:
        assert engine.check.exact
        assert engine.check.passed


@pytest.mark.parametrize("tile", [(48, 48), (64, 80), (48, 96), (32, 40), (28, 28), (200, 256)])
def test_engines_of_one_shape_are_checked_in_their_tile(tile, network, truth) -> None:
    metadata = network.metadata
    with fake(metadata, truth, shape=(2, *tile)) as engine:
        check = check_answer(engine, metadata)
        assert check.passed
        assert check.largest_codes == 0
    with fake(metadata, lambda batch: one_pixel(batch, truth(batch)), shape=(2, *tile)) as engine:
        wrong = check_answer(engine, metadata)
        # Only what is farther from the cut edges than the halo can be compared.
        assert wrong.passed is (min(tile) - metadata.halo_px <= 20)


def test_a_network_that_pools_has_an_answer_for_the_tile_of_a_plan(exported) -> None:
    artifact, tile = exported("msfan"), (80, 112)
    with open_engine(artifact, "onnxruntime", threads=1) as whole:
        with fake(artifact.metadata, whole.run, shape=(1, *tile)) as engine:
            assert check_answer(engine, artifact.metadata) is None  # nothing to compare with
            metadata = metadata_at_tile(artifact, tile)
            assert check_answer(engine, metadata).passed
        turned = lambda batch: whole.run(batch)[..., ::-1]  # noqa: E731
        with fake(artifact.metadata, turned, shape=(1, *tile)) as engine:
            assert not check_answer(engine, metadata).passed
    local = exported("edgecar-xs")
    assert metadata_at_tile(local, tile) == local.metadata


# FP32 instead.


@pytest.fixture
def broken_int8(truth, opens):
    """Engines that compute FP32 and do nothing in eight bits."""
    opens(
        lambda a, asked: (
            fake(a.metadata, truth)
            if a.metadata.precision == "fp32" or asked == "fp32"
            else fake(a.metadata, lambda batch: batch, "int8")
        )
    )


@pytest.mark.usefixtures("broken_int8")
def test_fp32_beside_it_is_taken_and_said(network, tmp_path, caplog) -> None:
    fp32 = written(network, tmp_path / "net.onnx")
    lower = written(int8(network), tmp_path / "net.int8.onnx")
    frame = np.random.default_rng(0).integers(0, 256, (64, 80), np.uint8)
    with caplog.at_level(logging.WARNING), Restorer(lower) as restorer:
        got = restorer.luma(frame)
        assert restorer.engine.info.precision == "fp32"
        assert restorer.engine.info.note in caplog.text
        assert f"{fp32} runs in FP32 instead" in caplog.text
        assert restorer.engine.check.exact
    with Restorer(fp32) as restorer:
        assert np.array_equal(got, restorer.luma(frame))
        assert not restorer.engine.info.note


@pytest.mark.usefixtures("broken_int8")
@pytest.mark.parametrize("other", [{"weights_sha256": "a" * 64}, {"halo_px": 14}, {"model": "x"}])
def test_fp32_that_ships_is_taken_but_not_that_of_another_network(other, network, tmp_path) -> None:
    lower = written(int8(network), tmp_path / "net.int8.onnx")
    with open_engine(read_artifact(lower)) as engine:
        assert f"{network.path} runs in FP32 instead" in engine.info.note
    written(Artifact(network.metadata, network.onnx), tmp_path / "net.onnx")
    lower = written(int8(network, **other), tmp_path / "net.int8.onnx")
    with pytest.raises(AnswerError, match="export the network in fp32 beside it") as refused:
        open_engine(read_artifact(lower))
    assert refused.value.exit_code == 3


def test_fewer_bits_chosen_by_an_engine_give_way_to_fp32(network, truth, opens) -> None:
    def make(artifact, asked):
        if asked == "fp32":
            return fake(artifact.metadata, truth)
        return fake(artifact.metadata, lambda batch: batch, "bf16")

    opens(make)
    with open_engine(network) as engine:
        assert engine.info.precision == "fp32"
        assert "in bf16" in engine.info.note
    with pytest.raises(AnswerError, match="in bf16"):
        open_engine(network, precision="bf16")


def test_fp32_that_is_wrong_too_is_refused(network, opens) -> None:
    opens(lambda a, _: fake(a.metadata, lambda batch: batch, a.metadata.precision))
    with pytest.raises(AnswerError, match=r"in fp32 on .* differs by"):
        open_engine(int8(network))


# What the file holds.


def test_a_known_answer_comes_back(network) -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 256, (3, 20, 30), np.uint8)
    output = rng.uniform(-30, 300, codes.shape)
    answer = packed_answer(codes, output, np.float64(2.5), 0.25, (64, 96))
    again = answer_from_table(json.loads(json.dumps(asdict(answer))))
    assert again == answer
    assert np.array_equal(again.codes(), codes)
    assert np.abs(again.expected_codes() - np.clip(output, 0, 255)).max() <= 1 / 512
    shipped = network.metadata.known_answer
    assert min(shipped.shape[1:]) > network.metadata.halo_px
    assert len(shipped.input) + len(shipped.output) < 8 << 10


DAMAGES = {
    "cut": lambda table: table | {"output": table["output"][:-40]},
    "swapped": lambda table: table | {"input": table["output"], "output": table["input"]},
    "letter": lambda table: table | {"output": table["output"].swapcase()},
    "not base 85": lambda table: table | {"input": '"' * 40},
    "shape": lambda table: table | {"shape": [1, 48, 47]},
    "no shape": lambda table: table | {"shape": None},
    "error": lambda table: table | {"error_codes2": 1e9},
    "allowed": lambda table: table | {"allowed_db": 99.0},
    "no number": lambda table: table | {"allowed_db": "much"},
    "unknown": lambda table: table | {"colour": "red"},
    "missing": lambda table: {key: table[key] for key in table if key != "crc32"},
    "text": lambda _table: "known",
    "list": lambda _table: [],
}


@pytest.mark.parametrize("damage", [*DAMAGES, "no JSON"])
def test_a_damaged_known_answer_is_refused(damage, network, tmp_path) -> None:
    path = written(network, tmp_path / "net.onnx")
    model = onnx.load(path)
    entry = next(e for e in model.metadata_props if e.key == "edgecar.known_answer")
    table = asdict(network.metadata.known_answer)
    entry.value = json.dumps(DAMAGES[damage](table)) if damage in DAMAGES else "known"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=f"{path}: .*; export it again") as refused:
        read_artifact(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("other", [{"channels": 3}, {"align_px": 5, "halo_px": 15}])
def test_a_known_answer_of_another_network_is_refused(other, network, tmp_path) -> None:
    wrong = Artifact(replace(network.metadata, **other), network.onnx)
    with pytest.raises(ArtifactError, match="known answer is of another network; export it again"):
        read_artifact(written(wrong, tmp_path / "net.onnx"))


# Through the command line.


def test_inspect_shows_how_it_came_out(network, tmp_path, opens, edgecar) -> None:  # noqa: F811
    path = written(network, tmp_path / "net.onnx")
    done = edgecar("inspect", path, "--json")
    table = json.loads(done.out)["known_answer"]
    assert done.code == 0
    assert table["passed"] is True
    assert table["largest_codes"] <= table["allowed_codes"]
    opens(lambda a, _: fake(a.metadata, lambda batch: batch))
    done = edgecar("inspect", path)
    assert done.code == 3
    assert "this machine computes it wrongly" in done.out
    old = written(replace(network, metadata=replace(network.metadata, known_answer=None)), path)
    done = edgecar("inspect", old)
    assert done.code == 0
    assert "answer    none; export the network again" in done.out


def test_doctor_checks_what_ships(ship, opens, edgecar) -> None:  # noqa: F811
    ship("edgecar-xs", "jpeg", "h264")
    done = edgecar("doctor", "--json")
    assert done.code == 0
    answers = json.loads(done.out)["known_answers"]
    assert [(each["network"], each["for"], each["passed"]) for each in answers] == [
        ("edgecar-xs", "jpeg", True),
        ("edgecar-xs", "h264", True),
    ]
    opens(lambda a, _: fake(a.metadata, lambda batch: batch))
    done = edgecar("doctor")
    assert done.code == 3
    assert "0 of 2 shipped networks compute what they promise" in done.out
    assert done.out.count("this machine computes it wrongly") == 2


@pytest.mark.usefixtures("broken_int8")
def test_run_says_that_fp32_runs(network, tmp_path, edgecar) -> None:  # noqa: F811
    written(network, tmp_path / "net.onnx")
    lower = written(int8(network), tmp_path / "net.int8.onnx")
    cv2.imwrite(str(tmp_path / "in.png"), np.full((64, 80, 3), 90, np.uint8))
    wanted = ["run", tmp_path / "in.png", "-o", tmp_path / "out.png", "--network", lower]
    done = edgecar(*wanted, "--json")
    assert done.code == 0
    report = json.loads(done.out)
    assert report["precision"] == "fp32"
    assert "runs in FP32 instead" in report["engine_note"]
    assert "runs in FP32 instead" in edgecar(*wanted).err
