"""Addresses without what is secret in them: all that is printed goes through here."""

import re

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/+")
_URL = re.compile(_SCHEME.pattern + r"\S*[^\s;,.'\")\]]")
"""As far as a sentence around it lets tell: what ends one is no part of it."""

_LOGIN = re.compile(r"(?<![\w/*])[^\s/:@'\"\\*]+:(?!/)[^\s@'\"\\]+@(?=[\w.\[])")
"""``user:password@`` in front of a host, where the scheme was forgotten."""

_SECRET = re.compile(r"(?i)(user|login|pass|pwd|token|key|auth|secret)([a-z]*)=[^&/\s]*")


def redacted(url: str) -> str:
    """A URL without what may be secret: user and password, the query, ``password=…`` in a path.

    What cannot be told apart from a secret goes too: an at sign later on hides all before it.

    Example:
        >>> redacted("rtsp://10.0.0.5/user=admin_password=x_channel=1?token=y")
        'rtsp://10.0.0.5/user=***?***'
    """
    scheme = _SCHEME.match(url)
    start = scheme.end() if scheme else 0
    _, at_sign, host = url[start:].rpartition("@")
    shown = f"***@{host}" if at_sign else url[start:]
    address, query, _ = shown.partition("?")
    return url[:start] + _SECRET.sub(r"\1\2=***", address) + ("?***" if query else "")


def text_redacted(text: str) -> str:
    """A text with every URL in it redacted.

    Example:
        >>> text_redacted("rtsp://admin:secret@cam/1 does not open; nor does root:pass@cam")
        'rtsp://***@cam/1 does not open; nor does ***@cam'
    """
    shown = _URL.sub(lambda found: redacted(found[0]), text)
    return _LOGIN.sub("***@", shown)
