"""A server that takes a connection and says nothing holds up nobody."""

from __future__ import annotations

import socket
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stream_enhance.sinks.remote import RemoteMuxer
from tests.conftest import Command
from tests.live.cameras import Camera, needs_camera, patient

pytestmark = pytest.mark.timeout(300)


class Nowhere:
    """A file that keeps nothing."""

    def write(self, data: bytes) -> int:
        return len(data)


def packets(count: int) -> tuple[Any, list[av.Packet[Any]]]:
    """An encoder's stream and what it encoded."""
    container = av.open(Nowhere(), "w", format="matroska")
    stream: Any = container.add_stream("libx264", rate=25, options={"tune": "zerolatency"})
    stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
    stream.codec_context.time_base = stream.time_base = Fraction(1, 90_000)
    container.start_encoding()
    coded = []
    for i in range(count):
        image = av.VideoFrame.from_ndarray(np.full((240, 320, 3), 9 * i % 250, np.uint8), "rgb24")
        image.pts, image.time_base = i * 3600, Fraction(1, 90_000)
        coded += stream.encode(image)
    return stream, coded


def sent(push: RemoteMuxer, count: int) -> None:
    template, coded = packets(count)
    stream = push.add_stream_from_template(template)
    stream.time_base = Fraction(1, 90_000)
    for packet in coded:
        packet.stream = stream
        push.mux(packet)


def test_what_is_pushed_arrives_whole(tmp_path: Path) -> None:
    push = RemoteMuxer(str(tmp_path / "out.ts"), "mpegts", {})
    sent(push, 30)
    push.close()
    with av.open(str(tmp_path / "out.ts")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 30


def test_what_is_wrong_is_told_without_the_url() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"rtsp://wart:geheim@127.0.0.1:{free.getsockname()[1]}/push"
    push = RemoteMuxer(url, "rtsp", {"rtsp_transport": "tcp"})
    with pytest.raises(OSError, match="refused") as raised:
        sent(push, 2)
    push.close()
    assert "geheim" not in str(raised.value)


def test_other_threads_go_on_while_a_deaf_server_is_greeted_and_it_can_be_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/push"
        push = RemoteMuxer(url, "rtsp", {"rtsp_transport": "tcp", "timeout": "600000000"})  # ten minutes
        told: list[str] = []

        def go() -> None:
            try:
                sent(push, 2)
            except OSError as error:
                told.append(str(error))

        thread = threading.Thread(target=go, daemon=True)
        thread.start()
        connection, _ = deaf.accept()
        with connection:
            assert connection.recv(4) == b"OPTI", "this thread goes on while the other waits for an answer"
            push.kill()
            thread.join(60)
        push.close()
    assert told


@needs_camera
def test_a_deaf_server_takes_no_images_from_a_recording(command: Command, tmp_path: Path) -> None:
    with Camera() as camera, socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/push"
        words = ["run", camera.url, "-o", tmp_path / "a.mp4", "-o", address, "--max-age", "10s", "--overwrite"]
        told = patient(lambda duration: command(*words, "--duration", duration), 5)
    assert told.code == 0, told.err
    outputs = {o["name"]: o for o in told.report["outputs"]}
    assert outputs[address]["packets"] == 0
    assert outputs[str(tmp_path / "a.mp4")]["lost"] == 0
    assert told.report["frames_out"] > 0
