"""What tests of evaluation share."""

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    """Coded clips and detections of other tests, and of people, count for nothing."""
    monkeypatch.setenv("EDGECAR_CACHE", str(tmp_path / "cache"))
