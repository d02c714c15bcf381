"""The page and its API: cameras watched, added, changed, paused and removed; best shots; health and figures."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from fastapi import FastAPI, HTTPException, Query, WebSocket
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.websockets import WebSocketDisconnect

from .. import __version__
from ..config import validated
from ..errors import InputError
from . import metrics
from .access import Guard
from .camera import Camera, CameraConfig
from .supervisor import Supervisor
from .view import Piece

_HERE = Path(__file__).parent
_QUEUED = 50  # pieces that may wait for one viewer
_PATIENCE = 10.0  # seconds a viewer may be so many pieces behind
_SHOTS = 200

T = TypeVar("T")
Name = Annotated[str, InPath(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")]


class CameraBody(BaseModel):
    """A camera as the API takes it.  Outputs and ``{NAME}`` placeholders are for the YAML file only."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=2000, pattern=r"^[^{}]*$")
    settings: dict[str, dict[str, Any]] = {}
    paused: bool = False


def make_app(cameras: Supervisor, host: str, token_sha256: str) -> Any:
    """The ASGI application."""
    app = FastAPI(title="stream-enhance", version=__version__, docs_url=None, redoc_url=None)
    _add_cameras(app, cameras)
    _add_views(app, cameras)
    _add_shots(app, cameras)
    _add_operations(app, cameras)
    app.mount("/static", StaticFiles(directory=_HERE / "static"))

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(_HERE / "static" / "index.html")

    @app.get("/api", include_in_schema=False)
    def described() -> FileResponse:
        return FileResponse(_HERE / "static" / "api.html")

    @app.get("/login", include_in_schema=False)
    def login() -> FileResponse:
        return FileResponse(_HERE / "static" / "login.html")

    @app.exception_handler(RequestValidationError)
    async def wrong(_: Any, error: RequestValidationError) -> JSONResponse:
        # without what was sent: a camera's URL may hold its password
        return JSONResponse(
            {"detail": [{key: one[key] for key in ("type", "loc", "msg")} for one in error.errors()]}, 422
        )

    return Guard(app, host, token_sha256)


def _known(cameras: Supervisor, name: str) -> Camera:
    camera = cameras.get(name)
    if camera is None:
        raise HTTPException(404, f"no camera {name}")
    return camera


def _add_cameras(app: FastAPI, cameras: Supervisor) -> None:
    @app.get("/api/cameras")
    async def every_camera() -> list[dict[str, Any]]:
        """State, rates, age and counts of each camera."""
        return [camera.status() for camera in cameras]

    @app.get("/api/cameras/{name}", responses={404: {}})
    async def one_camera(name: Name) -> dict[str, Any]:
        return _known(cameras, name).status()

    @app.put("/api/cameras/{name}", responses={400: {}})
    def put_camera(name: Name, body: CameraBody) -> dict[str, Any]:
        """Add a camera, or change one; a change keeps the outputs that the YAML file gave it."""
        known = cameras.get(name)
        outputs = known.config.outputs if known else ()
        given = body.model_dump() | {"outputs": outputs}
        _try(lambda: cameras.put(name, validated(CameraConfig, given, f"camera {name}")))
        return _known(cameras, name).status()

    @app.delete("/api/cameras/{name}", status_code=204, responses={404: {}})
    def remove_camera(name: Name) -> None:
        if not cameras.remove(name):
            raise HTTPException(404, f"no camera {name}")

    @app.post("/api/cameras/{name}/pause", responses={404: {}})
    def pause(name: Name) -> dict[str, Any]:
        return _set_paused(name, True)

    @app.post("/api/cameras/{name}/resume", responses={404: {}})
    def resume(name: Name) -> dict[str, Any]:
        return _set_paused(name, False)

    def _set_paused(name: str, paused: bool) -> dict[str, Any]:
        camera = _known(cameras, name)
        if camera.config.paused != paused:
            _try(lambda: cameras.put(name, camera.config.model_copy(update={"paused": paused})))
        return _known(cameras, name).status()


def _try(change: Any) -> None:
    try:
        change()
    except InputError as error:
        raise HTTPException(400, str(error)) from None


def _add_views(app: FastAPI, cameras: Supervisor) -> None:
    @app.websocket("/api/cameras/{name}/video")
    async def video(socket: WebSocket, name: str) -> None:
        """First a text message with the codec's name, then fragmented MP4."""
        camera = cameras.get(name)
        if camera is None:
            await socket.close(4404)
            return
        await socket.accept()
        limit, clock = asyncio.timeout(None), asyncio.get_running_loop().time

        def behind(
            late: bool,
        ) -> None:  # one time limit for a viewer, not one for each piece: those cost more than sending
            limit.reschedule(clock() + _PATIENCE if late else None)

        try:
            async with limit, aclosing(_pieces(camera, "video", behind)) as pieces:
                async for piece in pieces:
                    if piece.kind == "header":
                        await socket.send_text(piece.codec)
                    await socket.send_bytes(piece.data)
            await socket.close()
        except (WebSocketDisconnect, TimeoutError, RuntimeError):  # RuntimeError: uvicorn's, of a closed socket
            return

    @app.get("/api/cameras/{name}/mjpeg", responses={404: {}})
    async def mjpeg(name: Name) -> StreamingResponse:
        """Original and enhanced side by side as multipart JPEG, for browsers without MediaSource."""
        camera = _known(cameras, name)

        async def parts() -> AsyncIterator[bytes]:
            async for piece in _pieces(camera, "jpeg"):
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(piece.data)}\r\n\r\n"
                yield head.encode() + piece.data + b"\r\n"

        return StreamingResponse(parts(), media_type="multipart/x-mixed-replace; boundary=frame")


class _Wanted:
    """Which pieces a viewer is to be sent: each encoder's header once, then its fragments from a key frame on."""

    def __init__(self) -> None:
        self._encoder, self._flows = 0, False
        self.lost = False  # it did not keep up, and is to go on with a key frame

    def __call__(self, piece: Piece, waiting: int) -> bool:
        """Whether to queue ``piece`` behind so many that wait."""
        if piece.kind == "jpeg":
            return not waiting  # else the one before is not even sent
        if piece.kind == "header":
            new = piece.encoder != self._encoder
            self._encoder, self._flows = piece.encoder, self._flows and not new
            return new
        if piece.encoder != self._encoder or not (self._flows or piece.key):
            return False
        if waiting >= _QUEUED:
            self._flows, self.lost = False, True
            return False
        self._flows = True
        return True


async def _pieces(
    camera: Camera, kind: str, behind: Callable[[bool], None] = lambda _: None
) -> AsyncGenerator[Piece, None]:
    """What a viewer is to be sent, from a key frame on, for as long as the camera is there.

    ``behind`` is told when the viewer has lost pieces because it does not keep up, and when it has caught up.
    """
    queue: asyncio.Queue[Piece | None] = asyncio.Queue()
    wanted = _Wanted()

    def take(piece: Piece | None) -> None:
        lost = wanted.lost
        if piece is None or wanted(piece, queue.qsize()):
            queue.put_nowait(piece)
        elif wanted.lost and not lost:
            behind(True)

    number = camera.view.join(kind, take, asyncio.get_running_loop())
    try:
        while (piece := await queue.get()) is not None and not camera.gone:
            yield piece
            if wanted.lost and queue.empty():  # it has caught up
                wanted.lost = False
                behind(False)
                camera.view.refresh()
    finally:
        wanted.lost = True  # what is on its way to ``take`` is no news any more
        camera.view.leave(number)


def _add_shots(app: FastAPI, cameras: Supervisor) -> None:
    @app.get("/api/shots")
    def shots(
        camera: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")] = None,
        limit: Annotated[int, Query(ge=1, le=_SHOTS)] = 60,
    ) -> list[dict[str, Any]]:
        """Each track's best shot, newest first."""
        return _found(cameras, camera)[:limit]

    @app.get("/shots/{camera}/{run}/{file}", responses={404: {}})
    def shot(
        camera: Name,
        run: Annotated[str, InPath(pattern=r"^\d{8}-\d{6}$")],
        file: Annotated[str, InPath(pattern=r"^track_\d{1,12}_(before|after)\.png$")],
    ) -> FileResponse:
        if cameras.gallery is None or not (path := cameras.gallery / camera / run / file).is_file():
            raise HTTPException(404, "no such shot")
        return FileResponse(path, media_type="image/png", headers={"cache-control": "no-cache"})

    statuses = _Shared(lambda: _event("cameras", [camera.status() for camera in cameras]))
    newest = _Shared(lambda: _found(cameras, None))

    @app.get("/api/events")
    async def events() -> StreamingResponse:
        """Server-sent events: ``cameras`` with every camera's status each second, ``shot`` for each new best shot."""

        async def lines() -> AsyncIterator[str]:
            seen = time.time()
            while not cameras.closed:
                yield await statuses.get()
                for one in reversed([shot for shot in await newest.get() if shot["written"] > seen]):
                    seen = max(seen, one["written"])
                    yield _event("shot", one)
                await asyncio.sleep(1.0)

        return StreamingResponse(lines(), media_type="text/event-stream", headers={"cache-control": "no-store"})


class _Shared(Generic[T]):
    """What ``make()`` gave, made in a thread and at most twice a second, however many ask."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._lock = make, asyncio.Lock()
        self._made: tuple[float, T] | None = None

    async def get(self) -> T:
        async with self._lock:
            if self._made is None or time.monotonic() - self._made[0] > 0.5:
                self._made = time.monotonic(), await asyncio.to_thread(self._make)
            return self._made[1]


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def _found(cameras: Supervisor, only: str | None) -> list[dict[str, Any]]:
    """Best shots on the disk, newest first."""
    if cameras.gallery is None:
        return []
    shots: list[dict[str, Any]] = []
    for path in cameras.gallery.glob(f"{only or '*'}/*/track_*_after.png"):
        try:
            written = path.stat().st_mtime
        except OSError:  # a better one took its place this moment, or it was deleted
            continue
        base = f"/shots/{path.parent.parent.name}/{path.parent.name}/{path.name.removesuffix('_after.png')}"
        track = int(path.name.split("_")[1])
        shots.append({
            "camera": path.parent.parent.name, "track": track, "written": written,
            "before": f"{base}_before.png", "after": f"{base}_after.png",
        })  # fmt: skip
    return sorted(shots, key=lambda shot: -float(shot["written"]))[:_SHOTS]


def _add_operations(app: FastAPI, cameras: Supervisor) -> None:
    @app.get("/healthz", response_class=PlainTextResponse)
    async def alive() -> str:
        """The process answers."""
        return "ok\n"

    @app.get("/readyz", responses={503: {}})
    async def ready() -> Response:
        """Every camera that is not paused is live; else which are not."""
        not_live = {c.name: c.state for c in cameras if c.state not in ("live", "paused")}
        return Response(json.dumps({"not_live": not_live}), 503 if not_live else 200, media_type="application/json")

    @app.get("/metrics", response_class=PlainTextResponse)
    def figures() -> PlainTextResponse:
        return PlainTextResponse(metrics.text(cameras), media_type="text/plain; version=0.0.4")
