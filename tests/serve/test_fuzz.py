"""Whatever is sent to the API, it answers, and as its schema says."""

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from edgecar.serve.api import application
from edgecar.serve.networks import Networks
from edgecar.serve.service import Service
from edgecar.serve.settings import EngineChoice, Settings
from tests.serve.conftest import write_clip

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
pytest.importorskip("schemathesis.checks")
schemathesis.checks.load_all_checks()
EXAMPLES = 12
"""An operation and kind; the benchmark sends many times as many."""

HEADERS = {"Host": "127.0.0.1"}
CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.CHECKS.get_one("status_code_conformance"),
    schemathesis.checks.CHECKS.get_one("content_type_conformance"),
    schemathesis.checks.CHECKS.get_one("response_headers_conformance"),
    schemathesis.checks.CHECKS.get_one("response_schema_conformance"),
]
"""Not whether data of the right form are accepted: a camera's address is more than a string."""


@pytest.fixture
def schema(tmp_path):
    clip = write_clip(tmp_path / "gate.mp4")
    table = {
        "state": tmp_path / "state.json",
        "server": {"folders": [str(tmp_path)], "max_cameras": 3, "requests_per_second": 1e5},
        "camera": [{"name": "gate", "source": str(clip), "network": "pass"}],
    }
    with Service(Settings.model_validate(table), Networks(EngineChoice(threads=1))) as service:
        yield schemathesis.openapi.from_asgi(
            "/api/openapi.json", application(service), headers=HEADERS
        )


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_request_makes_it_fail(schema, mode):
    kind = schemathesis.GenerationMode(mode)
    tried = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path.endswith("stream.mjpg"):  # endless; its own test asks for some of it
            continue

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(kind))
        def ask(case):
            if "newer_than" in (case.query or {}):
                case.query["newer_than"] = 0  # else it waits a second for nothing
            answer = case.call(headers=HEADERS)
            tried.add(case.operation.label)
            assert answer.status_code < 500
            case.validate_response(answer, checks=CHECKS, headers=HEADERS)

        # Nothing is wrong with a request that has no parameter: there is none to send.
        with suppress(Unsatisfiable):
            ask()
    assert len(tried) >= {"positive": 14, "negative": 9}[mode]
