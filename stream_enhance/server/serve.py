"""``stream-enhance serve cameras.yaml``: many cameras and a page to watch them on.

SIGHUP reads the file again: cameras that are new, gone or changed are added, removed or restarted, the others go on.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ConfigError, InputError, SinkError, printable
from ..extras import install_hint
from .config import ServeConfig, read
from .notices import Notices

if TYPE_CHECKING:
    from .supervisor import Supervisor

log = logging.getLogger(__name__)


def serve(path: str, stopped: Callable[[], bool] = lambda: False) -> None:
    """Run until SIGINT or SIGTERM.

    Args:
        path: the YAML file.
        stopped: whether such a signal came before the server could take it.

    Raises:
        InputError: the file, a model, the address or the token cannot be used.
    """
    try:
        from .access import check_exposure
        from .app import make_server
        from .connections import raise_descriptor_limit
    except ModuleNotFoundError as error:
        raise InputError(f"serve needs {error.name}; run {install_hint('web')}") from None
    from .shots import ShotStore
    from .supervisor import Supervisor

    config, wanted = read(path)
    token, (host, port) = _token(config), config.address
    check_exposure(host, token, config.trusted_proxies)
    listening = _listen(host, port)
    try:
        raise_descriptor_limit()
        notices = Notices(config.notify.webhook, config.notify.mqtt)
        shots = None
        if config.gallery:
            shots = ShotStore(config.gallery, config.gallery_keep_hours, config.gallery_keep_megabytes)
        cameras = Supervisor(config.settings, shots, notices, config.detector_megapixels)
        try:
            cameras.reconcile(wanted)
            server = make_server(cameras, host, token, config.trusted_proxies)
            _reload_on_hangup(path, config, cameras)
            log.info("http://%s:%d/ shows %d cameras", _in_url(host), listening.getsockname()[1], len(wanted))
            if not stopped():
                server.run(sockets=[listening])
        finally:
            cameras.close()
    finally:
        listening.close()


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _token(config: ServeConfig) -> str:
    """The token's digest, from the environment or the file; "" for none."""
    from .access import MIN_TOKEN_LENGTH, hashed

    given = os.environ.get("STREAM_ENHANCE_TOKEN")
    if given is None:
        return config.token_sha256
    if len(given) < MIN_TOKEN_LENGTH:
        raise ConfigError(f"STREAM_ENHANCE_TOKEN: too short; use at least {MIN_TOKEN_LENGTH} characters")
    return hashed(given)


def _listen(host: str, port: int) -> socket.socket:
    from .connections import listen

    try:
        return listen(host, port)
    except OSError as error:
        raise SinkError(
            f"listen: {_in_url(host)}:{port} is not available ({error.strerror}); choose another address or port"
        ) from None


def _reload_on_hangup(path: str, first: ServeConfig, cameras: Supervisor) -> None:
    asked = threading.Event()

    def reload() -> None:
        while asked.wait():
            asked.clear()
            try:
                config, wanted = read(path)
                if config.model_copy(update={"cameras": first.cameras}) != first:
                    log.warning("%s: only cameras are reloaded; restart the server for other changes", path)
                log.info("%s: reloaded; %s", path, ", ".join(cameras.reconcile(wanted)) or "nothing has changed")
            except InputError as error:
                log.error("%s; nothing was changed", printable(str(error)))

    if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
        threading.Thread(target=reload, name="reload", daemon=True).start()
        signal.signal(signal.SIGHUP, lambda *_: asked.set())
