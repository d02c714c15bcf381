"""Text for logs and answers: on one line, and without credentials."""

from __future__ import annotations

from ..errors import redact


def printable(text: str) -> str:
    """``text`` with control characters escaped, so that no file name forges a log line, and credentials as ``***``."""
    return redact("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))
