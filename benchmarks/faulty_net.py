"""Networks that harm what a camera sends: RTP over UDP that loses packets, and a camera's clock that jumps."""

from __future__ import annotations

import random
import re
import socket
import struct
import threading
from collections.abc import Callable

from tests.live.proxy import Proxy

_PORTS = re.compile(rb"client_port=(\d+)-(\d+)")


class Losing(Proxy):
    """RTSP passed on, its RTP over UDP led through here, where ``loss`` (0..1) of the packets are dropped."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.loss = 0.0
        self.passed = self.lost = 0

    def _pass(self, source: socket.socket, target: socket.socket, slow: bool) -> None:
        if slow:
            super()._pass(source, target, slow)
            return
        super()._pass(_Rewritten(source, self._asked), target, slow)  # type: ignore[arg-type]

    def _asked(self, data: bytes) -> bytes:
        """A client's request, its ports replaced by ports of ours."""
        match = _PORTS.search(data)
        if not match:
            return data
        pair = _pair()
        for one, port in zip(pair, match.groups(), strict=True):
            threading.Thread(target=self._lead, args=(one, ("127.0.0.1", int(port))), daemon=True).start()
        ports = b"client_port=%d-%d" % tuple(one.getsockname()[1] for one in pair)
        return data.replace(match[0], ports)

    def _lead(self, arriving: socket.socket, to: tuple[str, int]) -> None:
        while True:
            try:
                data = arriving.recv(65_536)
            except OSError:  # nothing came for a while: that session is over
                arriving.close()
                return
            if random.random() < self.loss:
                self.lost += 1
                continue
            self.passed += 1
            arriving.sendto(data, to)


class Jumping(Proxy):
    """RTSP over TCP passed on, ``ticks`` (of 90 kHz) added to each RTP timestamp."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.ticks = 0

    def _pass(self, source: socket.socket, target: socket.socket, slow: bool) -> None:
        if slow:
            source = _Rewritten(source, _Interleaved(self).moved)  # type: ignore[assignment]
        super()._pass(source, target, slow)


class _Interleaved:
    """RTP between RTSP's lines (RFC 2326, 10.12), its timestamps moved."""

    def __init__(self, proxy: Jumping) -> None:
        self._proxy, self._left = proxy, b""

    def moved(self, data: bytes) -> bytes:
        data, done = self._left + data, bytearray()
        while data:
            if data[:1] != b"$":
                end = data.find(b"$")
                end = len(data) if end < 0 else max(1, end)
                done += data[:end]
                data = data[end:]
                continue
            size = 4 + int.from_bytes(data[2:4], "big") if len(data) >= 4 else 4
            if len(data) < max(16, size):
                break
            packet = bytearray(data[:size])
            if packet[1] == 0:  # RTP; RTCP has the odd channel
                stamp = (struct.unpack_from(">I", packet, 8)[0] + self._proxy.ticks) % 2**32
                struct.pack_into(">I", packet, 8, stamp)
            done += packet
            data = data[size:]
        self._left = data
        return bytes(done)


class _Rewritten:
    """A socket whose received data goes through ``change`` first."""

    def __init__(self, behind: socket.socket, change: Callable[[bytes], bytes]) -> None:
        self._behind, self._change = behind, change

    def recv(self, size: int) -> bytes:
        while data := self._behind.recv(size):
            if changed := self._change(data):
                return changed
        return b""

    def shutdown(self, how: int) -> None:
        self._behind.shutdown(how)


def _pair() -> tuple[socket.socket, socket.socket]:
    """Two UDP sockets on loopback, the first's port even, the second's the next."""
    while True:
        first, second = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        try:
            if port % 2:
                raise OSError
            second.bind(("127.0.0.1", port + 1))
        except OSError:
            first.close()
            second.close()
            continue
        for one in (first, second):
            one.settimeout(30)
        return first, second
