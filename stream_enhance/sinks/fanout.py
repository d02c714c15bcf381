"""One encoder, any number of outputs: each with its own muxer, queue and thread.

Outputs of a recording are to hold all of it: the line waits for them, the first error of one is its end, and the run
ends with an error.  An output of a camera that is slow or dead loses packets, is counted, and starts again at a key
frame when it can; it never holds up another output, the line or the camera.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from typing import Any, Protocol

import av

from ..errors import OutputError, SinkError, StreamEnhanceError
from ..runtime import Cancelled, Channel
from ..types import Rendered
from .encoder import EncodedPacket, EncodedStream, Encoder
from .muxer import Muxer
from .passthrough import copied

log = logging.getLogger(__name__)

_QUEUE = 256  # packets that may wait for one output
_ENDING = 3.0  # seconds that outputs have, together, to write what is queued and to close
_ENDING_WHOLE = 60.0  # the same, of those that are to hold all of a recording
_RETRY = (0.5, 10.0)  # seconds, first and longest pause before an output is opened again
_Side = tuple[Any, ...]  # av.Packet of the side streams


class Output(Protocol):
    """Takes what becomes of each frame, in a thread of its own."""

    name: str
    whole: bool  # is to hold all of a recording
    takes_side_packets: bool
    opens: int  # times it was opened
    problem: str  # why nothing can be written just now

    @property
    def written(self) -> int:
        """Frames that it got."""
        ...

    @property
    def lost(self) -> int:
        """Frames that it did not get."""
        ...

    @property
    def failed(self) -> bool:
        """Whether it has ended, as its first error is its end."""
        ...

    def start(self, stream: EncodedStream) -> None:
        """Begin, with what the encoder says of its stream; called once, before ``take``."""
        ...

    def take(self, image: av.VideoFrame | None, packets: Sequence[EncodedPacket], side: _Side) -> None:
        """A frame, what the encoder gave for it, and the side packets before it.  Waits only where ``whole``."""
        ...

    def end(self) -> None:
        """There is no more."""
        ...

    def join(self, seconds: float) -> None:
        """Wait until what was taken is written, but no longer than this."""
        ...

    def finish(self, frames: int) -> str:
        """Make it the finished output; what is wrong with it, if it does not hold all ``frames``."""
        ...


class MuxedOutput:
    """An output that gets the encoded packets.

    Args:
        name: fit to be shown.
        muxer: where they go.
        whole: wait for it, and have its first error be its end.
    """

    def __init__(self, name: str, muxer: Muxer, whole: bool) -> None:
        self.name, self.whole, self._muxer = name, whole, muxer
        self.takes_side_packets = muxer.takes_side_packets
        self._queue: Channel[EncodedPacket | _Side] = Channel(_QUEUE, "wait" if whole else "drop_oldest")
        self._muxed = self._skipped = self.opens = 0
        self._held: int | None = None  # frames in the finished output
        self._lacking = 0  # frames of the recording that are not in it
        self.problem = ""
        self.failed = False
        self._retry_at, self._pause = 0.0, _RETRY[0]
        self._open = False
        self._thread: threading.Thread | None = None
        self._early: list[Any] = []  # side packets that came while the encoder held back the first frames

    @property
    def written(self) -> int:
        """Frames that it got; once finished, frames that the output holds."""
        return self._muxed if self._held is None else self._held

    @property
    def lost(self) -> int:
        """Frames that it did not get."""
        return self._queue.dropped + self._skipped if self._held is None else self._lacking

    def start(self, stream: EncodedStream) -> None:
        """Start the thread that writes; it opens the muxer at the first key frame."""
        self._stream = stream
        self._thread = threading.Thread(target=self._run, name=f"output {self.name}", daemon=True)
        self._thread.start()

    def take(self, image: av.VideoFrame | None, packets: Sequence[EncodedPacket], side: _Side) -> None:
        """Queue packets and side packets; only an output that is to be whole makes the caller wait."""
        for packet in packets:
            self._queue.put(packet)
        if side:
            self._queue.put(side)

    def end(self) -> None:
        """There is no more; what is queued is still written."""
        self._queue.close()

    def join(self, seconds: float) -> None:
        """Wait until what was taken is written; after ``seconds`` end it by force."""
        if self._thread is None:
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            self.problem, self.failed = self.problem or "does not take what is written", True
            self._queue.cancel()
            self._muxer.kill()
            self._thread.join(1)

    def finish(self, frames: int) -> str:
        """Give the output its name; what is wrong with it, "" where it holds all ``frames``."""
        if not self.whole:
            return ""
        if self.failed:
            self._held = min(self._muxer.finish(-1), frames)  # it has no such number of frames: nothing is finished
        else:
            self._held = self._muxer.finish(frames)
        self._lacking = frames - self._held
        if not (self.failed or self._lacking):
            return ""
        why = f" ({self.problem})" if self.problem else ""
        kept = f"; what was written is in {where}" if (where := self._muxer.kept()) else ""
        cure = "; free some space and run again" if self.problem == os.strerror(errno.ENOSPC) else ""
        return f"{self.name}: incomplete, {self._held} of {frames} frames{why}{kept}{cure}"

    def _run(self) -> None:
        expected = -1
        try:
            for item in self._queue:
                if isinstance(item, tuple):
                    self._write_side(item)
                    continue
                if item.serial != expected:  # some were lost: what follows cannot be decoded before a key frame
                    expected = -1
                if (expected < 0 or not self._open) and not item.key:
                    self._skipped += 1
                    continue
                expected = item.serial + 1
                self._write(item)
        except Cancelled:
            pass
        self._close()

    def _write(self, packet: EncodedPacket) -> None:
        """Write one packet, opening the output where it is closed."""
        if not self._open and (self.failed or time.monotonic() < self._retry_at):
            self._skipped += 1
            return
        try:
            if not self._open:
                self._open = True  # there may be something to close from here on
                self._muxer.open(self._stream, packet)
                self.opens += 1
                self._muxer.write_side(self._early)
                self._early = []
            self._muxer.write(packet)
        except (av.FFmpegError, OSError, ValueError, StreamEnhanceError) as error:
            self._skipped += 1
            self._fail(error)
            return
        self._muxed += 1
        if self.problem:
            log.info("%s: is written again", self.name)
        self.problem, self._pause = "", _RETRY[0]

    def _write_side(self, packets: _Side) -> None:
        if not self._open:
            self._early.extend(packets if not self.failed else ())
            return
        try:
            self._muxer.write_side(packets)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._note(error)
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(_RETRY[1], 2 * self._pause)
        self._close()

    def _note(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, StreamEnhanceError) else getattr(error, "strerror", None)
        if not self.problem and not self.whole:
            log.warning("%s: cannot be written (%s); trying again", self.name, reason or type(error).__name__)
        self.problem, self.failed = self.problem or str(reason or type(error).__name__), self.whole

    def _close(self) -> None:
        if not self._open:
            return
        self._open = False
        try:
            self._muxer.close()
        except (av.FFmpegError, OSError, ValueError, StreamEnhanceError) as error:
            self._note(error)


class Fanout:
    """Encodes once, for any number of outputs.

    Args:
        encoder: opened with the first frame.
        outputs: in the order in which the user named them.
    """

    upright = False

    def __init__(self, encoder: Encoder, outputs: Sequence[Output]) -> None:
        self.name = ", ".join(output.name for output in outputs)
        self._encoder, self._outputs = encoder, outputs
        self.takes_side_packets = any(output.takes_side_packets for output in outputs)
        self._started = False

    def __call__(self, items: Iterable[Rendered]) -> Generator[Rendered, None, None]:
        """Encode each frame, hand its packets to every output, then yield it.

        Raises:
            SinkError: no output can be written any more.
        """
        try:
            for item in items:
                frame = item.enhanced.scene.frame
                if not self._started:
                    self._start(self._encoder.open(item))
                self._give(item.image, self._encoder.encode(item.image, frame), frame.side_packets)
                yield item
            if self._started:
                self._give(None, self._encoder.encode(None), ())
        finally:
            self._end()

    def finish(self) -> None:
        """Give what is finished its name, and say which outputs never worked.

        Raises:
            OutputError: one of them does not hold all of a recording.
            SinkError: none of a camera's worked.
        """
        if not self._started:
            return
        if wrong := [text for output in self._outputs if (text := output.finish(self._encoder.frames))]:
            raise OutputError("; ".join(wrong))
        dead = [o for o in self._outputs if not o.written]
        lines = [f"{o.name}: nothing could be written ({o.problem}); is it there and open?" for o in dead]
        if dead and len(dead) == len(self._outputs):
            raise SinkError(lines[0])
        for line in lines:
            log.error("%s", line)

    def outputs(self) -> list[dict[str, Any]] | None:
        """For the report: what each output got."""
        return [
            {"name": o.name, "packets": o.written, "lost": o.lost, "opened": o.opens, "problem": o.problem}
            for o in self._outputs
        ]

    def release(self) -> None:
        """Let go of what outputs have taken, such as a port, where there will be no run."""
        for output in self._outputs:
            output.join(0)

    def _start(self, stream: EncodedStream) -> None:
        self._started = True
        for output in self._outputs:
            output.start(stream)

    def _give(self, image: av.VideoFrame | None, packets: Sequence[EncodedPacket], side: _Side) -> None:
        takers = [output for output in self._outputs if output.takes_side_packets] if side else []
        copies = [tuple(map(copied, side)) for _ in takers[1:]]  # before the first one changes them
        own = dict(zip(map(id, takers), [side, *copies], strict=False))
        for output in self._outputs:
            output.take(image, packets, own.get(id(output), ()))
        if all(output.failed for output in self._outputs):
            self._end()
            self.finish()

    def _end(self) -> None:
        if not self._started:
            return
        for output in self._outputs:  # side by side: a dead one takes no time from the others
            output.end()
        since = time.monotonic()
        for output in self._outputs:
            patience = _ENDING_WHOLE if output.whole else _ENDING
            output.join(max(0.1, since + patience - time.monotonic()))
