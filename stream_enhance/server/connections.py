"""Limits on what a connection to the page may cost, before anyone has authenticated.

A connection has so many seconds to complete a request, and a client that stops reading so many to go on; headers are
bounded while they arrive; and there are never so many connections that a camera lacks file descriptors for its stream
or its recordings.  uvicorn has settings for the headers only, so its protocols are extended here.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

try:
    import resource
except ModuleNotFoundError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

REQUEST_SECONDS = 10.0  # from a connection's first moment, or the answer before, to the whole request
SEND_SECONDS = 10.0  # for a client to make room in a full send buffer
_MAX_HEADER_BYTES = 16 * 1024
_MIN_CONNECTIONS, _MAX_CONNECTIONS = 4, 512
_DESCRIPTORS = 8192  # wanted for the process: enough for hundreds of cameras
_BACKLOG = 32  # connections accepted at once, before they can be counted
_PER_CAMERA = 16  # descriptors: its connection, recordings, and pipes to pushes
_PROCESS = 64 + _BACKLOG  # descriptors of everything else


def max_connections(cameras: int) -> int:
    """Connections that leave enough file descriptors for so many cameras; each may hold an open file as well."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if resource else -1
    if limit < 0:  # unlimited
        return _MAX_CONNECTIONS
    free = limit - _PROCESS - _PER_CAMERA * cameras
    return max(_MIN_CONNECTIONS, min(_MAX_CONNECTIONS, free // 2))


def raise_descriptor_limit() -> None:
    """Allow this process as many file descriptors as it may need, as far as the system lets it."""
    if resource is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen(host: str, port: int) -> socket.socket:
    """A bound socket whose connections notice, within half a minute, a peer that has vanished.

    Raises:
        OSError: the address is taken, or not one of this machine's.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY by it
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # accepted sockets inherit these
    # seconds idle, between probes, probes; milliseconds that sent data may stay unacknowledged
    for name, value in {"KEEPIDLE": 15, "KEEPINTVL": 5, "KEEPCNT": 3, "USER_TIMEOUT": 30_000}.items():
        if option := getattr(socket, f"TCP_{name}", None):
            listening.setsockopt(socket.IPPROTO_TCP, option, value)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    return listening


def options(
    allowed: Callable[[], int],
    trusted_proxies: tuple[str, ...] = (),
    request_seconds: float = REQUEST_SECONDS,
    send_seconds: float = SEND_SECONDS,
) -> dict[str, Any]:
    """Arguments for ``uvicorn.Config`` with which all of these limits hold.

    Args:
        allowed: connections that there may be, asked for each new one.
        trusted_proxies: IP addresses and networks whose ``X-Forwarded-For`` and ``-Proto`` are believed.
        request_seconds: until a request is complete.
        send_seconds: until a client that stopped reading is disconnected.
    """

    class Http(_HttpConnection):
        limits = (allowed, request_seconds, send_seconds)

    class WebSocket(_WebSocketConnection):
        limits = (allowed, request_seconds, send_seconds)

    return {
        "http": Http,
        "ws": WebSocket,
        "h11_max_incomplete_event_size": _MAX_HEADER_BYTES,
        "backlog": _BACKLOG,
        "proxy_headers": bool(trusted_proxies),
        "forwarded_allow_ips": list(trusted_proxies),
        "ws_max_size": 4096,
        "ws_max_queue": 4,
        "ws_ping_interval": request_seconds,  # a viewer that vanished answers none
        "ws_ping_timeout": request_seconds,
        "ws_per_message_deflate": False,  # H.264 does not get smaller
    }


class _Deadline:
    """Aborts a connection unless it is cancelled in time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._handle: asyncio.TimerHandle | None = None

    def start(self, transport: asyncio.Transport) -> None:
        """Start to count, unless it does so already."""
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(self._seconds, transport.abort)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class _HttpConnection(H11Protocol):
    limits: tuple[Callable[[], int], float, float]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request, self._sending = _Deadline(self.limits[1]), _Deadline(self.limits[2])
        self._upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits[0]():
            transport.abort()
        else:
            self._request.start(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._request.cancel()
        self._sending.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, once: uvicorn would let the application answer the same request too, and fail."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        state = self.conn.our_state
        if state is h11.IDLE or (state is h11.SEND_RESPONSE and self.scope["method"] != "HEAD"):
            super().send_400_response(msg)
        else:  # an answer has begun already, or may have no body
            self.transport.close()

    def _watch(self) -> None:
        """Count while a request is awaited or arriving, however many bytes of it come meanwhile."""
        incomplete = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if incomplete and not self._upgraded and not self.transport.is_closing():
            self._request.start(self.transport)
        else:
            self._request.cancel()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._upgraded = True  # another protocol takes the transport over
        self._sending.cancel()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._sending.start(self.transport)

    def resume_writing(self) -> None:
        self._sending.cancel()
        super().resume_writing()


class _WebSocketConnection(WebSocketsSansIOProtocol):
    limits: tuple[Callable[[], int], float, float]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sending = _Deadline(self.limits[2])

    def connection_lost(self, exc: Exception | None) -> None:
        self._sending.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._sending.start(self.transport)

    def resume_writing(self) -> None:
        self._sending.cancel()
        super().resume_writing()


class Server(uvicorn.Server):
    """A server whose endless answers, live video and events, are ended when it shuts down.

    Args:
        config: of uvicorn.
        on_shutdown: ends them; uvicorn waits for that.
    """

    def __init__(self, config: uvicorn.Config, on_shutdown: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_shutdown = on_shutdown

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down as uvicorn does, after ``on_shutdown`` has ended what would never end by itself."""
        self._on_shutdown()
        await super().shutdown(sockets)
