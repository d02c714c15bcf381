"""Who may use the page and the API.

On loopback anyone on this machine may, as long as the browser asks for it by a loopback name (a page elsewhere that
points its own name at 127.0.0.1 is turned away).  Anywhere else a token is needed: as ``Authorization: Bearer``, or
once in the page's form, which gives a cookie for this browser.  Changes need a header that no foreign page can send.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ConfigError

COOKIE = "stream_enhance"
CHANGING = "x-stream-enhance"  # header that a changing request must carry
SHORTEST_TOKEN = 16
_OPEN = {"/healthz", "/readyz", "/login", "/static/style.css"}
_WATCHED = {"/healthz", "/readyz", "/metrics"}
_MOST_BODY = 64 * 1024
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_READING = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}
_TOO_MANY = PlainTextResponse("too many requests\n", 429, {"retry-after": "10"})


def hashed(token: str) -> str:
    """How a token is kept."""
    return hashlib.sha256(token.encode()).hexdigest()


def loopback(host: str) -> bool:
    """Whether ``host`` is this machine and no other can reach it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_exposure(host: str, token_sha256: str) -> None:
    """
    Raises:
        ConfigError: others can reach ``host`` and there is no token.
    """
    if not loopback(host) and not token_sha256:
        raise ConfigError(
            f"listen: others can reach {host}, so a token is needed; set token_sha256, or STREAM_ENHANCE_TOKEN in the "
            "environment"
        )


class Allowance:
    """So many requests a second of one kind, some of them at once (the generic cell rate algorithm, ITU-T I.371).

    Args:
        rate: requests a second.
        burst: as many may come at once after a rest.
        patience: longest time in seconds that one may be held back; one that would have to wait longer is refused.
    """

    def __init__(self, rate: float, burst: int, patience: float) -> None:
        self._apart, self._burst, self._patience = 1 / rate, (burst - 1) / rate, patience
        self._due: dict[str, float] = {}  # when the next is due if they came evenly

    def wait(self, whose: str, now: float) -> float | None:
        """Seconds until one more, asked for at ``now``, may be had; None where it may not."""
        if len(self._due) > 10_000:
            self._due = {key: due for key, due in self._due.items() if due > now}
        due = max(self._due.get(whose, now), now)
        wait = max(0.0, due - now - self._burst)
        if wait > self._patience:
            return None
        self._due[whose] = due + self._apart
        return wait


class Guard:
    """ASGI middleware: lets in who may, limits what they send, and adds the security headers.

    Args:
        app: what is guarded.
        host: what the server listens on.
        token_sha256: hex digest of the token, or "" where none is needed.
    """

    def __init__(self, app: ASGIApp, host: str, token_sha256: str) -> None:
        self._app, self._local, self._token = app, loopback(host) and not token_sha256, token_sha256
        self._sessions: dict[str, float] = {}  # cookie's digest: when it ends
        self._changes = Allowance(rate=2, burst=20, patience=0)  # they, and tokens tried
        self._reads = Allowance(rate=10, burst=100, patience=5)
        self._files = Allowance(rate=100, burst=400, patience=5)  # a page asks for many, six at a time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        wait = self._wait(scope)
        if wait:
            await asyncio.sleep(wait)
        answer = _TOO_MANY if wait is None else self._refusal(HTTPConnection(scope))
        if answer is None and scope["type"] == "http" and scope["path"] == "/login" and scope["method"] == "POST":
            answer = await self._login(scope, receive)
        if answer is not None:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 4401})
                return
            await answer(scope, receive, _with_headers(send))
            return
        await self._app(scope, _limited(receive), _with_headers(send))

    def _refusal(self, request: HTTPConnection) -> Response | None:
        """Why this may not be done, or None where it may."""
        path, headers = request.scope["path"], request.headers  # ``request.url`` has the Host header in it
        try:
            host, origin = urlsplit(f"//{headers.get('host', '')}"), urlsplit(headers.get("origin", ""))
        except ValueError:  # of a bracket without its other
            return PlainTextResponse("the Host or Origin header is no address\n", 400)
        if self._local and not loopback(host.hostname or ""):
            return PlainTextResponse("ask for it by a loopback name\n", 421)
        method = request.scope.get("method", "GET")
        if headers.get("origin") and origin.netloc != host.netloc:
            return PlainTextResponse("another site's page may not do this\n", 403)
        if int(headers.get("content-length") or 0) > _MOST_BODY:
            return PlainTextResponse("too large\n", 413)
        if method not in _READING:
            if path != "/login" and CHANGING not in headers:
                return PlainTextResponse(f"send the header {CHANGING}: 1 with requests that change something\n", 403)
            if self._changes.wait(_address(request.scope), time.monotonic()) is None:
                return _TOO_MANY
        if self._local or path in _OPEN or self._known(request):
            return None
        if "text/html" in headers.get("accept", "") and method == "GET":
            return RedirectResponse("/login", 303)
        return JSONResponse({"detail": "a token is needed"}, 401, {"www-authenticate": "Bearer"})

    def _known(self, request: HTTPConnection) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return hmac.compare_digest(hashed(token.strip()), self._token)
        cookie = request.cookies.get(COOKIE, "")
        return self._sessions.get(hashed(cookie), 0.0) > time.monotonic()

    def _wait(self, scope: Scope) -> float | None:
        """How long to hold back one that reads, or None to refuse it; told first, so that many cost little."""
        if scope.get("method") not in _READING:
            return 0.0
        path, address = scope["path"], _address(scope)
        if path.startswith(("/static/", "/shots/")):
            return self._files.wait(address, time.monotonic())
        # whoever looks after the server is not held up by another program of the same machine
        return self._reads.wait(f"{address} {path if path in _WATCHED else ''}", time.monotonic())

    async def _login(self, scope: Scope, receive: Receive) -> Response:
        form = await Request(scope, _limited(receive)).body()
        token = parse_qs(form.decode("utf-8", "replace")).get("token", [""])[0]
        if not self._token or not hmac.compare_digest(hashed(token), self._token):
            return RedirectResponse("/login?wrong", 303)
        cookie = secrets.token_urlsafe(32)
        now = time.monotonic()
        self._sessions = {key: end for key, end in self._sessions.items() if end > now}
        self._sessions[hashed(cookie)] = now + 12 * 3600
        answer = RedirectResponse("/", 303)
        secure = scope.get("scheme") == "https"
        answer.set_cookie(COOKIE, cookie, max_age=12 * 3600, httponly=True, samesite="strict", secure=secure)
        return answer


def _address(scope: Scope) -> str:
    return (scope.get("client") or ("",))[0]


def _limited(receive: Receive) -> Receive:
    """``receive`` that ends a body that is too large, said or not."""
    total = 0

    async def limited() -> Any:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > _MOST_BODY:
            return {"type": "http.disconnect"}
        return message

    return limited


def _with_headers(send: Send) -> Callable[[Any], Awaitable[None]]:
    async def sent(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
        await send(message)

    return sent
