"""``cameras.yaml``: what ``serve`` is to do, read and checked before anything is started."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..config import read_yaml, validated
from ..errors import ConfigError, InputError, SinkError, redact
from ..sinks.target import (
    FileTarget,
    HlsTarget,
    ImageFolderTarget,
    ImageTarget,
    SegmentsTarget,
    StdoutTarget,
    identity_of,
    parse_target,
)
from ..sources.formats import SCHEMES
from ..urls import with_environment

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$"  # of a camera


class NotifyConfig(BaseModel):
    """Where new tracks are announced; nowhere unless set here.  ``{NAME}`` stands for environment variables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    webhook: str = Field("", description="http or https URL that each notice is posted to, as JSON")
    mqtt: str = Field("", description="mqtt://[user:password@]host[:port]/topic, or mqtts://")


class CameraConfig(BaseModel):
    """One camera."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(max_length=2000, description="rtsp://, http://, ... or webcam:N; {NAME}: environment variable")
    detect_url: str = Field(
        "", max_length=2000, description="the same camera's smaller stream, to find faces in; {NAME} as in url"
    )
    outputs: tuple[str, ...] = Field((), description="files, .m3u8 playlists and URLs; encoded once for all of them")
    settings: dict[str, Any] = Field({}, description="of this camera, over those of all cameras")
    paused: bool = Field(False, description="do not connect")

    @field_validator("detect_url")
    @classmethod
    def _stream(cls, url: str) -> str:
        return url and cls._scheme(url)

    @field_validator("url")
    @classmethod
    def _scheme(cls, url: str) -> str:
        if re.search(r"\s", url):
            raise ValueError("has a space in it; write %20")
        scheme = url.split("://", 1)[0].lower() if "://" in url else ""
        if scheme not in SCHEMES and not re.fullmatch(r"webcam:\d+", url):
            raise ValueError(f"must be webcam:N or begin with one of {', '.join(sorted(SCHEMES))}://")
        return url


class ServeConfig(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = Field("127.0.0.1:8000", description="address:port of the page and the API")
    token_sha256: str = Field("", pattern="^([0-9a-f]{64})?$", description="SHA-256 of the access token, in hex")
    trusted_proxies: tuple[str, ...] = Field(
        (), description="IP addresses and networks of reverse proxies whose X-Forwarded-For and -Proto are believed"
    )
    gallery: Path | None = Field(None, description="folder for best shots; none are kept without it")
    gallery_keep_hours: float = Field(0, ge=0, description="age at which best shots are deleted; 0: never")
    gallery_keep_megabytes: float = Field(
        0, ge=0, description="size of all best shots, above which the oldest are deleted; 0: no limit"
    )
    detector_megapixels: float = Field(
        10, gt=0, description="pixels that one camera's detector.size and detector.tiles may ask for per frame"
    )
    notify: NotifyConfig = NotifyConfig()
    settings: dict[str, Any] = Field({}, description="of all cameras: whatever run --config takes")
    cameras: dict[str, dict[str, Any]] = Field({}, description="by name: url, outputs, settings, paused")

    @field_validator("listen")
    @classmethod
    def _address(cls, listen: str) -> str:
        host, _, port = listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError("write it as address:port, e.g. 127.0.0.1:8000")
        try:
            host.encode("idna")
        except UnicodeError:  # an empty or overlong label
            raise ValueError(f"{host!r} is not a host name; use an address, e.g. 127.0.0.1:8000") from None
        return listen

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise ValueError(f"{proxy!r} is not an IP address or network, e.g. 127.0.0.1 or 10.0.0.0/8") from None
        return proxies

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


def read(path: str) -> tuple[ServeConfig, dict[str, CameraConfig]]:
    """The file's settings and its cameras, by name.

    Raises:
        ConfigError: a value is wrong, an output's folder or an environment variable is missing, or two outputs are
            one.
    """
    config = validated(ServeConfig, read_yaml(path), path)
    cameras = {name: validated(CameraConfig, camera, f"{path}: {name}") for name, camera in config.cameras.items()}
    writers: dict[str, str] = {}  # by where they write
    for name, camera in cameras.items():
        for key, url in (("url", camera.url), ("detect_url", camera.detect_url)):
            try:
                with_environment(url)
            except InputError as error:
                raise ConfigError(f"{path}: {name}: {key}: {error}") from None
        for spec in camera.outputs:
            try:
                place = _place(spec)
            except InputError as error:
                raise ConfigError(f"{path}: {name}: outputs: {error}") from None
            if place in writers:
                other = writers[place]
                raise ConfigError(f"{path}: {name}: outputs: {redact(spec)}: {other} writes there too; choose another")
            writers[place] = name
    return config, cameras


def _place(spec: str) -> str:
    """Where a camera's output goes, alike for alike outputs.

    Raises:
        InputError: it cannot be written.
    """
    match target := parse_target(spec, live=True):
        case ImageFolderTarget() | ImageTarget() | StdoutTarget():
            raise SinkError(f"{target.name}: is no output of a camera; use a video file, .m3u8 or a URL")
        case FileTarget() | SegmentsTarget() | HlsTarget():
            folder = target.path.parent
            if not folder.is_dir():
                raise SinkError(f"{spec}: folder {folder} does not exist; create it")
            if not os.access(folder, os.W_OK):
                raise SinkError(f"{spec}: folder {folder} cannot be written to; change its permissions")
    return identity_of(target)
