"""Notices of new tracks, to a webhook, to MQTT, or to both; off unless the YAML file asks for them.

A notice is a small JSON object.  One thread sends them, so no camera ever waits; where they come faster than they can
be sent, or nobody answers, the oldest are dropped and counted.
"""

from __future__ import annotations

import json
import logging
import threading
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from ..errors import ConfigError, printable, redact
from ..extras import install_hint
from ..runtime import Cancelled, Channel
from ..urls import with_environment

log = logging.getLogger(__name__)

_WAITING = 200  # notices that may wait
_TIMEOUT = 5.0  # seconds for a webhook to answer
_PAUSES = (1.0, 3.0)  # seconds before a notice is sent again; after the last it is dropped


class Notices:
    """Sends notices until ``close``.

    Args:
        webhook: http(s) URL that each notice is posted to, or "".
        mqtt: ``mqtt://[user:password@]host[:port]/topic`` (or ``mqtts``), or "".  A notice goes to topic/camera.

    Raises:
        ConfigError: an address cannot be used, or MQTT is asked for and paho-mqtt is not installed.
    """

    def __init__(self, webhook: str = "", mqtt: str = "") -> None:
        self.sent = self.failed = 0
        self._senders: list[Callable[[dict[str, Any]], None]] = []
        self._closers: list[Callable[[], None]] = []
        if webhook:
            self._senders.append(_webhook(webhook))
        if mqtt:
            send, close = _mqtt(mqtt)
            self._senders.append(send)
            self._closers.append(close)
        self._queue: Channel[dict[str, Any]] = Channel(_WAITING, "drop_oldest")
        self._stopping, self._failing = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
        if self._senders:
            self._thread.start()

    @property
    def lost(self) -> int:
        """Notices that were not delivered."""
        return self.failed + self._queue.dropped

    def submit(self, notice: dict[str, Any]) -> None:
        """Queue a notice; never blocks."""
        if self._senders and not self._stopping.is_set():
            self._queue.put(notice)

    def close(self, seconds: float = 1.0) -> None:
        """Send what is queued, as far as ``seconds`` allow."""
        if self._senders:
            self._queue.close()
            self._thread.join(seconds)
            self._stopping.set()
            for close in self._closers:
                close()

    def _run(self) -> None:
        try:
            for notice in self._queue:
                for send in self._senders:
                    self._send(send, notice)
        except Cancelled:
            pass

    def _send(self, send: Callable[[dict[str, Any]], None], notice: dict[str, Any]) -> None:
        for pause in (*_PAUSES, None):
            try:
                send(notice)
            except Exception as error:  # whatever a webhook or a broker answers, the cameras and later notices go on
                if not self._failing:
                    log.warning("notices cannot be sent (%s); trying again", printable(str(error)))
                self._failing = True
            else:
                self.sent += 1
                self._failing = False
                return
            if pause is None or self._stopping.wait(pause):
                break
        self.failed += 1


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Do not follow: where notices go is for the configuration to say, not for whoever answers."""


def _webhook(address: str) -> Callable[[dict[str, Any]], None]:
    parts = _split("notify.webhook", address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"notify.webhook: {redact(address)} must begin with http:// or https://, and name a host")
    host = parts.netloc.rpartition("@")[2]
    path, query = (quote(part, safe="%/:=&?~#+!$,;'@()*[]") for part in (parts.path, parts.query))
    url = urlunsplit((parts.scheme, host, path, query, ""))
    headers = {"Content-Type": "application/json"}
    if parts.username is not None:  # which urllib takes for a part of the host
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
    opener = urllib.request.build_opener(_NoRedirect)

    def send(notice: dict[str, Any]) -> None:
        request = urllib.request.Request(url, json.dumps(notice).encode(), headers, method="POST")
        with opener.open(request, timeout=_TIMEOUT) as answer:
            answer.read(1000)

    return send


def _split(key: str, address: str) -> SplitResult:
    try:
        parts = urlsplit(with_environment(address))
        parts.port  # noqa: B018  raises where it is not a number
    except ValueError:
        raise ConfigError(f"{key}: {redact(address)} is not a URL; check its host and port") from None
    return parts


def _mqtt(address: str) -> tuple[Callable[[dict[str, Any]], None], Callable[[], None]]:
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ModuleNotFoundError:
        raise ConfigError(f"notify.mqtt needs paho-mqtt; run {install_hint('mqtt')}") from None
    parts = _split("notify.mqtt", address)
    topic = parts.path.strip("/")
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not topic or "#" in address or "+" in topic:
        raise ConfigError(f"notify.mqtt: {redact(address)} must be mqtt://host/topic or mqtts://host/topic")
    client = Client(CallbackAPIVersion.VERSION2)
    client.max_queued_messages_set(_WAITING)
    if parts.username:
        client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
    secure = parts.scheme == "mqtts"
    if secure:
        client.tls_set()
    client.connect_async(parts.hostname, parts.port or (8883 if secure else 1883))
    client.loop_start()  # connects, and connects again

    def send(notice: dict[str, Any]) -> None:
        if not client.is_connected():
            raise OSError("the MQTT broker cannot be reached")
        client.publish(f"{topic}/{notice['camera']}", json.dumps(notice), qos=1)

    def close() -> None:
        client.disconnect()
        client.loop_stop()

    return send, close
