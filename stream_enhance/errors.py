"""What can go wrong, as the user is told of it: one line that names the thing and the cure.

``InputError`` and what derives from it is the user's to mend (exit code 2); any other ``StreamEnhanceError`` is a
failure of the run (exit code 1).  Messages never hold a URL's user name or password: see ``redact``.
"""

from __future__ import annotations

import re

_USERINFO = re.compile(r"(?<=://)[^\s/@]*(?:@[^\s/@]*)*@(?=[^\s/@]*)")
_QUERY_SECRET = re.compile(r"(?i)([?&](?:pass(?:word)?|pwd|token|key|secret|auth|user(?:name)?)=)[^&\s#]*")


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


class LineError(StreamEnhanceError):
    """A stage failed while the line ran.  Exit code 1."""


def redact(text: str) -> str:
    """``text`` with the user names, passwords and tokens of every URL in it replaced by ``***``."""
    return _QUERY_SECRET.sub(r"\1***", _USERINFO.sub("***@", text))
