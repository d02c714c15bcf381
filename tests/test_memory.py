"""What is no longer used is given back."""

from __future__ import annotations

import gc
import time
import weakref
from pathlib import Path

import pytest

from stream_enhance import memory


class Circle:
    """Holds itself, as a line and its stages do."""

    def __init__(self) -> None:
        self.itself = self


def test_trim_frees_reference_cycles_but_not_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.disable()
    try:
        monkeypatch.setattr(memory, "_trimmed_at", time.monotonic())
        alive = weakref.ref(Circle())
        memory.trim()
        assert alive() is not None, "it is too soon"
        monkeypatch.setattr(memory, "_trimmed_at", float("-inf"))
        memory.trim()
        assert alive() is None
    finally:
        gc.enable()


def test_what_the_process_holds_is_known_on_linux() -> None:
    assert memory.resident() > 10_000_000 or not Path("/proc/self/statm").exists()
