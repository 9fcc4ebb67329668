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
SOURCE = f"rtsp://admin:{ENCODED}@10.0.0.5/main?key=secret33"


@pytest.fixture
def logged():
    """A function from what is logged to the line that comes of it."""
    redactor = Redactor()
    push = {"url": "rtsp://pusher:hunter44@h/y"}
    redactor.hide_those_of(CameraSettings(name="gate", source=SOURCE, push=push))

    def log(message, *arguments, formatter=None) -> str:
        failure = sys.exc_info()
        record = logging.LogRecord(
            "a.b", logging.ERROR, "f.py", 1, message, arguments, failure if failure[0] else None
        )
        assert redactor.filter(record)
        return (formatter or logging.Formatter()).format(record)

    return log


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
        text, line = logged("it failed"), logged("it failed", formatter=JsonLines())
    assert "Traceback" in text
    assert "OSError: rtsp://***@10.0.0.5/main" in text
    assert text.endswith("ValueError: not ***")
    assert "\n" not in line
    assert json.loads(line)["traceback"].endswith("ValueError: not ***")


def test_secrets_within_others_leave_no_rest_and_short_ones_garble_no_word():
    redactor = Redactor()
    redactor.hide("hunter", "hunter22", "ab", "")
    assert redactor.redacted("hunter22 hunter about") == "*** *** about"


def test_nobody_writes_a_line_of_its_own_and_a_wrong_message_is_no_failure(logged):
    line = logged("network %s", "x\n2026-01-01 ERROR forged\r\x1b[2J\u2028é")
    assert line == r"network x\n2026-01-01 ERROR forged\r\x1b[2J\u2028é"
    assert logged("%d cameras", "hunter44") == "%d cameras ('***',)"


def test_json_lines_say_when_who_and_what(logged):
    line = json.loads(logged('gate says "%s"', PASSWORD, formatter=JsonLines()))
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "error", "logger": "a.b", "message": 'gate says "***"'}


@pytest.mark.parametrize("as_json", [True, False])
def test_a_thread_that_fails_is_logged_as_everything_else(monkeypatch, capsys, as_json):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    start_logging(as_json=as_json).hide("hunter44")

    def fail():
        raise ValueError("hunter44")

    thread = threading.Thread(target=fail, name="edgecar-x")
    thread.start()
    thread.join()
    logging.captureWarnings(False)
    said = capsys.readouterr().err
    assert "hunter44" not in said
    if as_json:
        (line,) = map(json.loads, said.splitlines())
        assert line["message"] == "edgecar-x ended"
        assert line["traceback"].endswith("ValueError: ***")
    else:
        assert "ERROR   edgecar-x ended\nTraceback" in said
