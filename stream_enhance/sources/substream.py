"""A camera's two streams as one source: frames of the large one, each with the small one's frame of the same moment.

The small stream is read in a thread.  Where both streams say when their frames were taken by the camera's own clock
(RTCP sender reports), frames are matched by it, else by when they came.  A small stream that ends, or has not come
yet, leaves the large one alone: its frames then go on without.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import replace

from ..errors import LineError
from ..types import Frame, StreamInfo
from .base import Source, SourceStatus

log = logging.getLogger(__name__)

_KEPT = 12  # frames of the small stream
_FRESH = 0.5  # seconds that the small stream may lag behind
_GIVEN_UP = 2.0  # seconds without a frame to match, after which the small stream counts as lost
_ONE_CLOCK = 5.0  # seconds apart, from which two streams' clocks are no longer one
_TREND = 0.1  # of the newest difference in the average that is shown


class TwoStreams:
    """``main`` with frames of ``small`` to detect in; both are closed with it.

    Args:
        main: the stream that is shown.
        small: the same camera's smaller stream.
    """

    def __init__(self, main: Source, small: Source) -> None:
        self._main, self._small = main, small
        self.started = main.started
        self._frames: deque[Frame] = deque(maxlen=_KEPT)
        self._offset: float | None = None  # seconds by which the small stream's frames come later, on average
        self._missing_since = time.monotonic()
        self._lost = False
        self._thread = threading.Thread(target=self._read, name=f"small stream of {main.info.name}", daemon=True)
        self._error: Exception | None = None

    @property
    def info(self) -> StreamInfo:
        """Of the large stream."""
        return self._main.info

    def wait_ready(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Wait for the large stream.

        Raises:
            SourceError: it cannot be used.
        """
        self._main.wait_ready(stopped)

    def status(self) -> SourceStatus:
        """Of the large stream, and how the small one lies to it."""
        state = "lost" if self._lost else self._small.status().state
        offset = round(1000 * self._offset, 1) if self._offset is not None and state == "live" else None
        return replace(self._main.status(), detect_state=state, detect_offset_ms=offset)

    def frames(self, side_packets: bool = True) -> Generator[Frame, None, None]:
        """The large stream's frames, each with what it is to be detected in, where there is that."""
        self._thread.start()
        for frame in self._main.frames(side_packets):
            if self._error is not None:
                raise LineError(f"{self.info.name}: the small stream failed: {self._error}") from self._error
            yield frame if frame.no_signal or frame.rotation else self._matched(frame)

    def _matched(self, frame: Frame) -> Frame:
        small = min(self._frames.copy(), key=lambda other: abs(_apart(other, frame)), default=None)
        if small is None or abs(_apart(small, frame)) > _FRESH:
            if not self._lost and time.monotonic() - self._missing_since > _GIVEN_UP:
                self._lost = True
                log.warning("%s: live.detect_url gives no frames; faces are found in the large stream", self.info.name)
            return frame
        if self._lost:
            log.info("%s: faces are found in live.detect_url again", self.info.name)
        self._lost, self._missing_since = False, time.monotonic()
        if _one_clock(small, frame):
            late = small.captured_at - frame.captured_at - _apart(small, frame)
            self._offset = late if self._offset is None else self._offset + _TREND * (late - self._offset)
        return replace(frame, detect_image=small.image, detect_seconds=frame.seconds + _apart(small, frame))

    def _read(self) -> None:
        try:
            for frame in self._small.frames(side_packets=False):
                if not frame.no_signal:
                    self._frames.append(frame)
        except Exception as error:  # raised again in the line's thread
            self._error = error

    def stop(self) -> None:
        """End ``frames`` soon."""
        self._main.stop()
        self._small.stop()

    def close(self) -> None:
        """Close both."""
        self.stop()
        self._main.close()
        self._small.close()


def _apart(small: Frame, frame: Frame) -> float:
    """Seconds by which ``small`` was taken later than ``frame``."""
    if _one_clock(small, frame):
        assert small.taken_at is not None
        assert frame.taken_at is not None
        return small.taken_at - frame.taken_at
    return small.captured_at - frame.captured_at


def _one_clock(small: Frame, frame: Frame) -> bool:
    """Whether both say when they were taken, by one clock as far as can be seen."""
    return (
        small.taken_at is not None and frame.taken_at is not None and abs(small.taken_at - frame.taken_at) < _ONE_CLOCK
    )
