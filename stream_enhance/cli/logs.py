"""What the command prints on standard error: log lines, plain or as JSON, without credentials."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import suppress

from ..errors import StreamEnhanceError, printable, redact

log = logging.getLogger("stream_enhance")


def configure_logging(arguments: Sequence[str]) -> None:
    """As ``--quiet`` and ``--log-json`` among ``arguments`` ask, which must hold for errors in the arguments too."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if "--log-json" in arguments else _PlainLines())
    log.handlers[:] = [handler]
    log.setLevel(logging.ERROR if "--quiet" in arguments else logging.INFO)
    with suppress(ImportError, OSError):  # not installed, or not whole: `doctor` says so
        import av.logging

        av.logging.set_level(None)  # FFmpeg's own lines hold URLs; what matters of them is in our errors


def one_line(error: BaseException) -> str:
    """``error`` for people; an unexpected one says how to see where it was raised."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(one_line(each) for each in error.exceptions)
    if isinstance(error, StreamEnhanceError):
        return str(error)
    notes = "; ".join(getattr(error, "__notes__", []))
    shown = redact(f"{type(error).__name__}: {error}".replace("\n", " "))
    return f"{shown}{f' ({notes})' if notes else ''}; set STREAM_ENHANCE_TRACEBACK=1 to see where"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            line["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(line)


class _PlainLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{record.levelname.lower()}: {printable(record.getMessage())}{redact(trace)}"
