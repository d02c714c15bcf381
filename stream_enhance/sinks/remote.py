"""A muxer to the network in a process of its own.

FFmpeg's libraries, as PyAV calls them, hold Python's one lock while they greet a server and while they take leave of
it: one that accepts a connection and then says nothing would stop every camera for seconds.  So packets go through a
pipe, as NUT, to a child that does the talking; the child can be killed at any time.  Its URL comes through the pipe
too, as command lines can be read by anyone.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import av.container
import av.logging

_LEAVING = 2.0  # seconds that a child has to take leave of its server
_READY = b"ready\n"


class RemoteMuxer:
    """What an ``OutputContainer`` is to ``Output``: add one stream, mux, close.

    Args:
        url: where to, secrets and all.
        form: FFmpeg's name of the format.
        options: of that format.
    """

    def __init__(self, url: str, form: str, options: dict[str, str]) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve())],  # as a script: it needs PyAV alone
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._pipe, self._answers = self._child.stdin, self._child.stdout
        self._ready = False
        try:
            self._pipe.write(json.dumps({"url": url, "form": form, "options": options}).encode() + b"\n")
            self._pipe.flush()
            self._inner = av.open(_Unbuffered(self._pipe.fileno()), "w", format="nut", options={"flush_packets": "1"})
        except BaseException:
            self.kill()
            raise

    def add_stream_from_template(self, template: Any) -> Any:
        return self._inner.add_stream_from_template(template)

    def mux(self, packet: av.Packet[Any]) -> None:
        """Hand a packet to the child; the first waits until the server has been greeted.

        Raises:
            OSError: the child could not, or can no longer; tells why.
        """
        try:
            self._inner.mux(packet)
        except (OSError, av.FFmpegError) as error:
            raise self._told() from error
        if not self._ready:
            answer = self._answers.readline()
            if answer != _READY:
                raise OSError(0, answer.decode("utf-8", "replace").strip() or "the sending process ended")
            self._ready = True

    def _told(self) -> OSError:
        self.kill()
        return OSError(0, self._answers.read(500).decode("utf-8", "replace").strip() or "the sending process ended")

    def close(self) -> None:
        """Have the child take leave, or end it."""
        with suppress(OSError, av.FFmpegError):
            self._inner.close()
        with suppress(OSError):
            self._pipe.close()
        try:
            self._child.wait(_LEAVING)
        except subprocess.TimeoutExpired:
            self.kill()
        self._answers.close()

    def kill(self) -> None:
        """End the child now; whoever waits for it goes on."""
        self._child.kill()
        self._child.wait()


class _Unbuffered:
    """A pipe's end as a file that PyAV writes to, with nothing kept back."""

    def __init__(self, number: int) -> None:
        self._number = number

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        while view:
            view = view[os.write(self._number, view) :]
        return len(data)


def child() -> None:
    """Read where to and packets from standard input; say ``ready`` once the server was greeted, or what is wrong."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to a whole group they are for the parent: it closes the pipe
        signal.signal(number, signal.SIG_IGN)
    av.logging.set_level(None)
    pipe = io.FileIO(0)  # a read gives what is there, rather than wait until it has all it could take
    asked = json.loads(pipe.readline())
    greeted = False
    try:
        quickly = {"probesize": "32", "analyzeduration": "0", "fpsprobesize": "0"}  # the first packet is enough
        packets = av.open(pipe, "r", format="nut", options=quickly)
        out = av.open(asked["url"], "w", format=asked["form"], options=asked["options"])
        source = packets.streams.video[0]
        stream = out.add_stream_from_template(source)
        for packet in packets.demux(source):
            if not packet.size:  # the end
                break
            packet.dts = packet.pts  # there are no B-frames in what is live
            if not greeted:
                out.start_encoding()
                greeted = True
                sys.stdout.buffer.write(_READY)
                sys.stdout.flush()
            packet.stream = stream
            out.mux(packet)
        out.close()
    except (av.FFmpegError, OSError, ValueError) as error:  # str(error) would show the URL
        print(getattr(error, "strerror", None) or type(error).__name__, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    child()
