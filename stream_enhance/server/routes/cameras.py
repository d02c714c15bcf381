"""Cameras listed, added, changed, paused and removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field, field_validator

from ...config import validated
from ...errors import InputError, printable
from ..camera import Camera
from ..config import NAME, CameraConfig
from ..supervisor import Supervisor

Name = Annotated[str, InPath(pattern=NAME)]


class CameraBody(BaseModel):
    """A camera as the API takes it.  Outputs and ``{NAME}`` placeholders are for the YAML file only."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=2000, pattern=r"^[^{}]*$")
    detect_url: str = Field("", max_length=2000, pattern=r"^[^{}]*$")
    settings: dict[str, dict[str, Any]] = {}
    paused: bool = False

    @field_validator("settings")
    @classmethod
    def _no_placeholders(cls, settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if "{" in str(settings.get("live", {}).get("detect_url", "")):
            raise ValueError("live.detect_url: {NAME} is for the YAML file only")
        return settings


def known(cameras: Supervisor, name: str) -> Camera:
    """The camera of that name.

    Raises:
        HTTPException: 404, there is none.
    """
    camera = cameras.get(name)
    if camera is None:
        raise HTTPException(404, f"no camera {name}")
    return camera


def routes(cameras: Supervisor) -> APIRouter:
    """``/api/cameras`` and below."""
    router = APIRouter(prefix="/api/cameras")

    @router.get("")
    async def every_camera() -> list[dict[str, Any]]:
        """State, frame rate, age and counts of each camera."""
        return [camera.status() for camera in cameras]

    @router.get("/{name}", responses={404: {}})
    async def one_camera(name: Name) -> dict[str, Any]:
        """State, frame rate, age and counts of one camera."""
        return known(cameras, name).status()

    @router.put("/{name}", responses={400: {}})
    def put_camera(name: Name, body: CameraBody) -> dict[str, Any]:
        """Add a camera, or change one; a change keeps the outputs that the YAML file gave it."""
        old = cameras.get(name)
        given = body.model_dump() | {"outputs": old.config.outputs if old else ()}
        _apply(lambda: cameras.put(name, validated(CameraConfig, given, f"camera {name}")))
        return known(cameras, name).status()

    @router.delete("/{name}", status_code=204, responses={404: {}})
    def remove_camera(name: Name) -> None:
        """Remove a camera; its recordings stay."""
        if not cameras.remove(name):
            raise HTTPException(404, f"no camera {name}")

    @router.post("/{name}/pause", responses={404: {}})
    def pause(name: Name) -> dict[str, Any]:
        """Disconnect from a camera until it is resumed."""
        return _set_paused(cameras, name, True)

    @router.post("/{name}/resume", responses={404: {}})
    def resume(name: Name) -> dict[str, Any]:
        """Connect to a paused camera again."""
        return _set_paused(cameras, name, False)

    return router


def _set_paused(cameras: Supervisor, name: str, paused: bool) -> dict[str, Any]:
    camera = known(cameras, name)
    if camera.config.paused != paused:
        _apply(lambda: cameras.put(name, camera.config.model_copy(update={"paused": paused})))
    return known(cameras, name).status()


def _apply(change: Callable[[], None]) -> None:
    try:
        change()
    except InputError as error:
        raise HTTPException(400, printable(str(error))) from None
