"""Whatever is sent to the API, it answers, and as its schema says."""

import pytest

from benchmarks.run.service_checks import fuzz

pytestmark = pytest.mark.slow  # sends hundreds of requests

EXAMPLES = 12
"""An operation and kind; the benchmark sends many times as many."""


def test_no_request_makes_it_fail(tmp_path):
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    statuses, failures = fuzz(EXAMPLES, tmp_path)
    assert failures == []
    assert {200, 201, 204, 404, 422} <= set(statuses)
