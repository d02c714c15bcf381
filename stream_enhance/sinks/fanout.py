"""Several outputs of one encoding: files in segments, HLS, pushes to servers; each with its own queue and thread.

``Tee`` encodes once and offers each packet to every output.  An output that is slow or dead loses packets, is counted,
and starts again at a key frame when it can; it never holds up another output, the line or the camera.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
from pydantic import Field

from ..errors import SinkError
from ..options import Options
from ..runtime import Cancelled, Channel
from ..stages.overlay import Rendered
from .codecs import Encoding
from .encoder import VideoSink, label
from .mjpeg import MjpegServer
from .remote import RemoteMuxer

log = logging.getLogger(__name__)

_QUEUE = 256  # packets that may wait for one output
GOP_SECONDS = 2
_ENDING = 3.0  # seconds that outputs have, together, to write what is queued and to close
_ENDING_WHOLE = 60.0  # the same, of files that are to hold all of a recording
_RETRY = (0.5, 10.0)  # seconds, first and longest pause before an output is opened again


class SegmentOptions(Options):
    """How outputs whose name holds strftime's ``%`` codes are cut, and how long they are kept; 0 for no limit."""

    seconds: float = Field(default=0.0, ge=0, description="Begin a new file after this many seconds.")
    megabytes: float = Field(default=0.0, ge=0, description="Begin a new file after this many megabytes.")
    keep_hours: float = Field(default=0.0, ge=0, description="Delete files of the same output that are older.")
    keep_megabytes: float = Field(
        default=0.0, ge=0, description="Delete the oldest files of the same output beyond this sum."
    )


@dataclass(frozen=True, slots=True)
class EncodedPacket:
    """An encoded frame, apart from any stream."""

    data: bytes
    pts: int
    dts: int
    time_base: Fraction
    key: bool
    serial: int  # counts packets; a gap means that some were lost

    def packet(self, stream: Any) -> av.Packet[Any]:
        packet: av.Packet[Any] = av.Packet(self.data)
        packet.pts, packet.dts, packet.time_base, packet.is_keyframe = self.pts, self.dts, self.time_base, self.key
        packet.stream = stream
        return packet


Container = av.container.OutputContainer | RemoteMuxer
Opened = tuple[Container, str]  # and what it writes to, fit to be shown


class Output:
    """One muxer and its thread.

    Args:
        name: fit to be shown.
        opened: opens the container, without streams; raises av.FFmpegError or OSError.
        waits: let the line wait where this output is slow, rather than lose packets.
        segments: when to begin anew.
        tidy: called after each container is closed.
        part: the one file that is written, where an error is its end.
        final: what that is called when it is finished.
    """

    def __init__(
        self,
        name: str,
        opened: Callable[[], Opened],
        waits: bool = False,
        segments: SegmentOptions | None = None,
        tidy: Callable[[], None] = lambda: None,
        part: Path | None = None,
        final: Path | None = None,
    ) -> None:
        self.name, self._opened, self._tidy = name, opened, tidy
        self._part, self._final = part, final
        self._segments = segments or SegmentOptions()
        self._queue: Channel[EncodedPacket] = Channel(_QUEUE, "wait" if waits else "drop_oldest")
        self._template: Any = None
        self.written = self.skipped = self.opens = 0  # packets written, passed over; times opened
        self.problem = ""  # why nothing can be written just now
        self._retry_at, self._pause = 0.0, _RETRY[0]
        self._container: Container | None = None  # the latest

    @property
    def lost(self) -> int:
        """Packets that did not get into the output."""
        return self._queue.dropped + self.skipped

    @property
    def failed(self) -> str:
        """Why it is not the whole recording, or ""; of a file that is to be whole."""
        if self._part is None or not (self.problem or self.lost):
            return ""
        kept = f"; what was written is in {self._part}" if self.written else ""
        cure = ", free some space and run again" if self.problem == os.strerror(errno.ENOSPC) else ""
        return f"{self.name}: cannot be written ({self.problem}){cure}{kept}"

    @property
    def whole(self) -> bool:
        """Whether it is a file that is to hold all of a recording."""
        return self._part is not None

    def finish(self) -> None:
        """Give a file that holds all of a recording its name."""
        if self._part is not None and self._final is not None and self.written and not self.failed:
            os.replace(self._part, self._final)

    def start(self, template: Any, metadata: dict[str, str]) -> None:
        """Begin; ``template`` is the encoder's stream, ``metadata`` what a file says of itself."""
        self._template, self._metadata = template, metadata
        self._thread = threading.Thread(target=self._run, name=f"output {self.name}", daemon=True)
        self._thread.start()

    def offer(self, coded: EncodedPacket) -> None:
        """Queue a packet; never blocks unless ``waits``."""
        self._queue.put(coded)

    def end(self) -> None:
        """Have what is queued written, and close."""
        self._queue.close()

    def join(self, seconds: float) -> None:
        """Wait until that is done; give up on it after ``seconds``."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            self.problem = self.problem or "does not take what is written"
            self._queue.cancel()
            if isinstance(push := self._container, RemoteMuxer):
                push.kill()

    def _run(self) -> None:
        container: Container | None = None
        expected = -1
        try:
            for coded in self._queue:
                if coded.serial != expected:  # some were lost: what follows cannot be decoded before a key frame
                    expected = -1
                if coded.key and container is not None and self._full(coded):
                    self._closed(container)
                    container = None
                if (expected < 0 or container is None) and not coded.key:
                    self.skipped += 1
                    continue
                expected = coded.serial + 1
                container = self._written(container, coded)
        except Cancelled:
            pass
        if container is not None:
            self._closed(container)

    def _written(self, container: Container | None, coded: EncodedPacket) -> Container | None:
        """Write one packet, opening the container where there is none; None where that failed."""
        try:
            if container is None:
                if time.monotonic() < self._retry_at:
                    self.skipped += 1
                    return None
                container, self._path = self._opened()
                self._container = container
                if not isinstance(container, RemoteMuxer):
                    label(container, self._metadata)
                self._stream: Any = container.add_stream_from_template(self._template)
                self._stream.time_base = coded.time_base
                self._since, self._bytes = coded.pts * coded.time_base, 0
                self.opens += 1
            container.mux(coded.packet(self._stream))
            self.written += 1
            self._bytes += len(coded.data)
            if self.problem:
                log.info("%s: is written again", self.name)
            self.problem, self._pause = "", _RETRY[0]
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            if not self.problem and self._part is None:
                log.warning("%s: cannot be written (%s); trying again", self.name, reason)
            self.problem = str(reason)
            self.skipped += 1
            self._retry_at = time.monotonic() + self._pause if self._part is None else math.inf
            self._pause = min(_RETRY[1], 2 * self._pause)
            if container is not None:
                self._closed(container)
            return None
        return container

    def _full(self, coded: EncodedPacket) -> bool:
        limits = self._segments
        long = limits.seconds and coded.pts * coded.time_base - self._since >= limits.seconds
        return bool(long or (limits.megabytes and self._bytes >= limits.megabytes * 1e6))

    def _closed(self, container: Container) -> None:
        with suppress(av.FFmpegError):  # of a full disk or a dead peer; what was written is playable without its end
            container.close()
        try:
            self._tidy()
        except OSError as error:  # a recording is worth more than the tidiness of its folder
            log.warning("%s: cannot be tidied up (%s)", self.name, error.strerror)


class Tee(VideoSink):
    """Encodes once, for any number of outputs."""

    takes_side_packets = False

    def __init__(self, outputs: list[Output | MjpegServer], encoding: Encoding, comment: str) -> None:
        super().__init__("", encoding, comment, form="matroska", name=", ".join(o.name for o in outputs))
        self._outputs = outputs
        self._serial = 0

    def __call__(self, items: Iterable[Rendered]) -> Generator[Rendered, None, None]:
        try:
            for item in super().__call__(items):
                for output in self._outputs:
                    if isinstance(output, MjpegServer):
                        output.show(item.image)
                yield item
        finally:
            began = [o for o in self._outputs if self._serial or isinstance(o, MjpegServer)]
            for output in began:  # side by side: a dead one takes no time from the others
                output.end()
            since = time.monotonic()
            for output in began:
                patience = _ENDING_WHOLE if isinstance(output, Output) and output.whole else _ENDING
                output.join(max(0.1, since + patience - time.monotonic()))

    def finish(self) -> None:
        """Name what is finished, and tell which outputs never worked.

        Raises:
            SinkError: none of them did, or a file does not hold all of a recording.
        """
        files = [o for o in self._outputs if isinstance(o, Output)]
        for output in files:
            output.finish()
        if broken := [o.failed for o in files if o.failed]:
            raise SinkError("; ".join(broken))
        dead = [o for o in self._outputs if self._serial and not o.written]
        told = [f"{o.name}: nothing could be written ({o.problem}); is it there and open?" for o in dead]
        if dead and len(dead) == len(self._outputs):
            raise SinkError(told[0])
        for line in told:
            log.error("%s", line)

    def outputs(self) -> list[dict[str, Any]] | None:
        """What each output got."""
        return [
            {"name": o.name, "packets": o.written, "lost": o.lost, "opened": o.opens, "problem": o.problem}
            for o in self._outputs
        ]

    def _open(self, first: Rendered) -> av.container.OutputContainer:
        info = first.enhanced.scene.frame.stream
        if info.side_streams:
            log.warning("%s: several outputs carry its images only", info.name)
        rate = info.rate or 25
        if not self._encoding.gop:
            self._encoding = self._encoding.model_copy(update={"gop": max(1, round(GOP_SECONDS * rate))})
        self._url = _Nowhere()  # type: ignore[assignment]
        container = super()._open(first)
        container.start_encoding()
        for output in self._outputs:
            output.start(self._stream, self._metadata())
        return container

    def _mux(self, container: av.container.OutputContainer, packets: list[Any]) -> None:
        for packet in packets:
            coded = EncodedPacket(
                bytes(packet), packet.pts, packet.dts, packet.time_base, bool(packet.is_keyframe), self._serial
            )
            self._serial += 1
            for output in self._outputs:
                output.offer(coded)
        failed = [o.failed for o in self._outputs if isinstance(o, Output) and o.failed]
        if len(failed) == len(self._outputs):
            raise SinkError("; ".join(failed))


class _Nowhere:
    """A file that keeps nothing: an encoder's stream needs a container to be in."""

    def write(self, data: bytes) -> int:
        return len(data)
