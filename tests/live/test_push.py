"""A server that takes a connection and says nothing holds up nobody; what is pushed arrives whole."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from subprocess import Popen

import av
import numpy as np
import pytest

from stream_enhance.sinks.codecs import Encoding
from stream_enhance.sinks.encoder import EncodedPacket, EncodedStream, Encoder
from stream_enhance.sinks.remote import RemoteMuxer
from stream_enhance.types import Enhanced, Faces, Frame, Rendered, Scene
from tests.conftest import Command
from tests.live.cameras import Camera, needs_camera, patient
from tests.media import make_video

pytestmark = pytest.mark.timeout(300)


def encoded(count: int, live: bool = False) -> tuple[EncodedStream, list[EncodedPacket]]:
    """What a muxer is given."""
    encoder = Encoder(Encoding(hardware="none", live=live), "by a test")
    stream, packets = None, []
    empty = np.zeros((0, 8, 8, 3), np.uint8)
    for i in range(count):
        image = av.VideoFrame.from_ndarray(np.full((240, 320, 3), 9 * i % 250, np.uint8), "rgb24")
        image.pts, image.time_base = i * 3600, Fraction(1, 90_000)
        frame = Frame(image, i, i * 3600, Fraction(1, 90_000), 0.0, 0.0)
        none = Enhanced(
            Scene(frame, Faces.none()), np.zeros(0, np.int64), empty, empty, np.zeros((0, 2, 3), np.float32)
        )
        if stream is None:
            stream = encoder.open(Rendered(image, none))
        packets += encoder.encode(image, frame)
    assert stream is not None
    return stream, packets + encoder.encode(None)


def sent(push: RemoteMuxer, count: int, live: bool = False) -> None:
    stream, packets = encoded(count, live)
    push.open(stream, packets[0])
    for packet in packets:
        push.write(packet)


@pytest.mark.parametrize("live", [True, False], ids=["live", "B-frames"])
def test_what_is_pushed_arrives_whole(tmp_path: Path, live: bool) -> None:
    push = RemoteMuxer(str(tmp_path / "out.ts"), "mpegts", {})
    sent(push, 30, live)
    push.close()
    assert push.finish(30) == 30
    with av.open(str(tmp_path / "out.ts")) as container:
        times = [frame.time for frame in container.decode(video=0) if frame.time is not None]
    assert [time - times[0] for time in times] == pytest.approx([i / 25 for i in range(30)])


def test_what_is_wrong_is_said_without_the_url() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"rtsp://wart:geheim@127.0.0.1:{free.getsockname()[1]}/push"
    push = RemoteMuxer(url, "rtsp", {"rtsp_transport": "tcp"})
    with pytest.raises(OSError, match="refused") as raised:
        sent(push, 2)
    with pytest.raises(OSError, match="refused"):
        push.close()
    assert "geheim" not in str(raised.value)
    assert push.finish(2) == 0


def test_other_threads_go_on_while_a_deaf_server_is_greeted_and_it_can_be_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/push"
        push = RemoteMuxer(url, "rtsp", {"rtsp_transport": "tcp", "timeout": "600000000"})  # ten minutes
        errors: list[str] = []

        def go() -> None:
            try:
                sent(push, 2)
            except OSError as error:
                errors.append(str(error))

        thread = threading.Thread(target=go, daemon=True)
        thread.start()
        connection, _ = deaf.accept()
        with connection:
            assert connection.recv(4) == b"OPTI", "this thread goes on while the other waits for an answer"
            push.kill()
            thread.join(60)
        push.close()
    assert errors


@pytest.mark.parametrize("signalled", [False, True])
def test_a_push_of_a_recording_to_a_deaf_server_ends_with_an_error(
    started: Callable[..., Popen[str]], clip: Path, signalled: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        process = started("run", clip, "-o", f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/x")
        connection, _ = deaf.accept()
        with connection:
            connection.recv(4)
            if signalled:
                process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=100)
    assert process.returncode == 1, said
    assert "incomplete, 0 of 12 frames" in said
    assert "Traceback" not in said


def test_a_dead_push_beside_a_good_file_is_an_error_and_the_file_is_whole(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"rtsp://127.0.0.1:{free.getsockname()[1]}/x"
    result = command("run", clip, "-o", tmp_path / "a.mp4", "-o", dead)
    assert result.code == 1
    assert f"{dead}: incomplete, 0 of 12 frames (Connection refused)" in result.error
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 12
    outputs = {o["name"]: o for o in result.report["outputs"]}
    assert (outputs[dead]["packets"], outputs[dead]["lost"]) == (0, 12)
    assert outputs[str(tmp_path / "a.mp4")]["lost"] == 0


def test_every_packet_of_a_recording_is_sent_beside_a_file(command: Command, tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mp4", 100)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_000_000)
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0.2)
        url, got, ended = f"udp://127.0.0.1:{receiver.getsockname()[1]}", bytearray(), threading.Event()

        def receive() -> None:
            while not ended.is_set():
                try:
                    got.extend(receiver.recv(65536))
                except TimeoutError:
                    continue

        thread = threading.Thread(target=receive)
        thread.start()
        result = command("run", path, "-o", tmp_path / "a.mp4", "-o", url)
        ended.set()
        thread.join(60)
    assert result.code == 0, result.err
    assert [(o["packets"], o["lost"]) for o in result.report["outputs"]] == [(100, 0), (100, 0)]
    (tmp_path / "got.ts").write_bytes(got)
    with av.open(str(tmp_path / "got.ts")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 100


@needs_camera
def test_a_deaf_server_takes_no_frames_from_a_recording_of_a_camera(command: Command, tmp_path: Path) -> None:
    with Camera() as camera, socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/push"
        words = ["run", camera.url, "-o", tmp_path / "a.mp4", "-o", address, "--max-age", "10s", "--overwrite"]
        result = patient(lambda duration: command(*words, "--duration", duration), 5)
    assert result.code == 0, result.err
    outputs = {o["name"]: o for o in result.report["outputs"]}
    assert outputs[address]["packets"] == 0
    assert outputs[str(tmp_path / "a.mp4")]["lost"] == 0
    assert result.report["frames_out"] > 0
