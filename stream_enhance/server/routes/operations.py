"""What monitoring asks for: health, readiness, metrics."""

from __future__ import annotations

import json

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from .. import metrics
from ..supervisor import Supervisor


def routes(cameras: Supervisor) -> APIRouter:
    """``/healthz``, ``/readyz`` and ``/metrics``."""
    router = APIRouter()

    @router.get("/healthz", response_class=PlainTextResponse)
    async def alive() -> str:
        """The process answers."""
        return "ok\n"

    @router.get("/readyz", responses={503: {}})
    async def ready() -> Response:
        """200 if every camera that is not paused is live; otherwise 503, and which are not."""
        not_live = {c.name: c.state for c in cameras if c.state not in ("live", "paused")}
        return Response(json.dumps({"not_live": not_live}), 503 if not_live else 200, media_type="application/json")

    @router.get("/metrics", response_class=PlainTextResponse)
    def prometheus() -> PlainTextResponse:
        """Metrics for Prometheus."""
        return PlainTextResponse(metrics.text(cameras), media_type="text/plain; version=0.0.4")

    return router
