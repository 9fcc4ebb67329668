"""The gate's judgement: what is lost, and when it is too much."""

import math

import numpy as np
import onnx
import pytest

from edgecar.exporter import exact, quality
from edgecar.exporter.frames import CodedPair
from edgecar.exporter.quality import Budget, Judge, Verdict
from tests.exporter.graphs import INPUT, Drawing
from tests.test_artifact import FACTS

BUDGET = Budget(0.05, 0.15)


def brighter(by: float, times: float = 1.0) -> onnx.ModelProto:
    """A picture, brightened."""
    d = Drawing()
    scaled = d.node("Mul", INPUT, d.constant(np.full((1, 1, 1, 1), times, np.float32)))
    return d.model(d.node("Add", scaled, d.constant(np.full((1, 1, 1, 1), by, np.float32))))


def pair(seed: int, error: int = 10) -> CodedPair:
    clean = np.random.default_rng(seed).integers(60, 190, (1, 40, 48)).astype(np.uint8)
    signs = (-1) ** np.indices(clean.shape).sum(axis=0)  # as many up as down
    return CodedPair((clean + error * signs).astype(np.uint8), clean)


def judged(model: onnx.ModelProto, *pairs: CodedPair) -> Verdict:
    return judge(*pairs).verdict(model)


def judge(*pairs: CodedPair) -> Judge:
    return Judge(brighter(0), FACTS, pairs or (pair(0), pair(2)), "fp16", [exact.NAME])


def test_loss_is_that_of_psnr() -> None:
    """Errors of ±10 codes, each picture 2 codes brighter: 100 becomes 104."""
    verdict = judged(brighter(2 / 255))
    assert verdict.loss_db == pytest.approx(10 * math.log10(104 / 100), abs=1e-6)
    assert verdict.shift_codes == pytest.approx(2, abs=1e-3)


def test_worst_picture_counts_besides_the_mean() -> None:
    verdict = judged(brighter(2 / 255), pair(0, error=40), pair(2, error=4))
    expected = [10 * math.log10((e**2 + 4) / e**2) for e in (40, 4)]
    assert verdict.worst_db == pytest.approx(max(expected), abs=1e-6)
    assert verdict.loss_db == pytest.approx(np.mean(expected), abs=1e-6)


def test_a_gain_is_a_negative_loss() -> None:
    coded = pair(0)
    darker = CodedPair(np.clip(coded.clean + 5, 0, 255).astype(np.uint8), coded.clean)
    assert judged(brighter(-4 / 255), darker).loss_db < -10


def test_nearly_flawless_pictures_lose_nothing_worth_the_name() -> None:
    """An error of nothing that becomes an error of next to nothing is no infinite loss."""
    flawless = CodedPair(np.full((1, 32, 32), 90, np.uint8), np.full((1, 32, 32), 90, np.uint8))
    assert judged(brighter(0.3 / 255), flawless).loss_db == 0
    assert judged(brighter(1 / 255), flawless).loss_db == pytest.approx(
        11.9, abs=0.1
    )  # 60 to 48 dB


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_number_never_passes(value) -> None:
    verdict = judged(brighter(float(value)))
    assert verdict.spent(Budget(1e9, 1e9)) == math.inf
    assert verdict.needs_db() == math.inf


@pytest.mark.parametrize(
    ("verdict", "passes"),
    [
        (Verdict(0.05, 0.15, 0.1), True),
        (Verdict(-0.3, -0.1, 0.0), True),
        (Verdict(0.051, 0.1, 0.0), False),
        (Verdict(0.0, 0.151, 0.0), False),
        (Verdict(0.0, 0.0, 0.101), False),
        (Verdict(math.nan, 0.0, 0.0), False),
    ],
)
def test_every_limit_counts(verdict, passes) -> None:
    assert (verdict.spent(BUDGET) <= 1) == passes


@pytest.mark.parametrize(
    ("verdict", "needs"),
    [
        (Verdict(0.061, 0.1, 0.0), 0.07),
        (Verdict(0.061, 0.4, 0.0), 0.14),
        (Verdict(0.061, 0.1, 0.2), math.inf),  # no loss that is allowed makes up for darkening
    ],
)
def test_budget_that_would_pass(verdict, needs) -> None:
    assert verdict.needs_db() == needs
    if needs < math.inf:
        assert verdict.spent(Budget(needs, 3 * needs)) <= 1
        assert verdict.spent(Budget(needs - 0.01, 3 * (needs - 0.01))) > 1


def test_estimates_are_of_the_middles_of_some_pictures(monkeypatch) -> None:
    monkeypatch.setattr(quality, "GLANCED", 2)
    monkeypatch.setattr(quality, "GLANCED_PX", 16)
    pairs = [pair(0), pair(2, error=2), pair(3, error=5), pair(4, error=1)]
    found = quality.middles(pairs, 4)
    for middle, whole in zip(found, (pairs[0], pairs[2]), strict=True):
        np.testing.assert_array_equal(middle.coded, whole.coded[:, 12:28, 16:32])
        np.testing.assert_array_equal(middle.clean, whole.clean[:, 12:28, 16:32])
