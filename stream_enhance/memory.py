"""Keeps a process that runs for weeks as small as it was after a minute.

Lines, connections and FFmpeg's containers hold each other in reference cycles, which Python collects too seldom where
most memory is in frames; and glibc keeps what threads freed.  Both are corrected here on Linux; elsewhere only the
first is needed.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

_INTERVAL = 20.0  # seconds between two trims at least
_M_ARENA_MAX = -8  # of malloc.h
_busy = threading.Lock()
_trimmed_at = time.monotonic()


def resident() -> int:
    """Resident memory of this process in bytes; 0 where there is no /proc."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def configure_allocator() -> None:
    """Call it once, before the lines start: few heaps for many threads; what is loaded is never collected."""
    libc = _glibc()
    if libc and "MALLOC_ARENA_MAX" not in os.environ:  # with a heap for each, what threads freed stays theirs
        libc.mallopt(_M_ARENA_MAX, 2)
    gc.collect()
    gc.freeze()  # so that ``trim`` does not scan the libraries' hundred thousand objects each time


def trim() -> None:
    """Return unused memory to the system; at most every ``_INTERVAL`` seconds, however often it is called."""
    global _trimmed_at  # noqa: PLW0603 - of the process, as the allocator is
    if time.monotonic() - _trimmed_at < _INTERVAL or not _busy.acquire(blocking=False):
        return
    try:
        gc.collect()
        if libc := _glibc():
            libc.malloc_trim(0)
    finally:
        _trimmed_at = time.monotonic()
        _busy.release()


def _glibc() -> Any:
    """The C library, where it is glibc."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None
