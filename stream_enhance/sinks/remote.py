"""A muxer to the network in a process of its own.

FFmpeg's libraries, as PyAV calls them, hold Python's one lock while they greet a server and while they take leave of
it: one that accepts a connection and then says nothing would stop every camera for seconds.  So packets go through a
pipe to a child that does the talking; the child can be killed at any time, and is where it takes too long.  Its URL
comes through the pipe too, as command lines can be read by anyone.

The pipe holds a line of JSON (where to), and then blocks: 4 bytes of length, and a NUT file with the first packet,
from which the stream's parameters are read, or a packet: its pts, dts, duration, time base and key flag, and its data.
The child answers with ``r`` once the server was greeted, then a dot for each packet that it has sent, and ``!`` and why
where it fails.
"""

from __future__ import annotations

import io
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import av
import av.container
import av.logging

if TYPE_CHECKING:  # the child runs this file by itself, and needs PyAV alone
    from .encoder import EncodedPacket, EncodedStream

_GREETING = 10.0  # seconds that a server may take to let a push begin
_STALL = 15.0  # seconds for which it may take no packet
_LEAVING = 2.0  # seconds that a child has to take leave of its server
_READY = b"r"
_LENGTH = struct.Struct("<I")
_HEAD = struct.Struct("<qqqqq?")  # pts, dts, duration, time base's numerator and denominator, key


class RemoteMuxer:
    """Packets to a server; see ``muxer.Muxer``.  Video alone.

    Args:
        url: where to, secrets and all.
        form: FFmpeg's name of the format.
        options: of that format.
    """

    takes_side_packets = False

    def __init__(self, url: str, form: str, options: dict[str, str]) -> None:
        self._asked = {"url": url, "form": form, "options": options}
        self._child: subprocess.Popen[bytes] | None = None
        self._ready = False  # the server was greeted
        self._problem = b""  # what the child said before it ended, after a !
        self._sent = 0  # packets, by all children

    def open(self, stream: EncodedStream, first: EncodedPacket) -> None:
        """Start the child; its server is greeted with the first packet."""
        self._ready, self._problem = False, b""
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert self._child.stdin is not None
        os.set_blocking(self._child.stdin.fileno(), False)
        self._put(json.dumps(self._asked).encode() + b"\n")
        self._put_block(_parameters(stream, first))

    def write(self, packet: EncodedPacket) -> None:
        """Hand a packet to the child; the first waits until the server has been greeted.

        Raises:
            OSError: the child could not, or can no longer; says why.
        """
        base = packet.time_base
        head = _HEAD.pack(packet.pts, packet.dts, packet.duration, base.numerator, base.denominator, packet.key)
        self._put_block(head, packet.data)
        if not self._ready:
            self._wait_until_ready()
        self._read()

    def write_side(self, packets: Iterable[av.Packet[Any]]) -> None:
        """They are not sent."""

    def close(self) -> None:
        """Have the child send what it has and take leave, or end it."""
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        assert child.stdout is not None
        with suppress(OSError):
            child.stdin.close()
        end, before = time.monotonic() + _LEAVING, self._sent
        while child.poll() is None and time.monotonic() < end:
            self._read(child, 0.1)
            if self._sent != before:  # it is still sending
                before, end = self._sent, time.monotonic() + _LEAVING
        if child.poll() is None:
            child.kill()
            child.wait()
        self._read(child)
        child.stdout.close()
        if self._problem:
            raise OSError(0, self._reason)

    def kill(self) -> None:
        """End the child now; whoever waits for it goes on."""
        if (child := self._child) is not None:
            child.kill()

    def finish(self, frames: int) -> int:
        """How many frames were sent."""
        return self._sent

    def kept(self) -> str:
        """Nothing: what was sent is not kept here."""
        return ""

    @property
    def _reason(self) -> str:
        return self._problem[1:].decode("utf-8", "replace").strip() or "the sending process ended"

    def _wait_until_ready(self) -> None:
        child, end = self._child, time.monotonic() + _GREETING
        assert child is not None
        while not self._ready:
            gone = child.poll() is not None
            self._read(timeout=0.0 if gone else 0.2)
            if self._problem or (gone and not self._ready):
                raise OSError(0, self._reason)
            if time.monotonic() > end and not self._ready:
                child.kill()
                raise OSError(0, f"no answer within {_GREETING:g} s")

    def _put_block(self, *parts: Any) -> None:
        self._put(_LENGTH.pack(sum(memoryview(part).nbytes for part in parts)))
        for part in parts:
            self._put(part)

    def _put(self, data: Any) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        number, view = self._child.stdin.fileno(), memoryview(data).cast("B")
        limit = _STALL if self._ready else _GREETING
        end = time.monotonic() + limit
        while view:
            self._read()
            try:
                if select.select([], [number], [], 0.2)[1]:
                    view = view[os.write(number, view) :]
                    end = time.monotonic() + limit
                elif time.monotonic() > end:
                    self._child.kill()
                    raise OSError(0, f"took nothing for {limit:g} s")
            except BlockingIOError:
                continue
            except BrokenPipeError:
                with suppress(subprocess.TimeoutExpired):
                    self._child.wait(_LEAVING)
                self._read()
                raise OSError(0, self._reason) from None

    def _read(self, child: subprocess.Popen[bytes] | None = None, timeout: float = 0.0) -> None:
        """Take what the child has answered."""
        child = child or self._child
        assert child is not None
        assert child.stdout is not None
        while select.select([child.stdout], [], [], timeout)[0]:
            if not (data := os.read(child.stdout.fileno(), 65536)):
                return
            timeout = 0.0
            if self._problem:
                self._problem += data
                continue
            sent, mark, problem = data.partition(b"!")
            self._sent, self._problem = self._sent + sent.count(b"."), mark + problem
            self._ready = self._ready or sent.startswith(_READY)


def _parameters(stream: EncodedStream, first: EncodedPacket) -> bytes:
    """A NUT file with one packet: from its head, which keeps them as they are, a child knows the codec's parameters."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="nut") as container:
        packet = first.packet(stream.add_to(container))
        packet.pts = packet.dts = 0
        container.mux(packet)
    return buffer.getvalue()


def child() -> None:
    """Read where to and packets from standard input; answer as the module says."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to a whole group they are for the parent: it closes the pipe
        signal.signal(number, signal.SIG_IGN)
    av.logging.set_level(None)
    pipe = sys.stdin.buffer
    asked = json.loads(pipe.readline())
    try:
        with av.open(io.BytesIO(_block(pipe)), "r", format="nut") as parameters:
            out = av.open(asked["url"], "w", format=asked["form"], options=asked["options"])
            stream = out.add_stream_from_template(parameters.streams.video[0])
            greeted = False
            while block := _block(pipe):
                if not greeted:
                    stream.time_base = _packet(block, stream).time_base
                    out.start_encoding()
                    _answer(_READY)
                greeted = True
                out.mux(_packet(block, stream))
                _answer(b".")
            out.close()
    except (av.FFmpegError, OSError, ValueError) as error:  # str(error) would show the URL
        _answer(f"!{getattr(error, 'strerror', None) or type(error).__name__}\n".encode())
        sys.exit(1)


def _block(pipe: BinaryIO) -> bytes:
    """The next block; empty at the end."""
    head = pipe.read(_LENGTH.size)
    return pipe.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""


def _packet(block: bytes, stream: Any) -> av.Packet[Any]:
    pts, dts, duration, numerator, denominator, key = _HEAD.unpack_from(block)
    packet: av.Packet[Any] = av.Packet(block[_HEAD.size :])
    packet.pts, packet.dts, packet.duration = pts, dts, duration
    packet.time_base, packet.is_keyframe, packet.stream = Fraction(numerator, denominator), key, stream
    return packet


def _answer(data: bytes) -> None:
    os.write(1, data)


if __name__ == "__main__":
    child()
