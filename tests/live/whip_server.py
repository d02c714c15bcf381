"""A WHIP server (RFC 9725) on loopback, by aiortc: takes an offer, and prints a line for each image that arrives.

    python whip_server.py PORT

Prints ``listening``, then ``image WIDTH HEIGHT MEAN`` each, with the mean of its brightness.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aioice.ice
import uvicorn
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]  # no other way in
held: set[Any] = set()


def said(line: str) -> None:
    print(line, flush=True)


async def shown(track: Any) -> None:
    try:
        while True:
            image = await track.recv()
            said(f"image {image.width} {image.height} {image.to_ndarray(format='gray').mean():.0f}")
    except MediaStreamError:
        said("end")


async def offered(request: Request) -> Response:
    connection = RTCPeerConnection()
    held.add(connection)
    connection.on("track", lambda track: held.add(asyncio.ensure_future(shown(track))))
    await connection.setRemoteDescription(RTCSessionDescription((await request.body()).decode(), "offer"))
    await connection.setLocalDescription(await connection.createAnswer())
    answer = connection.localDescription.sdp
    return PlainTextResponse(answer, 201, {"Location": "/whip/1"}, media_type="application/sdp")


async def left(request: Request) -> Response:
    return Response()


async def listening() -> None:
    routes = [Route("/whip", offered, methods=["POST"]), Route("/whip/1", left, methods=["DELETE"])]
    config = uvicorn.Config(Starlette(routes=routes), port=int(sys.argv[1]), log_level="error")
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    said("listening")
    await serving


asyncio.run(listening())
