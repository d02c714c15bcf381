"""Protocols beside RTSP over TCP, each against a real peer on loopback."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import av
import pytest

from stream_enhance.errors import SourceError
from stream_enhance.sinks.remote import RemoteMuxer
from stream_enhance.sources.camera import CameraSource
from stream_enhance.sources.connection import LiveOptions
from tests.live.cameras import PYTHON, Camera, free_port, needs_camera
from tests.live.test_push import encoded, sent

pytestmark = pytest.mark.timeout(300)


def no_tls() -> bool:
    check = "from gi.repository import Gio; raise SystemExit(not Gio.TlsBackend.get_default().supports_tls())"
    asked = subprocess.run([PYTHON, "-c", check], capture_output=True, check=False)
    return not shutil.which("openssl") or bool(asked.returncode)


@needs_camera
@pytest.mark.skipif(Path(PYTHON).exists() and no_tls(), reason="needs openssl and glib-networking")
def test_rtsps_with_a_password(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run([*words, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    both = tmp_path / "both.pem"
    both.write_text(certificate.read_text() + key.read_text())
    with Camera(tls=both, user="wart", password="geheim") as camera:
        url = camera.url.replace("rtsp://", "rtsps://wart:geheim@")
        source = CameraSource(url, "camera", LiveOptions(wait=True, timeout=30))
        frames = source.frames()
        got = [next(frames) for _ in range(5)]
        source.stop()
        source.close()
    assert {(f.image.width, f.image.height) for f in got} == {(640, 360)}


def test_rtmp_is_pushed_to_a_server() -> None:
    url = f"rtmp://127.0.0.1:{free_port()}/live/door"
    got: list[int] = []

    def serve() -> None:
        with av.open(url, "r", format="flv", options={"listen": "1"}, timeout=60) as container:
            try:
                got.extend(packet.size for packet in container.demux(video=0))
            except av.FFmpegError:  # FFmpeg's server does not learn of the end
                return

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    for _ in range(60):
        push = RemoteMuxer(url, "flv", {"rw_timeout": "5000000"})
        try:
            sent(push, 50)
            break
        except OSError:  # it does not listen yet
            server.join(0.5)
        finally:
            push.close()
    server.join(60)
    assert len([size for size in got if size]) == len(encoded(50)[1])


def test_a_protocol_that_this_ffmpeg_lacks_is_one_clear_line() -> None:
    try:
        av.open("srt://127.0.0.1:9?timeout=100000", timeout=5).close()
    except av.error.ProtocolNotFoundError:
        source = CameraSource("srt://127.0.0.1:9", "camera")
        with pytest.raises(SourceError, match="has no srt"):
            source.wait_ready()
    except av.FFmpegError:
        pytest.skip("this FFmpeg has srt")
