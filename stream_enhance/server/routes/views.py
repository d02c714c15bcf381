"""Live views: fragmented MP4 over a WebSocket, or JPEGs over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter, WebSocket
from fastapi.responses import StreamingResponse
from starlette.websockets import WebSocketDisconnect

from ..camera import Camera
from ..supervisor import Supervisor
from ..view import Piece
from .cameras import Name, known

_REPEAT = 10.0  # seconds of silence until an image is sent again: only who writes notices a viewer that has vanished
_QUEUED = 50  # pieces that may wait for one viewer


def routes(cameras: Supervisor) -> APIRouter:
    """``/api/cameras/{name}/video`` and ``mjpeg``."""
    router = APIRouter(prefix="/api/cameras/{name}")

    @router.websocket("/video")
    async def video(socket: WebSocket, name: str) -> None:
        """First a text message with the codec's name, then fragmented MP4."""
        camera = cameras.get(name)
        if camera is None:
            await socket.close(4404)
            return
        await socket.accept()
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(_send(camera, socket))
            await _left(socket)  # noticed even while the camera has nothing to send
            sending.cancel()

    @router.get("/mjpeg", responses={404: {}})
    async def mjpeg(name: Name) -> StreamingResponse:
        """Original and enhanced side by side as multipart JPEG, for browsers without MediaSource."""
        camera = known(cameras, name)

        async def parts() -> AsyncIterator[bytes]:
            async for piece in pieces(camera, "jpeg", _REPEAT):
                if not piece.data:  # no image yet: a line before the first part, which readers pass over (RFC 2046)
                    yield b"\r\n"
                    continue
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(piece.data)}\r\n\r\n"
                yield head.encode() + piece.data + b"\r\n"

        return StreamingResponse(parts(), media_type="multipart/x-mixed-replace; boundary=frame")

    return router


async def _send(camera: Camera, socket: WebSocket) -> None:
    try:
        async with aclosing(pieces(camera, "video")) as sent:
            async for piece in sent:
                if piece.kind == "header":
                    await socket.send_text(piece.codec)
                await socket.send_bytes(piece.data)
        await socket.close()
    except (WebSocketDisconnect, RuntimeError):  # RuntimeError: of a socket that was closed meanwhile
        return


async def _left(socket: WebSocket) -> None:
    """Return when the viewer has left; what it sends is ignored."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


class Selection:
    """Which pieces one viewer is sent: each encoder's header once, then its fragments from a key frame on."""

    def __init__(self) -> None:
        self._encoder, self._flows = 0, False
        self.lost = False  # it did not keep up, and is to go on with a key frame

    def __call__(self, piece: Piece, waiting: int) -> bool:
        """Whether to queue ``piece`` behind ``waiting`` others."""
        if piece.kind == "jpeg":
            return not waiting  # otherwise not even the one before has been sent
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


async def pieces(camera: Camera, kind: str, repeat: float | None = None) -> AsyncGenerator[Piece, None]:
    """What one viewer is sent, from a key frame on, for as long as the camera is there.

    Args:
        camera: what it watches.
        kind: "video" or "jpeg".
        repeat: seconds without a piece until the last one is sent again, or an empty one where there is none.
    """
    queue: asyncio.Queue[Piece | None] = asyncio.Queue()
    selection = Selection()

    def take(piece: Piece | None) -> None:
        if piece is None or selection(piece, queue.qsize()):
            queue.put_nowait(piece)

    number = camera.view.join(kind, take, asyncio.get_running_loop())
    try:
        last = Piece(b"", True, kind)
        while not camera.gone:
            try:
                piece = await asyncio.wait_for(queue.get(), repeat)
            except TimeoutError:
                piece = last
            if piece is None:
                return
            last = piece
            yield piece
            if selection.lost and queue.empty():  # it has caught up
                selection.lost = False
                camera.view.refresh()
    finally:
        camera.view.leave(number)
