"""What keeps a live line from falling behind: frames let in only as fast as they leave, quality given up before frames.

``AdmissionControl`` stands between the channel behind the decoder and the first stage, and is the only place where
frames are dropped for their age.  ``QualityController`` turns quality down, one step at a time, while frames have to
wait there, and up again when they have not for a while.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Protocol

from ..runtime import Cancelled, Channel
from ..types import Frame

_MOST_INSIDE = 6  # frames between admission and sink


class AdmissionControl:
    """Lets frames in while few enough are inside, and drops those that could not reach the sink young enough.

    Args:
        max_age: seconds a frame may be old when it leaves the sink.
        cancelled: whether the line is being torn down.
        waited: called for each frame let in with how many seconds it had waited, and how many were dropped before it.
    """

    def __init__(self, max_age: float, cancelled: Callable[[], bool], waited: Callable[[float, int], None]) -> None:
        self.max_age, self.limit = max_age, 3
        self.transit = 0.0  # seconds from here through the sink, the slower ones
        self._cancelled, self._waited = cancelled, waited
        self._entered: deque[float] = deque()  # when each frame inside came in
        self._changed = threading.Condition()
        self._was_full = False

    def __call__(self, frames: Iterable[Frame]) -> Generator[Frame, None, None]:
        """Let frames through as the line has room; of a channel, those too old are dropped and counted."""
        if not isinstance(frames, Channel):
            yield from frames
            return
        dropped = 0
        while True:
            began = time.monotonic()
            self._wait_for_room()
            frames.take_waited += time.monotonic() - began  # it is no work of the first stage
            frames.drop_while(self._too_old)
            taken = frames.take()
            if not taken:
                return
            now = time.monotonic()
            self._waited(now - taken[0].captured_at, frames.dropped - dropped)
            dropped = frames.dropped
            with self._changed:
                self._entered.append(now)
            yield taken[0]

    def on_exit(self) -> None:
        """The oldest frame inside has left the sink."""
        with self._changed:
            transit = time.monotonic() - self._entered.popleft()
            self.transit = max(transit, 0.9 * self.transit + 0.1 * transit)
            if transit > 0.5 * self.max_age:
                self.limit = max(1, self.limit - 1)
            elif self._was_full and transit < 0.25 * self.max_age:
                self.limit = min(_MOST_INSIDE, self.limit + 1)
            self._was_full = False
            self._changed.notify()

    def _too_old(self, frame: Frame) -> bool:
        return time.monotonic() - frame.captured_at + self.transit > 0.7 * self.max_age

    def _wait_for_room(self) -> None:
        with self._changed:
            while len(self._entered) >= self.limit:
                self._was_full = True
                self._changed.wait(0.1)
                if self._cancelled():
                    raise Cancelled


class Detects(Protocol):
    """The knob of a ``Detector``."""

    every: int


class Enhances(Protocol):
    """The knobs of an ``Enhancer``."""

    cache_ttl: float
    cache_tolerance: float
    max_faces: int


@dataclass(frozen=True, slots=True)
class Step:
    """How much is given up."""

    every: int = 1  # times the detector's own
    cache_ttl: float = 1.0  # times the cache's own time, and its tolerance by half of that
    faces: int = 0  # enhanced a frame at most; 0: as configured


STEPS = (  # in this order; frames are dropped only where the last is not enough
    Step(),
    Step(every=2),
    Step(every=3),
    Step(every=3, cache_ttl=4),
    Step(every=3, cache_ttl=4, faces=4),
    Step(every=4, cache_ttl=4, faces=1),  # any longer between detections and faces run away from their boxes
)


class QualityController:
    """Steps through ``STEPS`` as frames wait to be let in, or do not.

    Args:
        detector, enhancer: whose knobs are turned.
        max_age: seconds; a wait above a tenth of it is pressure.
        react: seconds under pressure before the next step down.
        recover: seconds without, before a step up; doubles each time a step up is followed by pressure.
    """

    def __init__(
        self, detector: Detects, enhancer: Enhances, max_age: float, react: float = 0.3, recover: float = 3.0
    ) -> None:
        self._detector, self._enhancer = detector, enhancer
        self._every, self._cache_ttl, self._cache_tolerance = (
            detector.every,
            enhancer.cache_ttl,
            enhancer.cache_tolerance,
        )
        self._faces = enhancer.max_faces
        self._pressure, self._react, self._recover, self._hold = 0.1 * max_age, react, recover, recover
        self.step = 0
        self.steps: deque[tuple[float, int]] = deque(maxlen=1000)  # time.monotonic() of each change, and the new step
        self._wait = 0.0  # seconds, smoothed
        self._calm_since = self._pressed_since = self._changed_at = time.monotonic()
        self._went_up = False

    def waited(self, seconds: float, dropped: int = 0) -> None:
        """A frame had to wait this long, and so many before it were dropped."""
        now = time.monotonic()
        self._wait = 0.8 * self._wait + 0.2 * seconds
        if self._wait < self._pressure and not dropped:
            self._pressed_since = now
            calm = now - max(self._calm_since, self._changed_at)
            if self.step and calm > self._hold:
                self._set(self.step - 1, now)
                self._went_up = True
            elif not self.step and calm > 4 * self._hold:
                self._hold = self._recover
            return
        self._calm_since = now
        if now - max(self._pressed_since, self._changed_at) < self._react or self.step == len(STEPS) - 1:
            return
        if self._went_up:
            self._hold = min(60.0, 2 * self._hold)
            self._went_up = False
        self._set(self.step + 1, now)

    def _set(self, step: int, now: float) -> None:
        self.step, self._changed_at = step, now
        self.steps.append((now, step))
        chosen = STEPS[step]
        self._detector.every = self._every * chosen.every
        self._enhancer.cache_ttl = self._cache_ttl * chosen.cache_ttl
        self._enhancer.cache_tolerance = self._cache_tolerance * (1 + chosen.cache_ttl) / 2
        faces = [n for n in (self._faces, chosen.faces) if n]
        self._enhancer.max_faces = min(faces, default=0)
