"""What a run saw of each track: where its face was on every frame, and its best moments.

``Collector`` observes a run.  A moment is kept for what it is best at: the largest face, the sharpest, the one seen
most from the front.  Its patches wait in memory until the track has been unseen for a while, then go to ``on_ended``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ...imaging import crop, planes
from ...stages import gates
from ...types import Enhanced, Frame

_WHY = {  # a decision's reason: in words; "off" is none, as nothing was to be enhanced
    "too_small": "it is too small",
    "sharp_enough": "it is sharp enough",
    "over_budget": "there were too many faces in the frame",
    "not_enough_evidence": "it is not clear enough that it is a face",
    "turned_away": "it is turned away",
    "partly_outside": "it lies partly outside the frame",
    "dark_and_flat": "nothing of it can be seen in the dark",
    "inconsistent": "the result disagreed with what the camera saw",
}
Criterion = Literal["largest", "sharpest", "most frontal"]
CRITERIA: tuple[Criterion, ...] = ("largest", "sharpest", "most frontal")
_GONE = 2.0  # seconds unseen after which a track's moments are let go
_CLEAR = 0.6  # detection score from which a face may be a best shot, where its track has any such
_BETTER = 1.05  # times as good as what is kept: a patch is not cut again for less


@dataclass(frozen=True, slots=True)
class Moment:
    """A track's face on one frame."""

    track: int
    frame: int  # counts the frames that were read, from 0
    seconds: float  # from the first frame
    box: tuple[float, float, float, float]  # x1, y1, x2, y2, frame pixels
    pixels: NDArray[np.uint8]  # (S, S, 3) RGB, the camera's own, each a square
    patch: NDArray[np.uint8]  # (S, S, 3) RGB, the same cut by bicubic enlargement, as the network gets it
    to_frame: NDArray[np.float32]  # (2, 3) patch pixels to frame pixels
    score: float  # of the detection
    yaw: float | None  # see ``gates.yaw_of``; None without points
    sharpness: float  # see ``gates.sharpness_of``
    left_alone: str  # why no network may change it; empty where one may

    @property
    def height(self) -> float:
        """Of the face's box, frame pixels."""
        return self.box[3] - self.box[1]


@dataclass(slots=True)
class Track:
    """One followed face."""

    number: int
    frames: list[int] = field(default_factory=list)  # numbers of frames, rising
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)  # of each of ``frames``
    first: float = 0.0  # seconds from the first frame
    last: float = 0.0
    enhanced: int = 0  # frames on which it was changed
    best_score: float = 0.0
    moments: dict[Criterion, Moment] = field(default_factory=dict)

    @property
    def heights(self) -> tuple[float, float]:
        """Of the smallest and the largest box, frame pixels."""
        heights = [box[3] - box[1] for box in self.boxes]
        return min(heights), max(heights)


class Collector:
    """Observes a run.

    Args:
        on_ended: called with each track once it has been unseen for a while or the run has ended; its moments are
            let go afterwards.
        size: pixels, a patch's side.
    """

    def __init__(self, on_ended: Callable[[Track], None], size: int = 256) -> None:
        self._on_ended, self._size = on_ended, size
        self.tracks: dict[int, Track] = {}
        self._held: dict[int, Track] = {}  # with moments in memory
        self.times: list[float] = []  # of each frame, seconds from the first
        self.duration = 0.0  # seconds, with the last frame's own
        self.size_of_frame = (0, 0)  # width and height, pixels
        self._start = 0.0

    def observe(self, item: Enhanced) -> None:
        """See one frame's faces."""
        frame, faces = item.scene.frame, item.scene.faces
        if not self.times:
            self._start = frame.seconds
        now = frame.seconds - self._start
        self._count(frame, now)
        changed = {int(row) for row in item.faces}
        yaw = gates.yaw_of(faces.points) if faces.points is not None and len(faces) else None
        for row in range(len(faces)):
            if (number := int(faces.track[row])) < 0:
                continue
            track = self.tracks.get(number)
            if track is None:
                track = self.tracks[number] = self._held[number] = Track(number, first=now)
            box = tuple(float(v) for v in faces.xyxy[row])
            assert len(box) == 4
            track.frames.append(len(self.times) - 1)
            track.boxes.append(box)
            track.last = now
            track.enhanced += row in changed
            if faces.coasting is None or not faces.coasting[row]:
                track.best_score = max(track.best_score, float(faces.score[row]))
                self._consider(track, item, row, now, None if yaw is None else float(yaw[row]))
        for number in [n for n, held in self._held.items() if now - held.last > _GONE]:
            self._let_go(number)

    def _count(self, frame: Frame, now: float) -> None:
        last = now - self.times[-1] if self.times else 0.04
        self.times.append(now)
        self.duration = now + (float(frame.duration * frame.time_base) or last)
        self.size_of_frame = (frame.image.width, frame.image.height)

    def close(self) -> None:
        """Let go of the tracks that were seen to the end."""
        for number in list(self._held):
            self._let_go(number)

    def _let_go(self, number: int) -> None:
        track = self._held.pop(number)
        self._on_ended(track)
        track.moments.clear()

    def _consider(self, track: Track, item: Enhanced, row: int, now: float, yaw: float | None) -> None:
        """Keep this face for each criterion by which it is the track's best yet."""
        faces, kept = item.scene.faces, track.moments
        self._held.setdefault(track.number, track)  # it had been let go and is back
        score = float(faces.score[row])
        height = float(faces.xyxy[row, 3] - faces.xyxy[row, 1])
        clear = score >= _CLEAR

        def beats(criterion: Criterion, value: float, of: Callable[[Moment], float]) -> bool:
            old = kept.get(criterion)
            if old is None or clear > (old.score >= _CLEAR):
                return True
            return clear == (old.score >= _CLEAR) and value > _BETTER * of(old)

        won: list[Criterion] = []
        if beats("largest", height, lambda m: m.height):
            won.append("largest")
        if yaw is not None and beats("most frontal", 1 / (0.05 + yaw), lambda m: 1 / (0.05 + (m.yaw or 0.0))):
            won.append("most frontal")
        sharpest = kept.get("sharpest")
        if not won and sharpest is not None and height < 0.8 * sharpest.height:
            return  # too small to be the sharpest: its patch need not be cut
        moment = self._moment(track.number, item, row, now, yaw)
        if moment is None:
            return
        if beats("sharpest", moment.sharpness * height, lambda m: m.sharpness * m.height):
            won.append("sharpest")
        for criterion in won:
            kept[criterion] = moment

    def _moment(self, number: int, item: Enhanced, row: int, now: float, yaw: float | None) -> Moment | None:
        scene, decision = item.scene, item.decisions[row]
        faces = scene.faces
        points = None if faces.points is None else faces.points[row : row + 1]
        to_frame = crop.patch_to_frame(faces.xyxy[row : row + 1], points, self._size)[0]
        image = scene.frame.image
        region = planes.align(image, *crop.bounds(to_frame, self._size))
        if region is None:
            return None
        around = planes.read(image, *region)
        within = crop.moved(to_frame, *region[:2])
        patch = crop.cut(around, within, self._size)
        pixels = cv2.warpAffine(
            around,
            within,
            (self._size, self._size),
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        x1, y1, x2, y2 = (float(v) for v in faces.xyxy[row])
        return Moment(
            number,
            len(self.times) - 1,
            now,
            (x1, y1, x2, y2),
            pixels.astype(np.uint8, copy=False),
            patch,
            to_frame,
            float(faces.score[row]),
            yaw,
            gates.sharpness_of(patch, crop.scale_of(to_frame)),
            _WHY.get(decision.why, "") if decision.kind == "left" else "",
        )
