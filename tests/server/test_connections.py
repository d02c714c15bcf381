"""What a stranger's connection may cost, with a real server and real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import Models

pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

import uvicorn
from websockets.sync.client import connect

from stream_enhance.server import connections
from stream_enhance.server.app import make_app
from stream_enhance.server.config import CameraConfig
from stream_enhance.server.routes import views
from stream_enhance.server.supervisor import Supervisor
from stream_enhance.server.view import Piece

pytestmark = pytest.mark.timeout(60)


@contextmanager
def serving(app: Any, allowed: int = 100, **options: Any) -> Iterator[int]:
    """The port of a server with the limits, which runs in another thread inside the ``with``."""
    listening = connections.listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app, log_level="critical", timeout_graceful_shutdown=1, **connections.options(lambda: allowed, **options)
    )
    server = connections.Server(config, lambda: None)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield int(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the client's address, once the whole request has arrived."""
    if scope["type"] == "lifespan":
        return
    while (await receive()).get("more_body"):
        pass
    body = json.dumps({"client": scope["client"][0], "scheme": scope["scheme"]}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Answers before the request's body has arrived."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


def get(port: int, **headers: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/", headers=headers)
    answer: dict[str, Any] = json.load(connection.getresponse())
    connection.close()
    return answer


def is_closed(peer: socket.socket) -> bool:
    """Whether the server has closed or reset the connection; waits for that."""
    try:
        while peer.recv(65536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def test_endless_headers_are_refused_before_they_fill_the_memory() -> None:
    with serving(echo) as port, socket.create_connection(("127.0.0.1", port), 20) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        sent, block = 0, b"a:\r\n" * 16_000
        with contextlib.suppress(ConnectionError):
            while sent < 100_000_000:
                peer.sendall(block)
                sent += len(block)
        assert sent < 100_000_000
        assert get(port)["client"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("start", "slowly"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\n", b"a: b\r\n"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n", b"x"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["silent", "headers", "body", "chunks"],
)
def test_a_request_must_be_complete_in_time_however_often_a_byte_of_it_comes(start: bytes, slowly: bytes) -> None:
    with serving(echo, request_seconds=0.5) as port, socket.create_connection(("127.0.0.1", port), 0.1) as peer:
        peer.sendall(start)
        end = time.monotonic() + 30
        with contextlib.suppress(ConnectionError):
            while not is_closed(peer):
                assert time.monotonic() < end, "it may go on for ever"
                peer.sendall(slowly)


def test_a_long_answer_and_a_kept_connection_are_not_cut_off() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await receive()
            await asyncio.sleep(1.5)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})

    with serving(slow, request_seconds=0.7) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        for _ in range(2):
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"ok"
        connection.close()


def test_more_connections_than_allowed_are_closed_and_those_before_go_on() -> None:
    with serving(echo, allowed=5) as port:
        kept = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        kept.request("GET", "/")
        kept.getresponse().read()
        peers = [socket.create_connection(("127.0.0.1", port), 0.5) for _ in range(20)]
        assert sum(is_closed(peer) for peer in peers) == 16
        kept.request("GET", "/")
        assert kept.getresponse().status == 200
        kept.close()
        for peer in peers:
            peer.close()

        def answers() -> bool:
            try:
                return bool(get(port))
            except (OSError, http.client.HTTPException):
                return False

        wait_until(answers)


def test_connections_leave_descriptors_for_the_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    few, many = connections.max_connections(1), connections.max_connections(6)
    assert 0 < many < few < 100
    assert connections.max_connections(1000) > 0, "the page can always be reached"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65536, 65536))
    assert connections.max_connections(100) == 512
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert connections.max_connections(100) == 512


def test_a_client_that_does_not_read_is_disconnected() -> None:
    left = threading.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        sending = asyncio.ensure_future(flood(send))
        while (await receive())["type"] != "http.disconnect":
            pass
        sending.cancel()
        left.set()

    async def flood(send: Any) -> None:
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

    with serving(endless, send_seconds=0.5) as port, socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert left.wait(30)


def test_a_forwarded_address_is_believed_only_of_a_trusted_proxy() -> None:
    forwarded = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    with serving(echo) as port:
        assert get(port, **forwarded) == {"client": "127.0.0.1", "scheme": "http"}
    with serving(echo, trusted_proxies=("192.0.2.1",)) as port:
        assert get(port, **forwarded)["client"] == "127.0.0.1"
    with serving(echo, trusted_proxies=("127.0.0.0/8",)) as port:
        assert get(port, **forwarded) == {"client": "203.0.113.7", "scheme": "https"}


@pytest.mark.parametrize("leaves", ["closes", "resets", "vanishes"])
def test_a_viewer_of_a_silent_camera_that_left_is_noticed(models: Models, leaves: str) -> None:
    settings = {"detector": {"model": str(models.detector)}, "enhancer": {"model": str(models.enhancer)}, "threads": 1}
    cameras = Supervisor(settings)
    cameras.put("door", CameraConfig(url="rtsp://127.0.0.1:9/x"))
    camera = cameras.get("door")
    assert camera is not None
    try:
        with serving(make_app(cameras, "127.0.0.1", ""), request_seconds=0.5) as port:
            if leaves == "closes":
                with connect(f"ws://127.0.0.1:{port}/api/cameras/door/video"):
                    wait_until(lambda: camera.view.viewers == 1)
            else:
                peer = socket.create_connection(("127.0.0.1", port))
                peer.sendall(
                    f"GET /api/cameras/door/video HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
                )
                wait_until(lambda: camera.view.viewers == 1)
                if leaves == "resets":
                    peer.close()
            wait_until(lambda: camera.view.viewers == 0)
            if leaves == "vanishes":  # it answered no ping
                peer.close()
    finally:
        cameras.close()


def test_a_viewer_of_images_is_written_to_while_its_camera_is_silent(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "_REPEAT", 0.1)
    settings = {"detector": {"model": str(models.detector)}, "enhancer": {"model": str(models.enhancer)}, "threads": 1}
    cameras = Supervisor(settings)
    cameras.put("door", CameraConfig(url="rtsp://127.0.0.1:9/x"))
    camera = cameras.get("door")
    assert camera is not None
    try:
        with serving(make_app(cameras, "127.0.0.1", "")) as port:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", "/api/cameras/door/mjpeg")
            answer = connection.getresponse()
            assert answer.read(4) == b"\r\n\r\n"
            image = Piece(b"JPEG", True, "jpeg")
            camera.view._send("jpeg", image)
            assert b"".join(answer.readline() for _ in range(30)).count(b"JPEG") > 1
            connection.close()
            wait_until(lambda: camera.view.viewers == 0)
    finally:
        cameras.close()


def test_the_kernel_looks_for_vanished_peers() -> None:
    with connections.listen("127.0.0.1", 0) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize(("app", "method"), [(echo, "POST"), (refuse, "POST"), (echo, "HEAD")])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_broken_chunk_is_answered_once_and_logs_nothing(
    app: Any, method: str, at_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Anyone could fill the log with tracebacks."""
    head = f"{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".encode()
    with serving(app) as port:
        logger = logging.getLogger("uvicorn.error")
        logger.setLevel(logging.ERROR)
        logger.addHandler(caplog.handler)
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(head)
                early = client.recv(4096) if app is refuse and not at_once else b""
                client.sendall(b"zz\r\n")
                answer = early + b"".join(iter(lambda: client.recv(4096), b""))
            assert get(port) if app is echo else True
        finally:
            logger.removeHandler(caplog.handler)
    assert [line.split()[1] for line in answer.splitlines() if line.startswith(b"HTTP")] in (
        [[b"400"], [b"403"]] if method == "POST" else [[]]  # what answers HEAD may have no body
    )
    assert not caplog.records
