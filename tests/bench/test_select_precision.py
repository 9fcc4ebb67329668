"""Which precision is worth it: what is timed, what is taken, and what is said of the rest."""

from dataclasses import replace

import pytest

from edgecar.artifact import Artifact
from edgecar.bench import select_precision
from edgecar.bench.select_precision import (
    ROUNDS,
    Contest,
    Speed,
    Standing,
    contest,
    size_to_time,
    timed,
)
from edgecar.bench.tables import contest_table
from edgecar.engines.base import EngineInfo
from edgecar.engines.fake import FakeEngine
from edgecar.errors import EngineError
from edgecar.exporter.lower import Lowering
from edgecar.exporter.to_onnx import source_of
from edgecar.metadata import Quality

pytestmark = pytest.mark.slow  # a harness for our own pages

QUALITY = Quality(
    0.01, 0.02, 0.0, 0.05, 0.15, 6, "photographs", "d", "min-max", 6, ("a",), ("openvino",), "f"
)


@pytest.fixture
def artifacts(exported):
    base = exported("edgecar-xs")
    lower = {
        name: Artifact(replace(base.metadata, precision=name, quality=QUALITY), base.onnx)
        for name in ("fp16", "int8")
    }
    return {"fp32": base, **lower}


@pytest.fixture
def decided(monkeypatch, artifacts):
    """A function from speeds that are made up, for each round or all, to the outcome."""

    def decide(refused=None, computed=None, **rates):
        rounds = {n: r if isinstance(r, list) else [r] * 8 for n, r in rates.items()}
        speeds = {
            name: Speed((computed or {}).get(name, name), "Library", rounds.get(name, ()))
            for name in artifacts
            if name not in (refused or {})
        }
        monkeypatch.setattr(select_precision, "timed", lambda *_: speeds)
        monkeypatch.setattr(select_precision, "size_to_time", lambda *_: (270, 480))
        found = contest(artifacts, refused or {})
        return found, {standing.precision: standing.outcome for standing in found.standings}

    return decide


def test_fastest_is_taken_and_slower_is_said_to_be_slower(decided) -> None:
    found, outcomes = decided(fp32=10.0, fp16=12.0, int8=15.0)
    assert found.taken == "int8"
    assert outcomes == {"fp32": "no faster", "fp16": "no faster", "int8": "taken"}
    int8 = found.standings[2]
    assert (int8.fps, int8.ratio, int8.least_ratio, int8.quality) == (15.0, 1.5, 1.5, QUALITY)
    found, outcomes = decided(fp32=10.0, fp16=10.2, int8=8.0)
    assert found.taken == "fp32"
    assert outcomes == {"fp32": "taken", "fp16": "no faster", "int8": "slower"}
    assert found.standings[2].ratio == pytest.approx(0.8)


def test_what_wins_on_average_but_not_in_most_rounds_is_not_taken(decided) -> None:
    found, _ = decided(fp32=10.0, fp16=10.0, int8=[13.0] * 5 + [9.0] * 3)
    assert found.standings[2].ratio == pytest.approx(1.3)
    assert found.taken == "fp32"
    assert decided(fp32=10.0, fp16=10.0, int8=[13.0] * 7 + [9.0])[0].taken == "int8"


def test_refused_and_not_run_are_told(decided) -> None:
    found, outcomes = decided({"int8": "loses 1 dB"}, computed={"fp16": "bf16"}, fp32=10.0)
    assert outcomes == {"fp32": "taken", "fp16": "not run", "int8": "refused"}
    assert found.standings[1].why == "Library computes it in bf16 here"
    assert found.standings[2].why == "loses 1 dB"


def test_frames_are_restored_in_turn(monkeypatch, artifacts) -> None:
    """On engines that write down which artifact ran, and how much."""
    ran = []

    def opened(artifact, _engine, _precision=None):
        name = artifact.metadata.precision

        def restore(batch):
            ran.append((name, batch.shape[2] * batch.shape[3]))
            return batch

        engine = FakeEngine(restore, align_px=2)
        # As on a CPU without kernels for halves.
        computed = "bf16" if name == "fp16" else name
        engine.info = EngineInfo("fake", "Fake 1", computed, None, "cpu")
        return select_precision.Restorer(artifact, engine, reuse=False)

    monkeypatch.setattr(select_precision, "dense_restorer", opened)
    speeds = timed(artifacts, "fake", (64, 96), seconds=0)
    counts = {name: len(speed.rates) for name, speed in speeds.items()}
    assert counts == {"fp32": ROUNDS, "fp16": 0, "int8": ROUNDS}
    assert speeds["fp16"].computed == "bf16"
    assert all(rate > 0 for rate in speeds["int8"].rates)
    assert ran == [("fp32", 64 * 96), ("int8", 64 * 96)] * (ROUNDS + 2)


@pytest.mark.parametrize(
    ("seconds", "size"), [(0.01, (1080, 1920)), (0.1, (540, 960)), (0.3, (270, 480)), (9, None)]
)
def test_slow_networks_are_timed_on_smaller_frames(monkeypatch, artifacts, seconds, size) -> None:
    monkeypatch.setattr(select_precision, "frame_pass", lambda *_: lambda: 1 / seconds)
    assert size_to_time(artifacts["fp32"], "onnxruntime") == (size or select_precision.SIZES[-1])


def test_what_cannot_be_timed_here_fails_before_it_is_made(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(select_precision, "candidates", lambda *_: pytest.fail("was made"))
    source = source_of("edgecar-xs", codec="jpeg")
    lowering = Lowering("int8", for_engine="tensorrt")
    with pytest.raises(EngineError, match="no TensorrtExecutionProvider"):
        select_precision.export_fastest(source, lowering, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("computed", "said"), [("bf16", True), ("fp32", False)])
def test_table_says_when_fp32_is_not_computed_in_fp32(computed, said) -> None:
    standing = Standing("fp32", "taken", computed, fps=10.0, ratio=1.0, least_ratio=1.0)
    caption = contest_table(Contest("fp32", (270, 480), "an engine", [standing])).caption
    assert ("if it is let: in bf16" in caption) == said
