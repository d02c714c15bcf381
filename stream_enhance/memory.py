"""What keeps a process that runs for weeks as small as it was after a minute.

Lines, connections and FFmpeg's containers are held in circles of references, which Python looks for too seldom where
most memory is in frames; and glibc keeps what threads freed.  Both are put right here, on Linux; elsewhere only the
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
    """Bytes of memory that this process has; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def configure_allocator() -> None:
    """To be called once, before the lines begin: few heaps for many threads, and what is loaded is here to stay."""
    libc = _glibc()
    if libc and "MALLOC_ARENA_MAX" not in os.environ:  # with a heap for each, what threads freed stays theirs
        libc.mallopt(_M_ARENA_MAX, 2)
    gc.collect()
    gc.freeze()  # ``trim`` need not look through a hundred thousand objects of the libraries each time


def trim() -> None:
    """Give back what is no longer used; does so at most every ``_INTERVAL`` seconds, however often it is called."""
    global _trimmed_at
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
