"""What can go wrong, as the user is told of it: one line that names the thing and the cure.

``InputError`` and what derives from it is the user's to mend (exit code 2); any other ``StreamEnhanceError`` is a
failure of the run (exit code 1).  Messages never hold a URL's user name or password: see ``redact``.
"""

from __future__ import annotations

import re

_USERINFO = re.compile(r"(?<=://)\S*@")  # to the last @: a password may hold any of @ / ? :
_NAMES = "(?:pass(?:word|wd)?|psw|pwd?|loginpas|token|key|secret|auth|user(?:name)?|usr|loginuse)"
_QUERY_SECRET = re.compile(rf"(?i)([?&;]{_NAMES}=)[^&\s#]*")
_PATH_SECRET = re.compile(rf"(?i)([/_]{_NAMES}=)[^/?&\s#]*")  # as recorders have it: /user=admin_password=..._stream=0


class StreamEnhanceError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(StreamEnhanceError):
    """Something the user gave cannot be used; the message names it and the cure.  Exit code 2."""


class ConfigError(InputError):
    """A configuration key or value is wrong."""


class ModelError(InputError):
    """A model file is missing, damaged or of the wrong shape, or a named provider cannot be had."""


class SourceError(InputError):
    """A source cannot be opened or holds no video."""


class SinkError(InputError):
    """An output cannot be written."""


class OutputError(StreamEnhanceError):
    """An output failed while the line ran, or is incomplete.  Exit code 1."""


class LineError(StreamEnhanceError):
    """A stage failed while the line ran.  Exit code 1."""


def redact(text: str) -> str:
    """``text`` with the user names, passwords and tokens of every URL in it replaced by ``***``."""
    text = _QUERY_SECRET.sub(r"\1***", _USERINFO.sub("***@", text))
    return _PATH_SECRET.sub(r"\1***", text)


def printable(text: str) -> str:
    """``text`` redacted, its control characters escaped: a file's name with a newline in it forges no log line."""
    return redact("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))
