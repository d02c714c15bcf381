"""Two streams of one camera: faces are found in the small one and taken from the large one."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from stream_enhance.errors import SourceError
from stream_enhance.sources.connection import LiveOptions
from stream_enhance.sources.open import open_source
from stream_enhance.types import Frame
from tests.conftest import Models
from tests.live.cameras import Camera, needs_camera, wait_until

pytestmark = [pytest.mark.timeout(120), needs_camera]


def until(frames: Any, holds: Any, seconds: float = 60) -> Frame:
    end = time.monotonic() + seconds
    for frame in frames:
        if holds(frame):
            return frame  # type: ignore[no-any-return]
        assert time.monotonic() < end, "waited in vain"
    raise AssertionError("the stream ended")


def test_frames_of_the_large_stream_carry_the_small_ones_of_the_same_moment_until_it_dies(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Camera(width=640, height=480) as large, Camera(width=480, height=360) as small:
        source = open_source(large.url, None, LiveOptions(detect_url=small.url, stall=1.0))
        try:
            source.wait_ready()
            frames = source.frames()
            both = until(frames, lambda frame: frame.detect_image is not None)
            assert (both.image.width, both.detect_image.width) == (640, 480)  # type: ignore[union-attr]
            until(frames, lambda _: source.status().detect_offset_ms is not None)
            near = [frame for frame in islice(frames, 20) if frame.detect_image is not None]
            assert near
            for frame in near:
                assert frame.detect_seconds is not None
                assert abs(frame.detect_seconds - frame.seconds) < 0.5
            until(frames, lambda _: source.status().detect_state == "live")
            small.kill()
            until(frames, lambda frame: not frame.no_signal and frame.detect_image is None)
            until(frames, lambda _: any("live.detect_url gives no frames" in message for message in caplog.messages))
            assert source.status().detect_state == "lost"
            assert source.status().detect_offset_ms is None
            small.start()
            until(frames, lambda frame: frame.detect_image is not None)
        finally:
            source.close()


def test_a_small_stream_that_is_not_there_does_not_stop_the_line_or_a_recording_have_one(clip: Path) -> None:
    with Camera() as large:
        source = open_source(large.url, None, LiveOptions(detect_url="rtsp://127.0.0.1:9/none"))
        source.wait_ready()
        assert len(list(islice(source.frames(), 5))) == 5
        source.close()
    with pytest.raises(SourceError, match="detect_url is for cameras"):
        open_source(str(clip), None, LiveOptions(detect_url="rtsp://127.0.0.1:9/none"))


def test_serve_shows_the_small_streams_state_and_offset(models: Models) -> None:
    pytest.importorskip("fastapi")
    from stream_enhance.server import metrics
    from stream_enhance.server.config import CameraConfig
    from stream_enhance.server.supervisor import Supervisor

    with Camera(paths="cam,sub") as server:
        settings = {
            "detector": {"model": str(models.detector), "every": 1},
            "enhancer": {"model": str(models.enhancer)},
            "live": {"max_age": 3},
        }
        cameras = Supervisor(settings)
        cameras.put("door", CameraConfig(url=server.url, detect_url=server.url.replace("/cam", "/sub")))
        camera = cameras.get("door")
        assert camera is not None
        wait_until(lambda: camera.status()["detect_offset_ms"] is not None, 60)
        assert camera.status()["detect_state"] == "live"
        assert 'detect_stream_up{camera="door"} 1' in metrics.text(cameras)
        assert 'detect_offset_seconds{camera="door"}' in metrics.text(cameras)
        cameras.close()
