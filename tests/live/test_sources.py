"""Supervisor that do not speak RTSP: MPEG-TS over UDP, MJPEG and HLS over HTTP; all on loopback."""

from __future__ import annotations

import http.server
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from subprocess import Popen
from typing import Any

import av
import cv2
import numpy as np
import pytest

from stream_enhance.errors import SourceError
from stream_enhance.sources import container
from stream_enhance.sources.camera import CameraSource
from stream_enhance.sources.connection import LiveOptions, open_camera
from stream_enhance.sources.file import VideoSource
from stream_enhance.sources.open import open_source
from tests.live.cameras import free_port, wait_until
from tests.media import make_video

pytestmark = pytest.mark.timeout(300)


class Sender:
    """Encodes images in real time into ``url``, inside its ``with``."""

    def __init__(self, url: str, form: str, **options: str) -> None:
        self._url, self._form, self._options = url, form, options
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def _send(self) -> None:
        with av.open(self._url, "w", format=self._form, options=self._options) as container:
            stream: Any = container.add_stream("libx264", rate=25, options={"tune": "zerolatency", "g": "12"})
            stream.width, stream.height = 320, 240
            for i in range(10_000):
                if self._stop.is_set():
                    break
                image = av.VideoFrame.from_ndarray(np.full((240, 320, 3), i % 250, np.uint8), "rgb24")
                image.pts, image.time_base = i, Fraction(1, 25)
                container.mux(stream.encode(image))
                time.sleep(0.04)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)


def first_frames(url: str, count: int = 10, **options: Any) -> list[tuple[int, int, int]]:
    """Timestamp and size of the first images."""
    source = open_source(url, live=LiveOptions(wait=True, **options))
    assert isinstance(source, CameraSource)
    frames = source.frames()
    got = [next(frames) for _ in range(count)]
    source.stop()
    assert not list(frames)
    source.close()
    assert source.info.rate
    return [(f.pts, f.image.width, f.image.height) for f in got]


def check(frames: list[tuple[int, int, int]]) -> None:
    assert {(w, h) for _, w, h in frames} == {(320, 240)}
    assert sorted({pts for pts, _, _ in frames}) == [pts for pts, _, _ in frames]


def test_mpegts_over_udp() -> None:
    url = f"udp://127.0.0.1:{free_port()}"
    with Sender(f"{url}?pkt_size=1316", "mpegts"):
        check(first_frames(url))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server that shows a folder, or half a file at /half/FILE; at /mjpeg?S a camera, an image in S seconds."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/half/"):
                self.send_half((tmp_path / self.path[6:]).read_bytes())
                return
            if not self.path.startswith("/mjpeg"):
                super().do_GET()
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            try:
                for i in range(1000):
                    jpeg = cv2.imencode(".jpg", np.full((240, 320, 3), i % 250, np.uint8))[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                    time.sleep(float(self.path.partition("?")[2] or 0.04))
            except OSError:
                return

        def send_half(self, data: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.connection.recv(1)  # until the client hangs up

        def log_message(self, *_: object) -> None:
            """Nothing to say."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", tmp_path
    server.shutdown()
    server.server_close()


def test_mjpeg_over_http(web: tuple[str, Path]) -> None:
    check(first_frames(f"{web[0]}/mjpeg"))


def test_a_slow_camera_is_live_between_its_images(web: tuple[str, Path]) -> None:
    source = open_source(f"{web[0]}/mjpeg?1.5", live=LiveOptions(timeout=20, stall=20))
    assert isinstance(source, CameraSource)
    frames = source.frames()
    shown = [next(frames).no_signal for _ in range(4)]
    source.stop()
    source.close()
    assert shown == [False] * 4


def test_hls_over_http(web: tuple[str, Path]) -> None:
    url, folder = web
    with Sender(str(folder / "live.m3u8"), "hls", hls_time="1", hls_list_size="4"):
        wait_until(lambda: (folder / "live.m3u8").exists() and len(list(folder.glob("*.ts"))) > 2)
        check(first_frames(f"{url}/live.m3u8", 30))


def test_a_recording_on_a_web_server_is_a_recording_and_ends(web: tuple[str, Path], clip: Path) -> None:
    url, folder = web
    (folder / "clip.mp4").write_bytes(clip.read_bytes())
    source = open_source(f"{url}/clip.mp4")
    assert isinstance(source, VideoSource)
    assert len(list(source.frames())) == 12
    source.close()


@pytest.fixture
def deaf() -> Iterator[socket.socket]:
    """A server that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def test_a_web_server_that_says_nothing_is_one_clear_line(deaf: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "SILENT", 1.0)
    with pytest.raises(SourceError, match="no answer within 1 s"):
        open_source(f"http://127.0.0.1:{deaf.getsockname()[1]}/x.mp4")


def test_a_recording_whose_server_falls_silent_ends(
    web: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(container, "SILENT", 1.0)
    make_video(tmp_path / "x.ts", 100, (640, 360))
    source = open_source(f"{web[0]}/half/x.ts")
    assert 0 < len(list(source.frames())) < 100
    source.close()
    assert "reading ended early" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="sends itself a POSIX signal")
def test_a_run_of_a_web_server_that_says_nothing_can_be_interrupted(
    deaf: socket.socket, started: Callable[..., Popen[str]], tmp_path: Path
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would inherit none
    process = started("run", f"http://127.0.0.1:{deaf.getsockname()[1]}/x.mp4", "-o", tmp_path / "out.mp4")
    signal.signal(signal.SIGINT, before)
    with deaf.accept()[0]:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def test_a_raw_image_outlives_its_packet(tmp_path: Path) -> None:
    """A webcam's packets lie in memory that the driver takes back when it is closed; what looked there crashed."""
    for form in ("yuv420p", "yuyv422"):
        path = tmp_path / f"{form}.nut"
        with av.open(path, "w") as container:
            stream = container.add_stream("rawvideo", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, form
            grey = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24").reformat(format=form)
            for i in range(3):
                grey.pts, grey.time_base = i, Fraction(1, 25)
                container.mux(stream.encode(grey))
        camera = open_camera(str(path), "webcam", LiveOptions(), None)
        images = []
        for packet in camera.container.demux(camera.stream):
            inside = range(packet.buffer_ptr, packet.buffer_ptr + packet.size)
            for image in camera.decoded(packet):
                assert image.planes[0].buffer_ptr not in inside
                images.append(image)
        camera.close()
        assert [(image.pts or 0) * (image.time_base or 0) for image in images] == [Fraction(i, 25) for i in range(3)]
        assert abs(images[-1].to_ndarray(format="rgb24").astype(int) - 90).max() <= 2


@pytest.mark.skipif(not Path("/dev/video0").exists(), reason="needs a webcam, or `modprobe vivid`")
def test_a_webcam_is_read_let_go_and_read_again() -> None:
    for _ in range(2):
        source = open_source("webcam:0", live=LiveOptions(timeout=20, stall=20))
        assert isinstance(source, CameraSource)
        source.wait_ready()
        frames = source.frames()
        images = [next(frames) for _ in range(5)]
        source.stop()
        source.close()
        assert all(image.image.to_ndarray(format="rgb24").any() for image in images)
