"""A proxy on loopback that harms what passes: cuts, freezes, slows down."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Self

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: closing sends RST


class Proxy:
    """Passes TCP connections to ``target`` on 127.0.0.1 on, inside its ``with``."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.frozen = threading.Event()
        self.rate = 0.0  # bytes a second towards the client; 0: as they come
        self.carried = 0  # bytes towards the client so far
        self._pairs: list[tuple[socket.socket, socket.socket]] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()
        self.frozen.clear()
        self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        pairs, self._pairs = self._pairs, []
        for one in (end for pair in pairs for end in pair):
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                one.shutdown(socket.SHUT_RDWR)  # its threads wake up and close it

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._pairs.append((client, server))
            threading.Thread(target=self._join, args=(client, server), daemon=True).start()

    def _join(self, client: socket.socket, server: socket.socket) -> None:
        """Both ways, until both have ended."""
        other = threading.Thread(target=self._pass, args=(client, server, False), daemon=True)
        other.start()
        self._pass(server, client, True)
        other.join()
        client.close()
        server.close()
        self._pairs = [pair for pair in self._pairs if pair != (client, server)]

    def _pass(self, source: socket.socket, target: socket.socket, slow: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096 if self.rate else 65_536):
                while self.frozen.is_set():
                    time.sleep(0.02)
                if slow and self.rate:
                    time.sleep(len(data) / self.rate)
                target.sendall(data)
                self.carried += len(data) if slow else 0
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
