"""Frames as JPEGs over HTTP (multipart/x-mixed-replace), for whatever can show nothing else.

Each viewer is sent the newest frame as soon as it has taken the one before, so a slow one sees fewer and holds up
nobody.  JPEGs are made only while somebody watches, once for all of them.  It listens on loopback only: there is no
password here; ``serve`` has a page with one.
"""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import av
import cv2

from ..errors import SinkError
from ..urls import is_loopback
from .target import MjpegTarget

_QUALITY = 85
_PATIENCE = 10.0  # seconds that a viewer may take for one frame
_REPEAT = 10.0  # seconds of silence until a frame is sent again: only who writes notices a viewer that has vanished
_VIEWERS = 64


class MjpegServer:
    """An output that shows the frames of a line to any number of viewers; see ``fanout.Output``.

    Raises:
        SinkError: the port is taken.
    """

    whole = failed = takes_side_packets = False
    lost = 0  # it shows the newest frame

    def __init__(self, target: MjpegTarget) -> None:
        self.name = target.name
        self.opens = self.written = 0
        self.problem = ""
        self._changed = threading.Condition()
        self._frame: av.VideoFrame | None = None
        self._number, self._ended = 0, False
        self._jpeg: tuple[int, bytes] = (-1, b"")
        try:
            self._server = _Server((target.host, target.port), self)
        except OSError as error:
            raise SinkError(f"{self.name}: cannot be listened on ({error.strerror}); choose another port") from None
        self.url = f"http://{target.host}:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, name=f"output {self.name}", daemon=True)

    def start(self, stream: Any = None) -> None:
        """Begin to answer."""
        self.opens = 1
        self._thread.start()

    def take(self, image: av.VideoFrame | None, packets: Sequence[Any] = (), side: Sequence[Any] = ()) -> None:
        """The newest frame, which is not changed any more."""
        if image is None:
            return
        with self._changed:
            self._frame, self._number = image, self._number + 1
            self.written += 1
            self._changed.notify_all()

    def end(self) -> None:
        """Let all viewers go."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        """Let the port go."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def finish(self, frames: int) -> str:
        """It keeps nothing, so there is nothing that could be wrong with it."""
        return ""

    def after(self, number: int) -> tuple[int, bytes] | None:
        """The newest frame's number and JPEG, once there is one after ``number``; None at the end.

        After ``_REPEAT`` seconds the same one again, or (0, b"") where there is none.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._number > number, _REPEAT)
            if self._ended:
                return None
            if self._frame is None:
                return 0, b""
            if self._jpeg[0] != self._number:
                pixels = self._frame.to_ndarray(format="bgr24")
                coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
                self._jpeg = self._number, coded.tobytes()
            return self._jpeg


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], shown: MjpegServer) -> None:
        self.shown, self.viewers = shown, threading.BoundedSemaphore(_VIEWERS)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = _PATIENCE

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        if not is_loopback(urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""):
            self.send_error(421, "ask for it by a loopback name")
            return
        if not self.server.viewers.acquire(blocking=False):
            self.send_error(503, "too many viewers")
            return
        try:
            self._show()
        except OSError:  # the viewer has left, or does not read
            return
        finally:
            self.server.viewers.release()

    def _show(self) -> None:
        assert isinstance(self.server, _Server)
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        number = 0
        while got := self.server.shown.after(number):
            number, jpeg = got
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            # no frame yet: a line before the first part, which readers pass over (RFC 2046)
            self.wfile.write(head.encode() + jpeg + b"\r\n" if jpeg else b"\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing to say: requests are no news."""
