"""Stable ids for faces, and boxes for the frames between detections.

Association is ByteTrack's (Zhang et al., ECCV 2022): high-score detections claim tracks first, low ones may only
continue a track that is left over.  Motion is an alpha-beta filter (a steady-state Kalman filter; Kalata, IEEE TAES
1984) on the box and its points, in seconds of the stream, so that variable frame rates and skipped detections need no
care.
Affinity adds centre distance to overlap: two boxes of a 16-pixel face a few frames apart often do not overlap at all.

Libraries were weighed (benchmarks/bench_track.py, one busy core): ``trackers`` 2.6 takes 1.3 to 1.7 times as long and
brings supervision and the opencv-python that needs display libraries; ``norfair`` 2.3 takes 1.4 to 3.4 times as long
and holds numpy below 2; ``boxmot`` 25 brings torch.  None carries face points along or moves boxes in stream time.
Milliseconds would not have decided it (0.2 for one face); what they install did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..options import Options
from ..types import Faces

_ALPHA, _BETA = 0.75, 0.3  # how far a measurement pulls place and speed
_BEST = 3  # scores of a track whose mean is its evidence: more than one lucky frame, yet there within a moment
Looked = Callable[[NDArray[np.float32]], NDArray[np.bool_]]  # of boxes (n, 4): which were looked at, (n,)
_REACH = 1.0  # centre distance, in mean face sides, at which affinity from distance ends


def everywhere(xyxy: NDArray[np.float32]) -> NDArray[np.bool_]:
    """That the whole frame was looked at."""
    return np.ones(len(xyxy), np.bool_)


@dataclass(slots=True)
class _Track:
    number: int  # 0 until it is confirmed
    state: NDArray[np.float32]  # (2, 2 + k): x and y of centre, of width and height, and of k points
    speed: NDArray[np.float32]  # same, pixels a second
    points: bool
    score: float
    seen: float  # seconds, last detection; later by the time in which nobody looked
    measured: float  # seconds, last detection
    missed: bool  # by the last look at its place
    confirmed: bool  # detected twice, or once with a score from confirm_threshold up
    high_at: float  # seconds, last detection with a score to begin a track
    at: float  # seconds, the state's time
    best: list[float]  # its highest scores, at most _BEST of them

    def to(self, seconds: float) -> None:
        """Move on to ``seconds``."""
        self.state = self.state + self.speed * np.float32(seconds - self.at)
        self.at = seconds


class TrackerOptions(Options):
    """How faces are followed."""

    coast_ttl: float = Field(default=0.25, ge=0, le=60, description="Seconds that a face is shown without a detection.")
    lost_ttl: float = Field(
        default=1.0, ge=0, le=600, description="Seconds after which an unseen face's track id is given up."
    )
    confirm_threshold: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="Score from which a new face is shown at once; others when detected a second time.",
    )
    low_score_ttl: float = Field(
        default=2.0,
        ge=0,
        le=600,
        description="Seconds that detections below detector.score carry a track on; else what resembled a face for a"
        " moment would be one for as long as it is in the frame.",
    )


class Tracker:
    """Follows faces from detection to detection.

    Args:
        high_threshold: score from which a detection may begin a track.
        options: how long tracks live, and which are shown.
    """

    def __init__(self, high_threshold: float, options: TrackerOptions = TrackerOptions()) -> None:
        self._high_threshold, self._options = high_threshold, options
        self._tracks: list[_Track] = []
        self._updated_at = 0.0  # seconds, the last detection
        self.begun = 0

    def update(self, found: Faces, seconds: float, looked: Looked = everywhere) -> Faces:
        """Give each detection its track; detections first, then tracks missed just now.

        Args:
            found: detections of the frame at ``seconds``; their ``track`` is ignored.
            seconds: stream time, increasing.
            looked: which of the boxes (n, 4) were looked at; a track can be missed only there.  Elsewhere it moves on
                with its speed, and grows no older.
        """
        self._skip(seconds, looked)
        self._updated_at = seconds
        self._tracks = [t for t in self._tracks if seconds - t.seen <= self._options.lost_ttl]
        for track in self._tracks:
            track.to(seconds)
        states = _states(found)
        owner: NDArray[np.int64] = np.full(len(found), -1, np.int64)
        high = found.score >= self._high_threshold
        free = list(range(len(self._tracks)))
        for rows in (np.flatnonzero(high), np.flatnonzero(~high)):
            for row, index in self._matches(states[rows], free):
                owner[rows[row]] = index
            held = set(owner.tolist())
            free = [
                i for i in free if i not in held and seconds - self._tracks[i].high_at <= self._options.low_score_ttl
            ]
        for row, index in enumerate(owner):
            if index >= 0:
                self._corrected(self._tracks[index], states[row], float(found.score[row]), seconds)
            elif high[row]:
                self._begin(states[row], found.points is not None, float(found.score[row]), seconds)
        return self._shown(seconds)

    def _skip(self, seconds: float, looked: Looked) -> None:
        """Tracks that were looked at count as missed until they are found; for others no time has passed."""
        elapsed = seconds - self._updated_at
        for track, seen in zip(self._tracks, looked(self._boxes(seconds)), strict=True):
            if seen:
                track.missed = True
            elif not track.missed:
                track.seen += elapsed
                track.high_at += elapsed

    def expected(self, seconds: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Where each track, shown or not, is expected at ``seconds``, (n, 4) pixels, and whether a look is urgent:
        it is so new that its speed is a guess, or was missed by the last look."""
        urgent = np.array([track.missed or len(track.best) < _BEST for track in self._tracks], np.bool_)
        return self._boxes(seconds), urgent

    def _boxes(self, seconds: float) -> NDArray[np.float32]:
        """(n, 4) pixels of all tracks at ``seconds``."""
        places = [t.state[:, :2] + t.speed[:, :2] * np.float32(seconds - t.at) for t in self._tracks]
        states = np.array(places, np.float32).reshape(-1, 2, 2)
        centre, half = states[:, :, 0], np.maximum(states[:, :, 1], 1) / 2
        return np.concatenate([centre - half, centre + half], 1)

    def _begin(self, state: NDArray[np.float32], points: bool, score: float, seconds: float) -> None:
        track = _Track(
            number=0,
            state=state,
            speed=np.zeros_like(state),
            points=points,
            score=score,
            seen=seconds,
            measured=seconds,
            missed=False,
            confirmed=False,
            high_at=seconds,
            at=seconds,
            best=[score],
        )
        self._tracks.append(track)
        if score >= self._options.confirm_threshold:
            self._number(track)

    def _number(self, track: _Track) -> None:
        self.begun += 1
        track.number, track.confirmed = self.begun, True

    def forget(self) -> None:
        """End all tracks: what comes next shows another place."""
        self._tracks = []

    def predict(self, seconds: float) -> Faces:
        """Where the faces are at ``seconds``, with no detection made."""
        for track in self._tracks:
            track.to(seconds)
        return self._shown(seconds)

    def _shown(self, seconds: float) -> Faces:
        shown = [t for t in self._tracks if t.confirmed and seconds - t.seen <= self._options.coast_ttl]
        if not shown:
            return Faces.none()
        states = np.stack([t.state for t in shown])  # (n, 2, 2 + k)
        centre, half = states[:, :, 0], states[:, :, 1] / 2
        points = states[:, :, 2:].transpose(0, 2, 1).copy() if all(t.points for t in shown) else None
        return Faces(
            np.concatenate([centre - half, centre + half], 1),
            np.array([t.score for t in shown], np.float32),
            np.array([t.number for t in shown], np.int64),
            points,
            np.array([sum(t.best) / len(t.best) for t in shown], np.float32),
            np.array([t.missed for t in shown], np.bool_),
        )

    def _matches(self, states: NDArray[np.float32], free: list[int]) -> list[tuple[int, int]]:
        """Pairs of a row of ``states`` and an index of a free track, best affinity first."""
        if not len(states) or not free:
            return []
        affinity = _affinity(states, np.stack([self._tracks[i].state for i in free]))
        rows, columns = np.nonzero(affinity)
        pairs: dict[int, int] = {}
        taken = set()
        for i in np.argsort(-affinity[rows, columns], kind="stable"):
            row, column = int(rows[i]), int(columns[i])
            if row not in pairs and column not in taken:
                pairs[row] = free[column]
                taken.add(column)
        return list(pairs.items())

    def _corrected(self, track: _Track, measured: NDArray[np.float32], score: float, seconds: float) -> None:
        residual = measured - track.state
        elapsed = max(seconds - track.measured, 1e-3)
        track.state = track.state + np.float32(_ALPHA) * residual
        pull = np.float32(_BETA / elapsed)
        track.speed = track.speed + pull * residual
        track.speed[:, 1] *= 0.5  # sizes change slowly: most of their speed is noise
        if track.points:  # points ride with the box: their own speeds would tear the face apart
            track.speed[:, 2:] = track.speed[:, :1]
        track.score, track.seen, track.measured, track.missed = score, seconds, seconds, False
        track.best = sorted([*track.best, score], reverse=True)[:_BEST]
        if score >= self._high_threshold:
            track.high_at = seconds
            if not track.confirmed:
                self._number(track)


def _states(faces: Faces) -> NDArray[np.float32]:
    """(n, 2, 2 + k): centre, size and points, x above y."""
    low, high = faces.xyxy[:, :2], faces.xyxy[:, 2:]
    columns = [(low + high)[:, :, None] / 2, (high - low)[:, :, None]]
    if faces.points is not None:
        columns.append(faces.points.transpose(0, 2, 1))
    return np.concatenate(columns, 2).astype(np.float32)


def _affinity(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, m) of 0..2: overlap (IoU) plus closeness of centres; 0 where sizes differ by more than twice."""
    centre = a[:, None, :, 0] - b[None, :, :, 0]  # (n, m, 2)
    size_a, size_b = np.maximum(a[:, None, :, 1], 1e-3), np.maximum(b[None, :, :, 1], 1e-3)
    shared = np.clip((size_a + size_b) / 2 - np.abs(centre), 0, np.minimum(size_a, size_b)).prod(2)
    iou = shared / (size_a.prod(2) + size_b.prod(2) - shared)
    side = np.sqrt((size_a.prod(2) + size_b.prod(2)) / 2)
    close = np.clip(1 - np.hypot(centre[..., 0], centre[..., 1]) / (_REACH * side), 0, 1)
    ratio = np.sqrt(size_a.prod(2) / size_b.prod(2))
    result: NDArray[np.float32] = np.where((ratio > 0.5) & (ratio < 2), iou + close, 0).astype(np.float32)
    return result
