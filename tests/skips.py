"""Which tests may be skipped where everything that they need is said to be installed.

`.ci/run` sets ``EDGECAR_REFUSE_SKIPS``: a test that is skipped for any other reason than those
below then fails the run, because what nobody runs proves nothing.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "shared" / "data"
REFUSE = "EDGECAR_REFUSE_SKIPS"

OPTIONAL = (
    "ultralytics",  # AGPL: never a dependency
    "torchvision",  # 250 MB for one comparison
)
"""Packages that no extra of edgecar names, and that few tests are about."""

ALLOWED = (
    r"\bGPU\b|\bCUDA\b",
    *(rf"\b{package}\b" for package in OPTIONAL),
    # Recordings and detectors that are not ours to publish; where they are, their tests run.
    *(() if DATA.is_dir() else (r"shared/data",)),
)


def refused(reasons: Iterable[str]) -> list[str]:
    """Reasons for which no test may be skipped."""
    return [reason for reason in reasons if not any(re.search(each, reason) for each in ALLOWED)]


def reasons_seen(config: pytest.Config) -> list[str]:
    """Where and why tests were skipped in this run."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = reporter.stats.get("skipped", []) if reporter else []
    return sorted(f"{r.nodeid}: {r.longrepr[2]}" for r in reports if isinstance(r.longrepr, tuple))


def pytest_sessionfinish(session: pytest.Session) -> None:
    on_worker = hasattr(session.config, "workerinput")
    if os.environ.get(REFUSE) and not on_worker and refused(reasons_seen(session.config)):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    wrong = refused(reasons_seen(config)) if os.environ.get(REFUSE) else []
    for reason in wrong:
        terminalreporter.write_line(f"REFUSED SKIP {reason}", red=True)
    if wrong:
        terminalreporter.write_line(
            f"got {len(wrong)} skipped tests, need none but for a GPU or {', '.join(OPTIONAL)}; "
            "install what they need (see .ci/run), or let them run without it",
            red=True,
        )
