"""The page and its API as one ASGI application, and its server.

What is answered is in ``routes``, who may ask in ``access``, what a connection may cost in ``connections``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from .. import __version__
from . import connections
from .access import Guard
from .routes import cameras, operations, shots, views
from .supervisor import Supervisor

_STATIC = Path(__file__).parent / "static"
_WRONG_TOKEN = '<p class="error" role="alert">This is not the access token. Check it and try again.</p>'


def make_app(supervisor: Supervisor, host: str, token_sha256: str) -> ASGIApp:
    """The application.

    Args:
        supervisor: whose cameras it shows.
        host: what the server listens on.
        token_sha256: hex digest of the token, or "" where none is needed.
    """
    app = FastAPI(title="stream-enhance", version=__version__, docs_url=None, redoc_url=None)
    for part in (cameras, views, shots, operations):
        app.include_router(part.routes(supervisor))
    app.include_router(_pages())
    app.mount("/static", StaticFiles(directory=_STATIC))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Any, error: RequestValidationError) -> JSONResponse:
        # without what was sent: a camera's URL may hold its password
        return JSONResponse(
            {"detail": [{key: one[key] for key in ("type", "loc", "msg")} for one in error.errors()]}, 422
        )

    return Guard(app, host, token_sha256)


def make_server(
    supervisor: Supervisor, host: str, token_sha256: str, trusted_proxies: tuple[str, ...] = (), **limits: float
) -> connections.Server:
    """The application's server, to be ``run`` on a socket; see ``connections.options`` for the last arguments."""

    def allowed() -> int:
        return connections.max_connections(len(supervisor))

    app = make_app(supervisor, host, token_sha256)
    options = connections.options(allowed, trusted_proxies, **limits)
    options |= {"log_level": "error", "access_log": False, "server_header": False, "timeout_graceful_shutdown": 1}
    return connections.Server(uvicorn.Config(app, **options), supervisor.stop)


def _pages() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html")

    @router.get("/api")
    def api() -> FileResponse:
        return FileResponse(_STATIC / "api.html")

    @router.get("/login")
    def login(request: Request) -> HTMLResponse:
        message = _WRONG_TOKEN if "wrong" in request.query_params else ""
        return HTMLResponse((_STATIC / "login.html").read_text().replace("<!-- message -->", message))

    return router
