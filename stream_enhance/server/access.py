"""Who may use the page and the API.

On loopback anyone on this machine may, as long as the browser addresses it by a loopback name: a page elsewhere that
points its own name at 127.0.0.1 is turned away.  Anywhere else a token is needed: as ``Authorization: Bearer``, or
once in the login form, which sets a session cookie.  Changes need a header that no foreign page can send.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ConfigError
from ..urls import is_loopback

COOKIE = "stream_enhance"
CHANGE_HEADER = "x-stream-enhance"  # a request that changes something must carry it
MIN_TOKEN_LENGTH = 16
_PUBLIC = {"/healthz", "/readyz", "/login", "/static/style.css", "/static/icon.svg"}
_MONITORED = {"/healthz", "/readyz", "/metrics"}
_MAX_BODY = 64 * 1024  # bytes
_MAX_HEADERS = 100
_SESSION = 12 * 3600  # seconds
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_READING = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    # not no-referrer: with it a browser sends the login form with ``Origin: null`` (Fetch standard, 3.2)
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}
_TOO_MANY = PlainTextResponse("too many requests; try again in 10 seconds\n", 429, {"retry-after": "10"})
_TOO_LARGE = PlainTextResponse("the request is too large\n", 413)


def hashed(token: str) -> str:
    """The SHA-256 hex digest under which a token is kept."""
    return hashlib.sha256(token.encode()).hexdigest()


def check_exposure(host: str, token_sha256: str, trusted_proxies: Sequence[str] = ()) -> None:
    """Refuse a server that others can reach, by its address or through a proxy, without a token.

    Raises:
        ConfigError: there is no token.
    """
    if token_sha256 or (is_loopback(host) and not trusted_proxies):
        return
    way = f"others can reach {host}" if not is_loopback(host) else "others can reach the page through trusted_proxies"
    raise ConfigError(
        f"listen: {way}, so a token is needed; set token_sha256, or STREAM_ENHANCE_TOKEN in the environment"
    )


class RateLimit:
    """Requests a second for each of many clients, with bursts (the generic cell rate algorithm, ITU-T I.371).

    Args:
        rate: requests a second.
        burst: requests that may come at once after a pause.
        max_wait: seconds that a request may be delayed; one that would have to wait longer is refused.
    """

    def __init__(self, rate: float, burst: int, max_wait: float) -> None:
        self._interval, self._tolerance, self._max_wait = 1 / rate, (burst - 1) / rate, max_wait
        self._due: dict[str, float] = {}  # when each client's next request would come if they came evenly

    def wait(self, client: str, now: float) -> float | None:
        """Seconds by which to delay a request made at ``now`` (seconds); None to refuse it."""
        if len(self._due) > 10_000:
            self._due = {key: due for key, due in self._due.items() if due > now}
        due = max(self._due.get(client, now), now)
        wait = max(0.0, due - now - self._tolerance)
        if wait > self._max_wait:
            return None
        self._due[client] = due + self._interval
        return wait


class Guard:
    """ASGI middleware: authenticates, limits what clients send, and adds the security headers.

    Args:
        app: what is guarded.
        host: what the server listens on.
        token_sha256: hex digest of the token, or "" where none is needed.
    """

    def __init__(self, app: ASGIApp, host: str, token_sha256: str) -> None:
        self._app, self._local, self._token = app, is_loopback(host) and not token_sha256, token_sha256
        self._sessions: dict[str, float] = {}  # the cookie's digest: when the session ends, time.monotonic()
        self._changes = RateLimit(rate=2, burst=20, max_wait=0)  # and tokens tried in the form
        self._reads = RateLimit(rate=10, burst=100, max_wait=5)  # and WebSockets
        self._files = RateLimit(rate=100, burst=400, max_wait=5)  # a page loads many, six at a time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the app, or answer it here with what is wrong with it (ASGI)."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        wait = self._delay(scope)
        if wait:
            await asyncio.sleep(wait)
        answer = _TOO_MANY if wait is None else self._refusal(HTTPConnection(scope))
        if answer is None and scope.get("method", "GET") not in _READING:
            try:
                body = await _body(receive)
            except ClientDisconnect:
                return
            if body is None:
                answer = _TOO_LARGE
            elif scope["path"] == "/login":
                answer = self._login(scope, body)
            else:
                receive = _replayed(body, receive)
        if answer is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4401})
        else:
            await answer(scope, receive, _with_headers(send))

    def _refusal(self, request: HTTPConnection) -> Response | None:
        """The answer to a request that is not allowed; None where it is."""
        path, headers = request.scope["path"], request.headers  # not request.url: the Host header is part of it
        try:
            host, origin = urlsplit(f"//{headers.get('host', '')}"), urlsplit(headers.get("origin", ""))
        except ValueError:  # an unbalanced bracket
            return PlainTextResponse("the Host or Origin header is not an address\n", 400)
        if len(headers) > _MAX_HEADERS:
            return PlainTextResponse("too many headers\n", 431)
        if self._local and not is_loopback(host.hostname or ""):
            return PlainTextResponse("use a loopback name, such as 127.0.0.1 or localhost\n", 421)
        method = request.scope.get("method", "GET")
        if headers.get("origin") and origin.netloc != host.netloc:
            return PlainTextResponse("refused: the request comes from another site's page\n", 403)
        if int(headers.get("content-length") or 0) > _MAX_BODY:
            return _TOO_LARGE
        if method not in _READING:
            if path != "/login" and CHANGE_HEADER not in headers:
                return PlainTextResponse(f"requests that change something need the header {CHANGE_HEADER}: 1\n", 403)
            if self._changes.wait(_address(request.scope), time.monotonic()) is None:
                return _TOO_MANY
        if self._local or path in _PUBLIC or self._authenticated(request):
            return None
        if "text/html" in headers.get("accept", "") and method == "GET":
            return RedirectResponse("/login", 303)
        return JSONResponse({"detail": "a token is needed"}, 401, {"www-authenticate": "Bearer"})

    def _authenticated(self, request: HTTPConnection) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return hmac.compare_digest(hashed(token.strip()), self._token)
        cookie = request.cookies.get(COOKIE, "")
        return self._sessions.get(hashed(cookie), 0.0) > time.monotonic()

    def _delay(self, scope: Scope) -> float | None:
        """Seconds by which to delay a request that reads; None: refuse it.  Asked first, so that many cost little."""
        if scope.get("method", "GET") not in _READING:  # a WebSocket has no method, and reads
            return 0.0
        path, address = scope["path"], _address(scope)
        if path.startswith(("/static/", "/shots/")):
            return self._files.wait(address, time.monotonic())
        # another program on the same machine must not delay those that monitor the server
        return self._reads.wait(f"{address} {path if path in _MONITORED else ''}", time.monotonic())

    def _login(self, scope: Scope, form: bytes) -> Response:
        token = parse_qs(form.decode("utf-8", "replace")).get("token", [""])[0]
        if not self._token or not hmac.compare_digest(hashed(token), self._token):
            return RedirectResponse("/login?wrong", 303)
        cookie = secrets.token_urlsafe(32)
        now = time.monotonic()
        self._sessions = {key: end for key, end in self._sessions.items() if end > now}
        self._sessions[hashed(cookie)] = now + _SESSION
        answer = RedirectResponse("/", 303)
        secure = scope.get("scheme") == "https"
        answer.set_cookie(COOKIE, cookie, max_age=_SESSION, httponly=True, samesite="strict", secure=secure)
        return answer


def _address(scope: Scope) -> str:
    return (scope.get("client") or ("",))[0]


async def _body(receive: Receive) -> bytes | None:
    """A request's whole body, or None where it is too large, whether its length was announced or not.

    Raises:
        ClientDisconnect: the client left before it had sent everything.
    """
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _MAX_BODY:
            return None
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """``receive`` for the application, which begins with the body that was read already."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Any:
        return messages.pop() if messages else await receive()

    return replay


def _with_headers(send: Send) -> Callable[[Any], Awaitable[None]]:
    async def sent(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
        await send(message)

    return sent
