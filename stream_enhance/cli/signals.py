"""SIGINT and SIGTERM counted, so that a run can end cleanly."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class StopSignals:
    """How often the user asked to stop, and the exit code for it."""

    count = 0
    code = 0  # 128 + the signal's number

    def __call__(self, number: int, frame: object) -> None:
        """Count one signal; the third ends the process at once.  A handler for ``signal.signal``."""
        self.count += 1
        self.code = 128 + number
        if self.count > 2:  # even the tearing down hangs
            os._exit(self.code)


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """SIGINT and SIGTERM counted instead of killing; a third one ends the process at once."""
    stopped = StopSignals()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.signal(number, stopped) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
