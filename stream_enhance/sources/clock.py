"""Clocks: timestamps that strictly increase, made of what a recording or a camera says.

A recording's clock is read as ffmpeg reads it (fftools, ``ts_fixup`` and ``ts_discontinuity_process``): one start is
subtracted from all streams, and a leap is mended where the format allows its clock to leap.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

TIME_BASE = Fraction(1, 90_000)  # of cameras
_LEAST_STEP = 90  # ticks of it: a millisecond, the finest that Matroska and FLV know
_DRIFT = 1.0  # seconds: a camera clock further from ours than this has jumped
_LEAP = 10  # seconds: ffmpeg's -dts_delta_threshold
_ERROR = 30 * 3600  # seconds: ffmpeg's -dts_error_threshold, which no format's clock leaps ahead by
_BACK = 1  # seconds that a clock may fall back by in a stutter
_BACK_LEAPING = Fraction(1, 10)  # the same where the format allows leaps
_QUEUE = 64  # timestamps: more than any decoder reorders


@dataclass
class _Track:
    """What is expected of one stream."""

    next: Fraction  # seconds, mended, when its next packet should be decoded
    resume: Fraction | None = None  # where it was before its last packet leapt ahead, in a format that allows no leaps


class RecordingClock:
    """Timestamps of all streams of one recording, from 0.

    Args:
        time_base: of the video stream, seconds a tick.
        step: seconds a frame, where the file does not say.
        start: seconds, the container's start, which is subtracted.
        leaps: whether the format allows its clock to leap (FFmpeg's ``AVFMT_TS_DISCONT``).
        undated: the file's own timestamps are invented (raw streams): frames are counted.
        decode_order: the file has no presentation times (AVI): those of decoding, in order, are the same times.
    """

    def __init__(
        self,
        time_base: Fraction,
        step: Fraction,
        start: Fraction = Fraction(0),
        leaps: bool = False,
        undated: bool = False,
        decode_order: bool = False,
    ) -> None:
        self._time_base, self._step = time_base, step
        self._leaps, self.undated = leaps, undated
        self.step_ticks = max(1, round(step / time_base))
        self._offset = self._before = -start  # seconds added to what the file says, now and before the last leap
        self._tracks: dict[int, _Track] = {}
        self._latest: Fraction | None = None  # seconds, mended, the last packet of any stream
        self._queue: list[int] | None = [] if decode_order else None
        self._count = 0
        self.last: int | None = None  # ticks of the latest frame
        self.previous: int | None = None  # of the one before it
        self._emitted: int | None = None

    def mend(self, packet: av.Packet[Any]) -> None:
        """Change ``packet``'s timestamps to the recording's own time.  Call it for each, in the file's order."""
        base = packet.time_base
        if self.undated or base is None or (packet.dts is None and packet.pts is None):
            return
        self._reconcile(packet, base)
        raw = packet.dts if packet.dts is not None else packet.pts
        assert raw is not None
        if packet.stream.type in ("video", "audio"):
            self._follow(packet, raw * Fraction(base), Fraction(base))
        shift = round(self._offset / base)
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.dts = None if packet.dts is None else packet.dts + shift
        if self._queue is not None and packet.stream.type == "video" and packet.dts is not None:
            heapq.heappush(self._queue, packet.dts)
            if len(self._queue) > _QUEUE:  # packets that gave no frame
                heapq.heappop(self._queue)

    def _reconcile(self, packet: av.Packet[Any], base: Fraction) -> None:
        """Of two timestamps far apart one is wrong: the one further from what is expected."""
        pts, dts = packet.pts, packet.dts
        if pts is None or dts is None or abs(pts - dts) * base <= _LEAP:
            return
        track = self._tracks.get(packet.stream_index)
        expected = track.next if track else self._latest if self._latest is not None else Fraction(0)
        if abs(pts * base + self._offset - expected) < abs(dts * base + self._offset - expected):
            packet.dts = pts
        else:
            packet.pts = None

    def _follow(self, packet: av.Packet[Any], raw: Fraction, base: Fraction) -> None:
        """Change the offset where the clock has leapt."""
        track = self._tracks.get(packet.stream_index)
        expected = track.next if track else self._latest
        resume = None
        if expected is not None:
            when = raw + self._offset
            fits = self._plausible(when - expected) if track else abs(when - expected) <= _LEAP
            back = track is not None and track.resume is not None and self._plausible(when - track.resume)
            if not (fits or back or self._gap(packet.stream_index, when, expected)):
                resume = self._leap(raw, expected)
        when = raw + self._offset
        step = (packet.duration or 0) * base or (self._step if packet.stream.type == "video" else Fraction(0))
        self._tracks[packet.stream_index] = _Track(when + step, resume)
        self._latest = when

    def _plausible(self, delta: Fraction) -> bool:
        return -(_BACK_LEAPING if self._leaps else _BACK) <= delta <= _LEAP

    def _gap(self, index: int, when: Fraction, expected: Fraction) -> bool:
        """Whether the other streams are that far already: this one alone has a gap."""
        others = (track.next for i, track in self._tracks.items() if i != index)
        return when > expected and any(abs(when - other) <= _LEAP for other in others)

    def _leap(self, raw: Fraction, expected: Fraction) -> Fraction | None:
        """Mend a leap; where the format allows none, believe it, and say where the stream was before."""
        delta = raw + self._offset - expected
        if self._plausible(raw + self._before - expected):  # back again: a wrong bit, or another stream's packet
            self._offset, self._before = self._before, self._offset
        elif self._leaps or delta < 0 or delta > _ERROR:
            self._before, self._offset = self._offset, self._offset - delta
        else:
            return expected
        return None

    def frame(self, pts: int | None) -> int:
        """Ticks of the next frame, in the order shown, that its packet dates ``pts`` (mended; None: undated).

        It may change what it said of the frame before; ``previous`` holds that one's final ticks.
        """
        if self.undated:
            pts = round(self._count * self._step / self._time_base)
            self._count += 1
        if self._queue:
            pts = heapq.heappop(self._queue)
        if pts is None:
            pts = 0 if self.last is None else self.last + self.step_ticks
        self.previous, last = self.last, self.last
        if last is not None and pts <= last:
            if self._emitted is not None and self._emitted < pts < last - _BACK / self._time_base:
                self.previous = (self._emitted + pts) // 2  # ahead and back within one frame: a wrong bit
            else:
                pts = last + 1
        self._emitted, self.last = self.previous, pts
        return pts

    def lost(self) -> None:
        """A packet could not be decoded."""
        if self._queue:
            heapq.heappop(self._queue)


class WallClock:
    """Camera timestamps laid onto the run's own clock: strictly rising ticks of ``TIME_BASE``.

    Within one connection the camera's own intervals are kept, so that network jitter does not show; where its clock
    leaves ours by more than a second it is aligned again.
    """

    def __init__(self, started: float) -> None:
        self._started, self._last = started, -_LEAST_STEP
        self._offset: float | None = None  # seconds from the camera's clock to the run's

    def restart(self) -> None:
        """The next frame is of another connection: its clock has no relation to the last one's."""
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
