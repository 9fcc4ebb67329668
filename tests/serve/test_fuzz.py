"""Whatever is sent to the API, it answers, and as its schema says."""

import pytest
from hypothesis import HealthCheck, Phase, settings

from edgecar.serve.api import application
from edgecar.serve.networks import Networks
from edgecar.serve.service import Service
from edgecar.serve.settings import EngineChoice, Settings
from tests.serve.conftest import write_clip

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
EXAMPLES = 25
"""An operation; the benchmark sends many times as many."""


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzed")
    clip = write_clip(folder / "gate.mp4")
    table = {
        "state": folder / "state.json",
        "server": {"folders": [str(folder)], "max_cameras": 3, "requests_per_second": 1e5},
        "camera": [{"name": "gate", "source": str(clip), "network": "pass"}],
    }
    with Service(Settings.model_validate(table), Networks(EngineChoice(threads=1))) as service:
        yield schemathesis.openapi.from_asgi(
            "/api/openapi.json", application(service), headers={"Host": "127.0.0.1"}
        )


if schemathesis:
    api = schemathesis.pytest.from_fixture("schema")

    # Endless for a reason; its own test asks for some pictures of it.
    @api.exclude(path_regex=r"stream\.mjpg$").parametrize()
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def test_no_request_makes_it_fail(case):
        if "newer_than" in (case.query or {}):
            case.query["newer_than"] = 0  # else it waits a second for nothing
        answer = case.call(headers={"Host": "127.0.0.1"})
        assert answer.status_code < 500
        case.validate_response(answer, headers={"Host": "127.0.0.1"})
