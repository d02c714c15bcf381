"""``stream-enhance serve cameras.yaml``: many cameras and a page to watch them on.

SIGHUP reads the file again: cameras that are new, gone or changed are added, removed or begun anew, the others go on.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..config import read_yaml, validated
from ..errors import ConfigError, InputError, SinkError, redact

if TYPE_CHECKING:
    from .camera import CameraConfig

log = logging.getLogger(__name__)


class NotifyConfig(BaseModel):
    """Who is told of new tracks; nobody unless named here.  ``{NAME}`` stands for environment variables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    webhook: str = ""  # http(s) URL
    mqtt: str = ""  # mqtt://[user:password@]host[:port]/topic


class ServeConfig(BaseModel):
    """``cameras.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = "127.0.0.1:8000"
    token_sha256: str = Field("", pattern="^([0-9a-f]{64})?$")
    gallery: Path | None = None
    notify: NotifyConfig = NotifyConfig()
    settings: dict[str, Any] = {}
    cameras: dict[str, dict[str, Any]] = {}

    @field_validator("listen")
    @classmethod
    def _address(cls, listen: str) -> str:
        host, _, port = listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError("write it as address:port, e.g. 127.0.0.1:8000")
        try:
            host.encode("idna")
        except UnicodeError:  # an empty or overlong part
            raise ValueError(f"{host!r} is no name of a host; take an address, e.g. 127.0.0.1:8000") from None
        return listen

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


def read(path: str) -> tuple[ServeConfig, dict[str, CameraConfig]]:
    """The file's settings and cameras.

    Raises:
        ConfigError: it cannot be used.
    """
    from .camera import CameraConfig

    config = validated(ServeConfig, read_yaml(path), path)
    cameras = {name: validated(CameraConfig, camera, f"{path}: {name}") for name, camera in config.cameras.items()}
    taken: dict[str, str] = {}
    for name, spec in [(name, spec) for name, camera in cameras.items() for spec in camera.outputs]:
        try:
            place = _place(spec)
        except InputError as error:
            raise ConfigError(f"{path}: {name}: outputs: {error}") from None
        if place in taken:
            raise ConfigError(f"{path}: {name}: outputs: {redact(spec)}: {taken[place]} writes there too; name another")
        taken[place] = name
    return config, cameras


def _place(spec: str) -> str:
    """Where a camera's output goes, alike for alike outputs.

    Raises:
        InputError: it can never be written.  A folder that is not there may come.
    """
    from ..sinks.target import ImageFolderTarget, ImageTarget, StdoutTarget, parse_target

    match target := parse_target(spec, live=True):
        case ImageFolderTarget() | ImageTarget() | StdoutTarget():
            raise SinkError(f"{target.name}: is no output of a camera; name a video file, .m3u8 or a URL")
    return target.identity


def serve(path: str, stopped: Callable[[], bool] = lambda: False) -> None:
    """Run until SIGINT or SIGTERM; ``stopped`` tells of one that came before the server was there to take it.

    Raises:
        InputError: the file, a model, the address or the token cannot be used.
    """
    try:
        import uvicorn

        from .access import check_exposure
        from .app import make_app
    except ModuleNotFoundError as error:
        raise InputError(f"serve needs {error.name}; pip install 'stream-enhance[web]'") from None
    from .notices import Notices
    from .supervisor import Supervisor

    config, wanted = read(path)
    token = _token(config)
    host, port = config.address
    check_exposure(host, token)
    listening = _bound(host, port)
    notices = Notices(config.notify.webhook, config.notify.mqtt)
    cameras = Supervisor(config.settings, config.gallery, notices)
    try:
        cameras.reconcile(wanted)
        app = make_app(cameras, host, token)
        options: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}

        class Server(uvicorn.Server):
            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                cameras.stop()  # what streams to a browser ends with its camera, and uvicorn waits for that
                await super().shutdown(sockets)

        options |= {"ws_max_size": 4096, "ws_per_message_deflate": False}  # H.264 does not get smaller
        server = Server(uvicorn.Config(app, timeout_graceful_shutdown=1, **options))
        _reload_on_hangup(path, config, cameras)
        log.info("http://%s:%d/ shows %d cameras", _shown(host), listening.getsockname()[1], len(wanted))
        if not stopped():
            server.run(sockets=[listening])
    finally:
        cameras.close()
        listening.close()


def _shown(host: str) -> str:
    """As it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def _token(config: ServeConfig) -> str:
    """The token's digest, from the environment or the file; "" for none."""
    from .access import SHORTEST_TOKEN, hashed

    given = os.environ.get("STREAM_ENHANCE_TOKEN")
    if given is None:
        return config.token_sha256
    if len(given) < SHORTEST_TOKEN:
        raise ConfigError(f"STREAM_ENHANCE_TOKEN: too short; use at least {SHORTEST_TOKEN} characters")
    return hashed(given)


def _bound(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY by it
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        raise SinkError(f"listen: {_shown(host)}:{port} cannot be had ({error.strerror}); choose another") from None
    return listening


def _reload_on_hangup(path: str, first: ServeConfig, cameras: Any) -> None:
    asked = threading.Event()

    def reload() -> None:
        while asked.wait():
            asked.clear()
            try:
                config, wanted = read(path)
                if config.model_copy(update={"cameras": first.cameras}) != first:
                    log.warning("%s: only cameras are read again; start anew for the rest", path)
                told = cameras.reconcile(wanted)
                log.info("%s: read again; %s", path, ", ".join(told) or "nothing has changed")
            except InputError as error:
                log.error("%s; nothing was changed", error)

    if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
        threading.Thread(target=reload, name="reload", daemon=True).start()
        signal.signal(signal.SIGHUP, lambda *_: asked.set())
