"""Supervisor for the tests, each a process of its own: see ``camera.py``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.conftest import Finished
PYTHON = "/usr/bin/python3"  # the system's, which has GStreamer's bindings
_CHECK = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


def missing() -> str:
    """Why there can be no camera here, or nothing."""
    if not Path(PYTHON).exists() or subprocess.run([PYTHON, "-c", _CHECK], capture_output=True, check=False).returncode:
        return "needs Debian's gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-{base,good,ugly} and python3-gi"
    return ""


needs_camera = pytest.mark.skipif(bool(missing()), reason=missing() or "a camera is available")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Camera:
    """An RTSP server on loopback that is on inside its ``with``.

    Args:
        port: 0 for any that is free.
        options: of ``camera.py``, without their dashes.
    """

    def __init__(self, port: int = 0, **options: object) -> None:
        self.port = port or free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/cam"
        self._options = options

    def start(self, **options: object) -> None:
        """Switch on, with ``options`` instead of the first ones; returns when it listens."""
        words = [f"--{key}={value}" for key, value in {**self._options, **options}.items()]
        script = str(Path(__file__).with_name("camera.py"))
        self.process = subprocess.Popen(
            [PYTHON, script, f"--port={self.port}", *words], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "listening\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class Poisoned:
    """A session that is given what its network cannot take."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def __call__(self, batch: Any) -> Any:
        return self._session(np.zeros((1, 1), np.float32))


def wait_until(holds: object, seconds: float = 100.0) -> None:
    """Return once ``holds()`` does; fail where it does not within ``seconds``."""
    assert callable(holds)
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def patient(run: Callable[[str], Finished], least: int) -> Finished:
    """What ``run(duration)`` gave; on a busy machine again, for longer, until ``least`` frames came through."""
    for seconds in (6, 25, 80):
        result = run(f"{seconds}s")
        if result.code or result.report["frames_out"] >= least:
            break
    assert result.code == 0, result.err
    assert result.report["frames_out"] >= least, result.report
    return result
