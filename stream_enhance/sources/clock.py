"""Clocks: timestamps that strictly increase, made of what a recording or a camera says."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av

TIME_BASE = Fraction(1, 90_000)  # of cameras
_LEAST_STEP = 90  # ticks of it: a millisecond, the finest that Matroska and FLV know
_DRIFT = 1.0  # seconds: a camera clock further from ours than this has jumped
_JUMP = 1.0  # seconds: a timestamp that falls back by less is a stutter, by more a new clock


class RecordingClock:
    """Makes timestamps strictly increasing, whatever the file says, and moves other streams' packets along."""

    def __init__(self, time_base: Fraction, rate: Fraction | None) -> None:
        self._time_base = time_base
        self._step = max(1, round(1 / (rate or Fraction(25)) / time_base))
        self._jump = round(_JUMP / time_base)
        self._last: int | None = None
        self._offset = 0

    def next(self, pts: int | None) -> int:
        if self._last is None:
            self._last = pts if pts is not None else 0
            return self._last
        if pts is None:
            pts = self._last + self._step
        else:
            pts += self._offset
        if pts <= self._last:
            if self._last - pts > self._jump:  # a clock set back: all that follows moves with it
                self._offset += self._last + self._step - pts
                pts = self._last + self._step
            else:
                pts = self._last + 1
        self._last = pts
        return pts

    def move(self, packet: av.Packet[Any]) -> None:
        if self._offset:
            shift = round(self._offset * self._time_base / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift


class WallClock:
    """Camera timestamps laid onto the run's own clock: strictly rising ticks of ``TIME_BASE``.

    Within one connection the camera's own intervals are kept, so that network jitter does not show; where its clock
    leaves ours by more than a second it is laid on anew.
    """

    def __init__(self, started: float) -> None:
        self._started, self._last = started, -_LEAST_STEP
        self._offset: float | None = None  # seconds from the camera's clock to the run's

    def restart(self) -> None:
        self._offset = None

    def next(self, seconds: float | None, captured_at: float) -> int:
        """Ticks for a frame that the camera dates ``seconds`` (None: undated) and that came at ``captured_at``."""
        elapsed = captured_at - self._started
        when = elapsed
        if seconds is not None:
            if self._offset is None or abs(seconds + self._offset - elapsed) > _DRIFT:
                self._offset = elapsed - seconds
            when = seconds + self._offset
        self._last = max(self._last + _LEAST_STEP, round(when / TIME_BASE))
        return self._last
