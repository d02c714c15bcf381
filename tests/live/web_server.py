"""A web server on loopback whose every answer a test decides."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Answer = Callable[["Request"], None]


class Request(http.server.BaseHTTPRequestHandler):
    """One request; ``server.answers`` holds what each path does."""

    def do_GET(self) -> None:
        answers: dict[str, Answer] = getattr(self.server, "answers")  # noqa: B009
        answer = answers.get(self.path.partition("?")[0])
        try:
            if answer is None:
                self.send_error(404)
            else:
                answer(self)
        except OSError:  # the client hung up
            return

    def head(self, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing to say."""


@contextmanager
def web_server(answers: dict[str, Answer]) -> Iterator[int]:
    """The port of a server that answers so."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Request)
    setattr(server, "answers", answers)  # noqa: B010
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def whole(data: bytes, kind: str = "application/octet-stream") -> Answer:
    """A file of a known length, of which no part can be asked for."""

    def answer(request: Request) -> None:
        request.head(Content_Type=kind, Content_Length=str(len(data)))
        request.wfile.write(data)

    return answer


def in_parts(data: bytes) -> Answer:
    """A file of which parts can be asked for (RFC 9110, 14)."""

    def answer(request: Request) -> None:
        asked = request.headers.get("Range", "bytes=0-").removeprefix("bytes=")
        first, _, last = asked.partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        request.head(206, Content_Length=str(len(part)), Content_Range=span)
        request.wfile.write(part)

    return answer


def endless(data: bytes, seconds: float, kind: str) -> Answer:
    """A stream of no known length that sends ``data`` in ``seconds``, then hangs up."""

    def answer(request: Request) -> None:
        request.head(Content_Type=kind)
        pieces = 50
        for i in range(pieces):
            request.wfile.write(data[len(data) * i // pieces : len(data) * (i + 1) // pieces])
            time.sleep(seconds / pieces)

    return answer


def redirect(to: str) -> Answer:
    return lambda request: request.head(302, Location=to, Content_Length="0")
