"""A service's log: lines for people, or JSON, and no passwords in either."""

import json
import logging
import sys
import threading
from datetime import datetime, timezone
from typing import Literal
from urllib.parse import unquote, urlsplit

from edgecar.serve.settings import Camera

LogFormat = Literal["text", "json"]
SHORTEST_SECRET = 3
"""Replacing shorter ones would garble every other word."""

_log = logging.getLogger(__name__)


class Redactor(logging.Filter):
    """Replaces what it was told is secret, wherever it stands in a message or traceback."""

    def __init__(self) -> None:
        super().__init__()
        self._secrets: set[str] = set()

    def hide(self, *secrets: str | None) -> None:
        """Never show these again."""
        self._secrets.update(s for s in secrets if s and len(s) >= SHORTEST_SECRET)

    def hide_of(self, camera: Camera) -> None:
        """Never show the credentials in a camera's addresses."""
        for url in (camera.source, camera.push.url if camera.push else ""):
            if "://" in url:
                for secret in secrets_of(url):
                    self.hide(secret, unquote(secret))

    def redacted(self, text: str) -> str:
        """A text without them."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:  # who logs must not fail for a mistake in what is logged
            message = f"{record.msg} {record.args}"
        record.msg, record.args = _in_one_line(self.redacted(message)), None
        if record.exc_info:
            # Formatted here, once: who formats it again takes this text.
            record.exc_text = self.redacted(logging.Formatter().formatException(record.exc_info))
        return True


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time (UTC), level, logger and message; a traceback where there is one."""
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(
            timespec="milliseconds"
        )
        line = {
            "time": time,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json.dumps(line)


def start_logging(kind: LogFormat) -> Redactor:
    """Log to stderr; returns what must be told of secrets."""
    redactor = Redactor()
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(redactor)
    lines = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")
    handler.setFormatter(JsonLines() if kind == "json" else lines)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # its warnings are written by callers
    # What would be printed past the log, passwords and all.
    logging.captureWarnings(True)
    threading.excepthook = _thread_failed
    return redactor


def _in_one_line(text: str) -> str:
    """The same where nothing begins a line of its own, or writes to the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    name = failure.thread.name if failure.thread else "a thread"
    _log.error("%s ended", name, exc_info=failure.exc_value)


def secrets_of(url: str) -> list[str]:
    """User's password, the whole ``user:password`` and the values of the query of a URL.

    Example:
        >>> secrets_of("rtsp://admin:pass@10.0.0.5/main?token=abc")
        ['admin:pass', 'pass', 'abc']
    """
    _, _, rest = url.partition("://")
    user_info = rest.rpartition("@")[0]
    secrets = [user_info, user_info.partition(":")[2]] if user_info else []
    try:
        query = urlsplit(url).query
    except ValueError:
        query = url.partition("?")[2]
    secrets += [part.partition("=")[2] for part in query.split("&")]
    return [secret for secret in secrets if secret]
