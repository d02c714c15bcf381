"""A WHIP push to a real WebRTC end, which decodes what it gets."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stream_enhance.errors import redact
from tests.conftest import Command
from tests.live.cameras import Camera, free_port, needs_camera, patient

pytest.importorskip("aiortc")
pytest.importorskip("cryptography")

pytestmark = [pytest.mark.timeout(300), needs_camera]


def test_a_whip_server_sees_the_images(command: Command, tmp_path: Path) -> None:
    port = free_port()
    script = Path(__file__).with_name("whip_server.py")
    server = subprocess.Popen([sys.executable, str(script), str(port)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(server.stdout), daemon=True)  # type: ignore[arg-type]
    try:
        assert server.stdout.readline() == "listening\n"
        reader.start()
        url = f"http://127.0.0.1:{port}/whip"
        with Camera() as camera:
            words = ["run", camera.url, "-o", url, "-o", tmp_path / "a.mp4", "--overwrite", "--max-age", "10s"]
            result = patient(lambda duration: command(*words, "--duration", duration), 20)
    finally:
        server.terminate()
        server.wait(10)
    reader.join(10)
    pushed = next(o for o in result.report["outputs"] if o["name"] == redact(url))
    assert pushed["packets"] > 0, pushed
    images = [line.split() for line in lines if line.startswith("image")]
    assert images, lines
    assert {tuple(p[1:3]) for p in images} == {("640", "360")}
    assert all(20 < float(p[3]) < 235 for p in images), "neither black nor white"
