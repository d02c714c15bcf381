"""Frames in from a live camera, for as long as it takes: connect, read, notice trouble, connect again.

A ``Connection`` reads in a thread and ends with it; ``CameraSource.frames`` watches from the line's own thread, so
what a camera does cannot hold the line up.  While there is no signal the last frame goes on, greyed, a few times a
second. Timestamps count from the start of the run and only ever rise, whatever the camera's clock does.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import replace

import av
import av.container

from ..errors import SourceError, printable
from ..imaging.colour import untag_unusable_matrix
from ..imaging.frames import byte_count, copy_of, native, to_host
from ..imaging.orientation import flipped, orientation
from ..types import Frame, StreamInfo
from .base import SourceOptions, SourceStatus, State
from .clock import TIME_BASE, WallClock
from .connection import Connection, LiveOptions, Unauthorised, open_camera
from .describe import notes_on
from .no_signal import no_signal

log = logging.getLogger(__name__)

_FIRST_RETRY = 0.1  # seconds
_WELL_AFTER = 5.0  # seconds live, after which a loss counts as the first again
_UNAUTHORISED_RETRY = (5.0, 60.0)  # seconds; cameras lock out who tries a wrong password too often
_GRACE = 1.0  # seconds without a frame before NO SIGNAL is shown; more while a slow camera is live
_INBOX = 64 << 20  # bytes of frames between a connection and the line
_PACE = 2.0  # seconds over which the interval between frames is averaged

Event = tuple[Connection, av.VideoFrame | None, float]  # a frame, or the end; and when it came, time.monotonic()


class CameraSource:
    """A camera.  Connects at once, in the background; ``wait_ready`` says whether that worked.

    Args:
        url: FFmpeg's name for it, credentials and all; never shown.
        name: what it is called in what people see.
        options: how to hold on to it.
        source_options: how to read it.
        form: FFmpeg's input format, where the URL does not tell.
    """

    def __init__(
        self,
        url: str,
        name: str,
        options: LiveOptions | None = None,
        source_options: SourceOptions | None = None,
        form: str | None = None,
    ) -> None:
        self.name, self.options = name, options or LiveOptions()
        self._info = StreamInfo(name, live=True)  # no side streams: sound's clock does not survive a reconnect
        self.started = time.monotonic()
        self.states: deque[tuple[float, State]] = deque(maxlen=1000)  # seconds since the start, newest last
        self.reconnects = self.no_signal_frames = 0
        self.problem = ""  # why there is no frame just now
        self._corrupt = self._corrupt_before = 0
        self._last: tuple[av.VideoFrame, float, float] | None = None  # frame, monotonic and wall time it came
        self._grey: av.VideoFrame | None = None  # made of the last frame
        self._interval = 1.0  # seconds between frames, on average over time: a burst counts little
        self._clock, self._retries = WallClock(self.started), _Backoff(self.options.retry)
        self._seen = self._shown = self._retry_at = self.started  # last frame or connecting; last shown; next attempt
        self._ends = (source_options or SourceOptions()).kind != "live"  # where its server says that it has an end
        self._open = lambda: open_camera(url, name, self.options, source_options, form)
        self._events = _Inbox()
        self._stopping = threading.Event()
        self._enter("connecting")
        self._connection: Connection | None = self._connect()

    @property
    def state(self) -> State:
        """What the connection is doing now."""
        return self.states[-1][1]

    @property
    def last_frame_at(self) -> float:
        """``time.monotonic()`` when the last frame came; 0 where none did."""
        return self._last[1] if self._last else 0.0

    @property
    def info(self) -> StreamInfo:
        """What is known of the stream; complete once ``wait_ready`` has returned."""
        return self._info

    def status(self) -> SourceStatus:
        """How it is at this moment."""
        return SourceStatus(
            self.state, self.problem, self._corrupt, self.reconnects, self.no_signal_frames, tuple(self.states)
        )

    def wait_ready(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Wait for the first frame, or until ``stopped`` says that nobody wants it any more.

        Raises:
            SourceError: it cannot be reached or sends no frame, and ``options.wait`` is not set.
        """
        connection = self._connection
        if self.options.wait or connection is None:
            return
        while not connection.resolved.wait(0.1) and not self._stopping.is_set() and not stopped():
            pass
        if connection.error is not None and not connection.has_frame:
            self.close()
            raise connection.error

    def stop(self) -> None:
        """End ``frames`` soon, even where no frame arrives."""
        self._stopping.set()
        self._events.close()

    def close(self) -> None:
        """Stop, and let the connection go; waits 1 s at most."""
        self.stop()
        if self._connection is not None:
            self._connection.abandon()
            if self._connection.resolved.is_set():  # one still being opened may take its whole timeout
                self._connection.thread.join(1.0)  # a blocked read ends by its timeout; its thread then closes it

    def _connect(self) -> Connection:
        return Connection(self.name, self._open, self._events.put, self.options)

    def _enter(self, state: State) -> None:
        if not self.states or self.state != state:
            self.states.append((round(time.monotonic() - self.started, 3), state))
            if len(self.states) > 1:
                log.info("%s: %s", self.name, state)

    def frames(self, side_packets: bool = True) -> Generator[Frame, None, None]:
        """Frames until ``stop``, or to the end of a stream that has one."""
        index = 0
        self._seen = self._shown = time.monotonic()
        while not self._stopping.is_set():
            self._look_after()
            if self._idle_due():
                yield self._idle(index)
                index += 1
            if (event := self._events.get(timeout=0.05)) is None:
                continue
            connection, image, captured_at = event
            if connection is not self._connection:
                continue
            self._corrupt = self._corrupt_before + connection.corrupt
            if image is None:
                if connection.finished and self._ends:
                    self._enter("ended")
                    return
                self._ended(connection)
                continue
            if self.state != "live":
                self._went_live(connection, image, captured_at)
            elif self._last is not None:
                gap = max(0.0, captured_at - self._last[1])
                self._interval += (gap - self._interval) * gap / (gap + _PACE)
            yield self._frame(connection, image, index, captured_at)
            index += 1

    def _look_after(self) -> None:
        """Connect where it is time to, and give up a connection that shows nothing."""
        now = time.monotonic()
        if self._connection is None:
            if now >= self._retry_at:
                self._connection, self._seen = self._connect(), now
        elif now - max(self._seen, self._connection.opened_at or now) > self._connection.patience + 0.5:
            self._enter("stalled")  # half a second after the connection should have noticed itself
            self._drop_connection(self._connection)

    def _ended(self, connection: Connection) -> None:
        error = connection.error
        if error is not None and not isinstance(error, SourceError):
            raise error
        problem = str(error or "")
        if problem and problem != self.problem:  # each reason once, not at every attempt
            log.warning("%s", printable(problem))
        self.problem = problem
        if isinstance(error, Unauthorised):
            self._enter("unauthorised")
        elif connection.stalled:
            self._enter("stalled")
        elif self.state != "connecting":
            self._enter("lost")
        self._drop_connection(connection)

    def _drop_connection(self, connection: Connection) -> None:
        connection.abandon()
        self._corrupt_before += connection.corrupt
        self._connection = None
        self._retry_at = time.monotonic() + self._retries.next(isinstance(connection.error, Unauthorised))

    def _went_live(self, connection: Connection, image: av.VideoFrame, captured_at: float) -> None:
        self.reconnects += self._last is not None
        self._describe(connection, image)
        self._clock.restart()
        self._retries.live(captured_at)
        self._enter("live")
        self.problem = ""

    def _describe(self, connection: Connection, image: av.VideoFrame) -> None:
        """What is known of the stream once its first frame is decoded."""
        source = connection.source
        assert source is not None
        if self._info.rate is None:
            self._info = replace(
                self._info,
                rate=source.rate,
                pixel_aspect=source.pixel_aspect,
                metadata=source.metadata,
                format=source.container.format.name,
                notes=tuple(notes_on(image)),
            )

    def _frame(self, connection: Connection, image: av.VideoFrame, index: int, captured_at: float) -> Frame:
        rotation, mirrored = orientation(image)
        seconds = float(image.pts * image.time_base) if image.pts is not None and image.time_base else None
        wall = time.time() - (time.monotonic() - captured_at)
        untag_unusable_matrix(image)
        image = native(image)
        if mirrored:
            image = flipped(image)
        pts = self._clock.next(seconds, captured_at)
        image.pts, image.time_base = pts, TIME_BASE
        self._seen = self._shown = captured_at
        self._last, self._grey = (image, captured_at, wall), None
        taken_at = None if seconds is None else connection.taken_at(seconds)
        return Frame(image, index, pts, TIME_BASE, captured_at, wall, rotation, stream=self._info, taken_at=taken_at)

    def _idle_due(self) -> bool:
        if self._last is None:
            return False
        now, grace = time.monotonic(), _GRACE
        if self.state == "live":
            grace = max(grace, min(2.5 * self._interval, self.options.stall))
        return now - self._last[1] >= grace and now - self._shown >= 1 / self.options.idle_rate

    def _idle(self, index: int) -> Frame:
        """The last frame again, greyed."""
        assert self._last is not None
        now = time.monotonic()
        if self._grey is None:
            self._grey = no_signal(to_host(self._last[0]), self._last[2])
        image = copy_of(self._grey)  # the overlay draws on what it is given
        pts = self._clock.next(None, now)
        image.pts, image.time_base = pts, TIME_BASE
        self.no_signal_frames += 1
        self._shown = now
        return Frame(image, index, pts, TIME_BASE, now, time.time(), no_signal=True, stream=self._info)


class _Inbox:
    """What connections hand over to the line's thread, bounded in bytes.

    Until the line begins only the newest frame is kept; from then on a connection waits for room.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._reading = self._closed = False

    def put(self, event: Event) -> None:
        image = event[1]
        with self._changed:
            if image is not None:
                if not self._reading:
                    self._events = deque(e for e in self._events if e[1] is None)
                    self._bytes = 0
                self._changed.wait_for(lambda: self._bytes < _INBOX or self._closed or not self._reading)
                self._bytes += byte_count(image)
            self._events.append(event)
            self._changed.notify_all()

    def get(self, timeout: float) -> Event | None:
        """The oldest event, waited for ``timeout`` seconds; None where there is none."""
        with self._changed:
            self._reading = True
            self._changed.wait_for(lambda: bool(self._events) or self._closed, timeout)
            if not self._events or self._closed:
                return None
            event = self._events.popleft()
            self._bytes -= byte_count(event[1]) if event[1] is not None else 0
            self._changed.notify_all()
            return event

    def close(self) -> None:
        """Nobody reads any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class _Backoff:
    """Seconds to wait before the next attempt: doubling, jittered, capped; from the start again after a good while."""

    def __init__(self, longest: float) -> None:
        self._longest, self._live_at = longest, float("inf")
        self._tries = {False: 0, True: 0}  # lost or out of reach, unauthorised: each counted by itself

    def live(self, now: float) -> None:
        self._live_at = now

    def next(self, unauthorised: bool = False) -> float:
        if time.monotonic() - self._live_at > _WELL_AFTER:
            self._tries = {False: 0, True: 0}
        self._live_at = float("inf")
        first, longest = _UNAUTHORISED_RETRY if unauthorised else (_FIRST_RETRY, self._longest)
        pause = min(longest, first * 2 ** min(self._tries[unauthorised], 16))
        self._tries[unauthorised] += 1
        return float(pause * random.uniform(0.75, 1.0))
