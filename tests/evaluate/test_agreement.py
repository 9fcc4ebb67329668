"""SRCC, PLCC and the logistic between them."""

import numpy as np
import pytest

from edgecar.errors import DataError
from edgecar.evaluate.agreement import logistic_fitted, plcc, srcc

TRUTH = np.linspace(10.0, 90.0, 40)


def logistic(x, b1, b2, b3, b4):
    return (b1 - b2) / (1 + np.exp(-(x - b3) / abs(b4))) + b2


def test_a_published_example_of_ranks():
    """IQ and hours of television, the worked example of Spearman's coefficient: -29/165."""
    iq = np.array([106, 100, 86, 101, 99, 103, 97, 113, 112, 110], float)
    hours = np.array([7, 27, 2, 50, 28, 29, 20, 12, 6, 17], float)
    assert srcc(iq, hours) == pytest.approx(-29 / 165)


def test_ranks_do_not_care_about_the_curve_and_values_do_after_the_logistic():
    predicted = np.log(TRUTH)
    assert srcc(predicted, TRUTH) == pytest.approx(1)
    assert srcc(-predicted, TRUTH) == pytest.approx(-1)
    assert plcc(predicted, TRUTH) > np.corrcoef(predicted, TRUTH)[0, 1]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_parameters_of_a_logistic_are_found_again(sign):
    x = sign * np.linspace(-3, 5, 60)
    truth = logistic(sign * x, 80.0, 20.0, 1.0, 0.7)
    assert plcc(x, truth) == pytest.approx(1, abs=1e-9)
    # The fit stops at relative changes of 1e-8.
    np.testing.assert_allclose(logistic_fitted(x, truth), truth, rtol=1e-5)


def test_noise_lowers_both():
    rng = np.random.default_rng(0)
    predicted = TRUTH + rng.normal(0, 20, len(TRUTH))
    assert 0.5 < srcc(predicted, TRUTH) < 1
    assert 0.5 < plcc(predicted, TRUTH) < 1


def test_the_fit_is_no_worse_than_a_constant():
    rng = np.random.default_rng(1)
    predicted, truth = rng.normal(size=30), rng.normal(size=30)
    fitted = logistic_fitted(predicted, truth)
    assert ((fitted - truth) ** 2).sum() <= ((truth - truth.mean()) ** 2).sum() * (1 + 1e-9)


@pytest.mark.parametrize(
    ("predicted", "truth", "words"),
    [
        (TRUTH[:4], TRUTH[:4], "at least 5 pairs"),
        (TRUTH[:6], TRUTH[:7], "need at least 5 pairs"),
        (np.full(40, 3.0), TRUTH, "all scores are the same"),
        (TRUTH, np.full(40, 3.0), "all scores are the same"),
        (np.where(TRUTH > 50, np.nan, TRUTH), TRUTH, "not finite"),
    ],
)
@pytest.mark.parametrize("measure", [srcc, plcc])
def test_what_has_no_correlation_is_refused(measure, predicted, truth, words):
    with pytest.raises(DataError, match=words):
        measure(predicted, truth)
