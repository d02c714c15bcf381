"""JPEGs over HTTP beside another output of the same run."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from pathlib import Path

import av
import pytest

from stream_enhance.errors import SinkError
from stream_enhance.sinks import mjpeg
from stream_enhance.sinks.codecs import Encoding
from stream_enhance.sinks.mjpeg import MjpegServer
from stream_enhance.sinks.open import open_sink
from stream_enhance.sinks.target import MjpegTarget, parse_target
from stream_enhance.sources.camera import CameraSource
from stream_enhance.sources.connection import LiveOptions
from tests.conftest import Command, Models
from tests.live.cameras import Camera, free_port, needs_camera, wait_until
from tests.live.test_live import Going

pytestmark = pytest.mark.timeout(300)


@needs_camera
def test_viewers_see_images_and_are_let_go_at_the_end(models: Models, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/mjpeg"
    with Camera() as camera:
        going = Going(models, camera.url, f"mjpeg://127.0.0.1:{port}/")
        wait_until(lambda: going.source.last_frame_at)
        viewer = CameraSource(url, "viewer", LiveOptions(wait=True))
        frames = viewer.frames()
        got = [next(frames) for _ in range(5)]
        idle = urllib.request.urlopen(url, timeout=60)  # one that never reads
        report = going.stop()
        threading.Thread(target=viewer.stop, daemon=True).start()
        viewer.close()
        idle.close()
    assert {(f.image.width, f.image.height) for f in got} == {(640, 360)}
    assert report.outputs is not None
    assert report.outputs[0]["packets"] == report.frames_out


@needs_camera
def test_a_page_elsewhere_cannot_look(models: Models) -> None:
    output = MjpegServer(MjpegTarget("mjpeg://127.0.0.1:0/", "127.0.0.1", 0))
    output.start()
    request = urllib.request.Request(output.url, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request, timeout=60)
    raised.value.close()
    assert raised.value.code == 421
    output.end()
    output.join(1)


@pytest.mark.parametrize("shown", [False, True])
def test_a_viewer_that_left_while_nothing_came_is_noticed(monkeypatch: pytest.MonkeyPatch, shown: bool) -> None:
    monkeypatch.setattr(mjpeg, "_REPEAT", 0.1)
    monkeypatch.setattr(mjpeg, "_VIEWERS", 1)
    output = MjpegServer(MjpegTarget("mjpeg://127.0.0.1:0/", "127.0.0.1", 0))
    output.start()
    if shown:
        output.take(av.VideoFrame(64, 64, "yuv420p"))
    first = urllib.request.urlopen(output.url, timeout=60)
    with pytest.raises(urllib.error.HTTPError, match="too many viewers"):
        urllib.request.urlopen(output.url, timeout=60)
    first.close()

    def is_free() -> bool:
        try:
            urllib.request.urlopen(output.url, timeout=60).close()
        except urllib.error.HTTPError as error:
            error.close()
            return False
        return True

    wait_until(is_free)
    output.end()
    output.join(1)


@pytest.mark.parametrize("spec", ["mjpeg://0.0.0.0:8090/", "mjpeg://camera.example:8090/", "mjpeg://127.0.0.1/"])
def test_it_listens_on_loopback_only(spec: str) -> None:
    with pytest.raises(SinkError, match="this machine only"):
        parse_target(spec)


def test_a_port_in_use_is_one_clear_line(command: Command, tmp_path: Path) -> None:
    taken = MjpegServer(MjpegTarget("mjpeg://127.0.0.1:0/", "127.0.0.1", 0))
    with pytest.raises(SinkError, match="choose another port"):
        open_sink(taken.url.replace("http", "mjpeg"), Encoding(), "")
    taken.join(1)
