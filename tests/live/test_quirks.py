"""RTSP cameras that name streams which they never send, against the server among the faulty inputs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stream_enhance.sources.connection import LiveOptions
from stream_enhance.sources.open import open_source
from tests.faults import FAULTS, needs_faults
from tests.live.cameras import free_port, wait_until
from tests.media import make_video

pytestmark = pytest.mark.timeout(120)


@needs_faults
@pytest.mark.parametrize("quirks", ["metaasvideo", "unknownfirst", "twovideo", "midgop,nosprop"])
def test_the_first_stream_that_gives_a_frame_is_taken(tmp_path: Path, quirks: str) -> None:
    path = make_video(tmp_path / "in.h264", 50, (320, 240), form="h264", options={"g": "10", "bf": "0"})
    port = free_port()
    camera = subprocess.Popen(
        [sys.executable, str(FAULTS / "rtsp.py"), str(port), str(path), quirks, "25"], stdout=subprocess.PIPE
    )
    try:
        source = open_source(f"rtsp://127.0.0.1:{port}/cam", live=LiveOptions(wait=True, stall=10))
        frames = source.frames()
        got = [next(frames) for _ in range(5)]
        source.stop()
        assert not list(frames)
        source.close()
    finally:
        camera.kill()
        camera.communicate()
    assert {(f.image.width, f.image.height) for f in got} == {(320, 240)}
    wait_until(lambda: camera.poll() is not None)
