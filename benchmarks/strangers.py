"""What strangers do to the server's port, over and over, from a process of their own; used by ``bench_soak``.

    python -m benchmarks.strangers PORT CAMERA

Silent connections, endless headers, requests that stop in their middle, wrong tokens by header, form and WebSocket,
and viewers that leave without a word.  The right token is taken from STREAM_ENHANCE_TOKEN.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import ExitStack, suppress

_SILENT = 40  # connections
_PAUSE = 5.0  # seconds


def main() -> None:
    port, camera, token = int(sys.argv[1]), sys.argv[2], os.environ["STREAM_ENHANCE_TOKEN"]
    while True:
        with ExitStack() as stack, suppress(OSError):
            for _ in range(_SILENT):
                stack.enter_context(_connection(port))
            _send(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a:\r\n" * 250_000)
            _send(port, b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\ntoken=")
            for number in range(20):
                _send(port, _request("GET /api/cameras", f"Authorization: Bearer wrong-{number}"))
                _send(port, _request("POST /login", "Content-Length: 11") + b"token=wrong")
                _send(port, _request(f"GET /api/cameras/{camera}/video", *_UPGRADE, "Authorization: Bearer wrong"))
            for kind in ("video", "mjpeg"):
                for _ in range(5):  # they never read, and are gone after the pause
                    viewer = stack.enter_context(_connection(port))
                    upgrade = _UPGRADE if kind == "video" else ()
                    viewer.sendall(
                        _request(f"GET /api/cameras/{camera}/{kind}", f"Authorization: Bearer {token}", *upgrade)
                    )
            time.sleep(_PAUSE)


_UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def _request(line: str, *headers: str) -> bytes:
    return "\r\n".join((f"{line} HTTP/1.1", "Host: localhost", *headers, "", "")).encode()


def _connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 5)


def _send(port: int, data: bytes) -> None:
    with suppress(OSError), _connection(port) as peer:
        peer.sendall(data)
        peer.recv(1)


if __name__ == "__main__":
    main()
