"""Logs: no password, no forged line, and JSON that is JSON."""

import json
import logging
import sys
import threading

import pytest

from edgecar.serve.run import JsonLines, start_logging
from edgecar.serve.security import Redactor
from edgecar.serve.settings import CameraSettings

PASSWORD = "p@ss w/rd"
ENCODED = "p%40ss%20w%2Frd"


@pytest.fixture
def redactor():
    made = Redactor()
    made.hide_those_of(
        CameraSettings(
            name="gate",
            source=f"rtsp://admin:{ENCODED}@10.0.0.5/main?key=secret33",
            push={"url": "rtsp://pusher:hunter44@h/y"},
        )
    )
    return made


@pytest.fixture
def logged(redactor):
    """A function from what is logged to the line that comes of it."""

    def log(message, *arguments, formatter=None, exc_info=None) -> str:
        record = logging.LogRecord("a.b", logging.ERROR, "f.py", 1, message, arguments, exc_info)
        assert redactor.filter(record)
        return (formatter or logging.Formatter()).format(record)

    return log


@pytest.fixture
def started():
    """What logging and threads do is put back at the end."""
    root, hook = logging.getLogger(), threading.excepthook
    handlers, level = root.handlers[:], root.level
    yield start_logging
    root.handlers[:], threading.excepthook = handlers, hook
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.mark.parametrize("secret", [PASSWORD, ENCODED, "secret33", "hunter44", f"admin:{ENCODED}"])
def test_secrets_are_hidden_in_messages_and_what_is_put_into_them(logged, secret):
    assert logged(f"no {secret} here") == "no *** here"
    assert logged("no %s here, %d", secret, 5) == "no *** here, 5"
    assert logged("no %s here", ValueError(secret)) == "no *** here"


def test_secrets_are_hidden_in_tracebacks_and_what_they_came_of(logged):
    try:
        try:
            raise OSError(f"rtsp://admin:{ENCODED}@10.0.0.5/main")
        except OSError as error:
            raise ValueError(f"not {PASSWORD}") from error
    except ValueError:
        text = logged("it failed", exc_info=sys.exc_info())
    assert "Traceback" in text
    assert "OSError: rtsp://***@10.0.0.5/main" in text
    assert text.endswith("ValueError: not ***")


def test_secrets_within_others_leave_no_rest_and_short_ones_garble_no_word():
    redactor = Redactor()
    redactor.hide("hunter", "hunter22", "ab", "")
    assert redactor.redacted("hunter22 hunter about") == "*** *** about"


def test_nobody_writes_a_line_of_its_own(logged):
    line = logged("network %s", "x\n2026-01-01 ERROR forged\r\x1b[2J\u2028é")
    assert line == r"network x\n2026-01-01 ERROR forged\r\x1b[2J\u2028é"


def test_a_mistake_in_a_message_is_not_the_callers(logged):
    assert logged("%d cameras", "hunter44") == "%d cameras ('***',)"


def test_json_lines_say_when_who_and_what(logged):
    line = json.loads(logged('gate says "%s"', PASSWORD, formatter=JsonLines()))
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "error", "logger": "a.b", "message": 'gate says "***"'}
    try:
        raise ValueError("hunter44")
    except ValueError:
        text = logged("it failed", formatter=JsonLines(), exc_info=sys.exc_info())
    assert "\n" not in text
    assert json.loads(text)["traceback"].endswith("ValueError: ***")


@pytest.mark.parametrize("kind", ["json", "text"])
def test_a_thread_that_fails_is_logged_as_everything_else(started, capsys, kind):
    started(as_json=kind == "json").hide("hunter44")

    def fail():
        raise ValueError("hunter44")

    thread = threading.Thread(target=fail, name="edgecar-x")
    thread.start()
    thread.join()
    said = capsys.readouterr().err
    assert "hunter44" not in said
    if kind == "json":
        (line,) = map(json.loads, said.splitlines())
        assert line["message"] == "edgecar-x ended"
        assert line["traceback"].endswith("ValueError: ***")
    else:
        assert "ERROR   edgecar-x ended\nTraceback" in said
