"""Removal of passwords and tokens from addresses before they are printed."""

import re

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/+")
_URL = re.compile(_SCHEME.pattern + r"\S*[^\s;,.'\")\]]")
"""A URL inside a sentence. Punctuation that ends the sentence is not part of it."""

_LOGIN = re.compile(r"(?<![\w/*])[^\s/:@'\"\\*]+:(?!/)[^\s@'\"\\]+@(?=[\w.\[])")
"""``user:password@`` in front of a host, where the scheme was forgotten."""

_SECRET = re.compile(r"(?i)(user|login|pass|pwd|token|key|auth|secret)([a-z]*)=[^&/\s]*")


def redacted(url: str) -> str:
    """Return a URL without user, password, query and ``password=…`` in its path.

    Text that might be secret is removed too: a later at sign hides everything before it.

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
    """Return a text in which every URL is redacted.

    Example:
        >>> text_redacted("rtsp://admin:secret@cam/1 does not open; nor does root:pass@cam")
        'rtsp://***@cam/1 does not open; nor does ***@cam'
    """
    shown = _URL.sub(lambda found: redacted(found[0]), text)
    return _LOGIN.sub("***@", shown)
