"""Best shots listed and served, and events as they happen."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Generic, TypeVar

from fastapi import APIRouter, HTTPException, Query
from fastapi import Path as InPath
from fastapi.responses import FileResponse, StreamingResponse

from ..config import NAME
from ..supervisor import Supervisor
from .cameras import Name

T = TypeVar("T")


def routes(cameras: Supervisor) -> APIRouter:
    """``/api/shots``, ``/shots/...`` and ``/api/events``."""
    router = APIRouter()
    store = cameras.shots

    @router.get("/api/shots")
    def shots(
        camera: Annotated[str | None, Query(pattern=NAME)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 60,
    ) -> list[dict[str, Any]]:
        """Each track's best shot, newest first."""
        return store.find(camera)[:limit] if store else []

    @router.get("/shots/{camera}/{run}/{file}", responses={404: {}})
    def shot(
        camera: Name,
        run: Annotated[str, InPath(pattern=r"^\d{8}-\d{6}(-\d{1,3})?$")],
        file: Annotated[str, InPath(pattern=r"^track_\d{1,12}_(before|after)\.png$")],
    ) -> FileResponse:
        """A best shot as PNG, before or after enhancement."""
        if store is None or not (path := store.folder / camera / run / file).is_file():
            raise HTTPException(404, "no such best shot")
        return FileResponse(path, media_type="image/png", headers={"cache-control": "no-cache"})

    statuses = _Shared(lambda: _event("cameras", [camera.status() for camera in cameras]))
    newest = _Shared(lambda: store.find(None) if store else [])

    @router.get("/api/events")
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

    return router


class _Shared(Generic[T]):
    """What ``make()`` returned, called in a thread and at most twice a second, however many ask."""

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
