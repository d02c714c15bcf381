"""Faces: letterbox by one swscale call, YOLOv8's head decoded, NMS, then tracks.

``Detector`` turns frames into scenes.  Between detections (``every`` > 1) faces move with their tracks; where the video
cuts to another scene it detects again, and no track goes on.  Takes ultralytics' detect exports (n, 4 + classes, cells)
and pose exports (n, 5 + 15, cells): centre x, y, width, height in input pixels, scores after the sigmoid, then five
points as x, y, visibility.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from av import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ..backends import Session, infer
from ..backends.card import probability
from ..backends.preprocessing import to_input
from ..imaging.host import Host, Imaging
from ..options import Options
from ..types import Faces, Frame, Scene
from .regions import Expected, Plan, Regions
from .scene_change import SceneChangeDetector
from .track import Tracker, everywhere
from .view import LetterboxView, crop_view

log = logging.getLogger(__name__)

STRIDE = 32
_OVERLAP = 0.2  # of a tile's side
_ENLARGED = 480  # pixels of the long side up to which a small frame is enlarged, and at most to twice its size: the
# network knows no face that fills a larger input
_TRIAL_AFTER = 2.0  # seconds without a clear face, after which another input size is tried, and again at twice the time
_TRIALS = (0.5, 1.5)  # of the size set, in turns
_TRIALS_MOST = 10
_CLEAR = 0.75  # score that only a face has: hands, curtains and poles reached 0.72
_PAYS = 2.0  # times the network's input that a frame's long side must be for regions: at 1.6 they cost 40 % more time
_CROP = 0.75  # of the size set: a crop's long side; two of them cost a little more than one input of that size
_INSIDE = 0.7  # share of a box within another of another view that says that they are one face
_LOW_SCORE = 0.5  # of the least score: from there on a face may continue a track, though not begin one


class DetectorOptions(Options):
    """How faces are found."""

    model: Path | None = Field(
        default=None, description="ONNX file of the detector; null: the one that comes with the package."
    )
    size: int = Field(
        default=640,
        ge=0,
        le=8192,
        description="Pixels of the long side of the network's input; 0: as the model's card says.  A smaller frame is"
        " enlarged to 480 at most.  Where no clear face is found within two seconds, half and one and a half of it are"
        " tried.",
    )
    every: int = Field(
        default=2, ge=1, le=100, description="Detect on every n-th frame; faces follow their tracks between."
    )
    score: float = Field(default=0.4, gt=0, lt=1, description="Least score of a face.")
    iou: float = Field(
        default=0.5, gt=0, lt=1, description="Overlap above which the lower-scored of two boxes is dropped."
    )
    tiles: int = Field(
        default=1, ge=1, le=8, description="Detect in n x n overlapping tiles too, for small faces in large frames."
    )
    regions: Literal["auto", "off"] = Field(
        default="auto",
        description="Where frames are at least twice as large as size: detect in a few crops at the frame's own"
        " resolution, where something moves, where faces are followed and everywhere in turns, instead of in the whole"
        " frame made small.  off: always in the whole frame, as it is for images of a folder and with detector.tiles.",
    )
    max_faces: int = Field(default=300, ge=1, le=10_000, description="Most faces kept in a frame, best first.")

    @field_validator("regions", mode="before")
    @classmethod
    def _yaml_off(cls, value: object) -> object:
        return "off" if value is False else value  # YAML reads off as false


class Detector:
    """Finds and follows faces.

    Args:
        session: a face-detection network.
        options: how it detects; ``size`` is ignored where the model's input is fixed.
        tracker: gives ids and carries faces between detections; None for a new one.
        imaging: makes the network's input, of whole frames; None: in the host's memory, with ``regions`` too.
    """

    def __init__(
        self,
        session: Session,
        options: DetectorOptions = DetectorOptions(),
        tracker: Tracker | None = None,
        imaging: Imaging | None = None,
    ) -> None:
        self._session = session
        self.size = options.size or session.card.size
        self.every, self.tiles = options.every, options.tiles
        self._score, self._iou, self._max_faces = options.score, options.iou, options.max_faces
        self._tracker = tracker or Tracker(options.score)
        self._imaging = imaging or Host()
        # crops are taken in the host's memory
        self._regions_wanted = options.regions == "auto" and options.tiles == 1 and imaging is None
        self._regions: Regions | None = None  # of frames of the present size; None: they are looked at as a whole
        self._crop_reformatter = VideoReformatter()
        self._trials = 0 if session.input_size else _TRIALS_MOST  # left
        self._next_trial: float | None = None  # seconds of stream time; None: not begun
        self._trial_gap = 0.5  # seconds to the trial after, doubled each time: trials cost next to nothing in the end
        self.detected = 0  # faces of at least the least score, over all frames that were looked at

    def __call__(self, frames: Iterable[Frame]) -> Generator[Scene, None, None]:
        """Each frame with its faces, as float32 pixels of the frame, and their track ids."""
        since, scene_changed = self.every, SceneChangeDetector(self._imaging)
        shown: VideoFrame | None = None  # the smaller stream's image that was detected in last
        for frame in frames:
            if frame.no_signal:
                yield Scene(frame, Faces.none())
                continue
            if cut := scene_changed(frame):
                self._tracker.forget()
                self._regions = None
                since = self.every
            # a slow smaller stream shows one image beside several frames: a second detection in it would be taken for
            # a face that has moved in no time
            again = frame.detect_image is not None and frame.detect_image is shown
            if since >= self.every and not again:
                faces, shown = self._looked_at(frame), frame.detect_image
                since = 0
            else:
                faces = self._tracker.predict(frame.seconds)
            since += 1
            yield Scene(frame, replace(faces, probability=probability(self._session.card, faces.score)), cut)

    def _looked_at(self, frame: Frame) -> Faces:
        """The faces of a frame that is shown to the network, with their tracks."""
        least = _LOW_SCORE * self._score
        seconds = frame.seconds if frame.detect_seconds is None else frame.detect_seconds
        if crop := self._crop(frame):
            self._regions = self._regions or Regions((frame.image.width, frame.image.height), crop)
            plan = self._regions.plan(frame.image, seconds, Expected(*self._tracker.expected(seconds)))
            found, looked = self._found_in(frame, plan, least), plan.seen
        else:
            found, looked = self._found(frame, least), everywhere
            if self._trials and not frame.stream.stills:
                found = self._tried(frame, found)
        self.detected += int((found.score >= self._score).sum())
        faces = self._tracker.update(found, seconds, looked)
        return faces if seconds == frame.seconds else self._tracker.predict(frame.seconds)

    @property
    def tracks(self) -> int:
        """Tracks begun so far."""
        return self._tracker.begun

    def find(self, frame: Frame) -> Faces:
        """The faces of one frame, best first, without tracks (all -1)."""
        return self._found(frame, self._score)

    def _found(self, frame: Frame, score: float) -> Faces:
        rows = np.concatenate(self._rows(frame, self.views(frame), score))
        return self._faces(suppress(rows, self._iou))

    def _found_in(self, frame: Frame, plan: Plan, score: float) -> Faces:
        """The faces in what ``plan`` looks at: one batch of equal images."""
        views = [crop_view(frame, box, self._crop_reformatter) for box in plan.crops]
        if plan.whole:
            width, height = plan.crop[::-1] if frame.rotation % 180 else plan.crop
            views.append(self._letterbox(self._scaled(frame, room=(height, width)), room=(height, width)))
        if not views:
            return Faces.none()
        rows = [suppress(part, self._iou) for part in self._rows(frame, views, score)]
        return self._faces(suppress(plan.merged(rows), self._iou, _INSIDE))

    def _rows(self, frame: Frame, views: list[LetterboxView], score: float) -> list[NDArray[np.float32]]:
        """``decode``'s rows of each view, in pixels of the frame as it is coded."""
        if len({view.image.shape for view in views}) == 1:
            outputs = infer(self._session, to_input([v.image for v in views], self._session.card))
        else:  # tiles and the whole frame differ in size
            outputs = [infer(self._session, to_input([v.image], self._session.card))[0] for v in views]  # type: ignore[assignment]
        return [_turned_back(decode(out, view, score), frame) for out, view in zip(outputs, views, strict=True)]

    def _faces(self, rows: NDArray[np.float32]) -> Faces:
        rows = rows[: self._max_faces]
        points = rows[:, 5:].reshape(-1, 5, 2).copy() if rows.shape[1] > 5 else None
        return Faces(rows[:, :4].copy(), rows[:, 4].copy(), np.full(len(rows), -1, np.int64), points)

    def _tried(self, frame: Frame, found: Faces) -> Faces:
        """What is found in another input size where the present one has shown no clear face for a while; it is kept."""
        if self._next_trial is None:
            self._next_trial = frame.seconds + _TRIAL_AFTER
        if (found.score >= _CLEAR).any():
            self._trials = 0
        elif frame.seconds >= self._next_trial:
            size = self.size
            self._trial_gap *= 2
            self._next_trial += self._trial_gap
            self._trials -= 1
            self.size = round(size * _TRIALS[self._trials % len(_TRIALS)])
            other = self._found(frame, _LOW_SCORE * self._score)
            if (other.score >= _CLEAR).any():
                log.warning(
                    "detector.size=%d showed no face in the first seconds, %d does; it is used", size, self.size
                )
                self._trials = 0
                return other
            self.size = size
        return found

    def views(self, frame: Frame) -> list[LetterboxView]:
        """What the network is shown of the frame: all of it, and its tiles where there are any."""
        views = [self._letterbox(self._scaled(frame))]
        if self.tiles > 1:
            large = self._scaled(frame, self.tiles - (self.tiles - 1) * _OVERLAP)
            views += [self._letterbox(large, x, y) for y in self._starts(large, 0) for x in self._starts(large, 1)]
        return views

    def _crop(self, frame: Frame) -> tuple[int, int] | None:
        """Width and height of the crops that the frame is looked at in, as it is coded; None: as a whole."""
        size = (frame.image.width, frame.image.height)
        if not self._regions_wanted or frame.detect_image or frame.stream.stills or max(size) < _PAYS * max(self._room):
            return None
        if (fixed := self._session.input_size) is not None:
            crop = fixed if frame.rotation % 180 else fixed[::-1]
        else:
            ratio = _CROP * self.size / max(size)
            width, height = (-(-round(side * ratio) // STRIDE) * STRIDE for side in size)
            crop = (width, height)
        return crop if crop[0] <= size[0] and crop[1] <= size[1] else None

    @property
    def _room(self) -> tuple[int, int]:
        """Height and width that a frame may have in the network's input."""
        return self._session.input_size or (self.size, self.size)

    def _scaled(self, frame: Frame, times: float = 1, room: tuple[int, int] | None = None) -> LetterboxView:
        """The whole frame, upright, to fill ``times`` the room: one swscale call from the decoder's own format."""
        image, room = frame.detect_image or frame.image, room or self._room
        room = room[::-1] if frame.rotation % 180 else room  # as the frame is coded
        ratio = min(round(room[0] * times) / image.height, round(room[1] * times) / image.width)
        ratio = min(ratio, times * max(1.0, min(2.0, _ENLARGED / max(image.width, image.height))))
        width, height = max(1, round(image.width * ratio)), max(1, round(image.height * ratio))
        pixels = self._imaging.shrink(image, width, height, frame.rotation // 90)
        height, width = pixels.shape[:2]
        upright = (frame.image.width, frame.image.height)[:: -1 if frame.rotation % 180 else 1]
        return LetterboxView(pixels, (width / upright[0], height / upright[1]), 0.0, 0.0)

    def _starts(self, view: LetterboxView, axis: int) -> list[int]:
        length, room = view.image.shape[axis], self._room[axis]
        if length <= room:
            return [0]
        count = int(np.ceil((length - room * _OVERLAP) / (room * (1 - _OVERLAP))))
        return [round(i * (length - room) / (count - 1)) for i in range(count)]

    def _letterbox(
        self, view: LetterboxView, x: int = 0, y: int = 0, room: tuple[int, int] | None = None
    ) -> LetterboxView:
        """The part of ``view`` from (x, y) that fits the network, on grey, padded to ``room`` or whole strides."""
        part = view.image[y : y + self._room[0], x : x + self._room[1]]
        height, width = part.shape[:2]
        full_height, full_width = (
            room
            or self._session.input_size
            or (
                -(-height // STRIDE) * STRIDE,
                -(-width // STRIDE) * STRIDE,
            )
        )
        left, top = (full_width - width) // 2, (full_height - height) // 2
        canvas = self._imaging.letterbox(part, full_height, full_width, left, top)
        return LetterboxView(canvas, view.scale, left - x, top - y)


def decode(output: NDArray[np.float32], view: LetterboxView, score: float) -> NDArray[np.float32]:
    """One frame's raw head, (4 + ..., cells), as rows x1, y1, x2, y2, score[, 5 x (x, y)] in frame pixels.

    Rows of 15 after the first five are YOLOv8-pose's points with visibility; otherwise all rows after the fourth are
    class scores, of which the best counts.
    """
    pose = len(output) == 20
    scores = output[4] if pose else output[4:].max(0)
    keep = scores > score
    cells = output[:, keep].T  # (k, channels)
    offset = np.array([view.left, view.top], np.float32)
    scale = np.array(view.scale, np.float32)
    half = cells[:, 2:4] / 2
    rows = np.empty((len(cells), 15 if pose else 5), np.float32)
    rows[:, 0:2] = (cells[:, :2] - half - offset) / scale
    rows[:, 2:4] = (cells[:, :2] + half - offset) / scale
    rows[:, 4] = scores[keep]
    if pose:
        points = cells[:, 5:].reshape(-1, 5, 3)[:, :, :2]
        rows[:, 5:] = ((points - offset) / scale).reshape(-1, 10)
    return rows


def suppress(rows: NDArray[np.float32], iou: float, inside: float = 1.0) -> NDArray[np.float32]:
    """Greedy non-maximum suppression of ``decode``'s rows; the rest best first.

    Args:
        rows: (n, 5 or more).
        iou: overlap above which the lower-scored of two is dropped.
        inside: share of the smaller of two that lies in the other, above which the same is done.
    """
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    area = (rows[:, 2] - rows[:, 0]) * (rows[:, 3] - rows[:, 1])
    alive = np.ones(len(rows), bool)
    for i in range(len(rows)):
        if not alive[i]:
            continue
        rest = np.flatnonzero(alive[i + 1 :]) + i + 1
        width = np.minimum(rows[i, 2], rows[rest, 2]) - np.maximum(rows[i, 0], rows[rest, 0])
        height = np.minimum(rows[i, 3], rows[rest, 3]) - np.maximum(rows[i, 1], rows[rest, 1])
        overlap = np.clip(width, 0, None) * np.clip(height, 0, None)
        same = (overlap > iou * (area[i] + area[rest] - overlap)) | (overlap > inside * np.minimum(area[i], area[rest]))
        alive[rest[same]] = False
    return rows[alive]


def _turned_back(rows: NDArray[np.float32], frame: Frame) -> NDArray[np.float32]:
    """Rows in upright pixels to rows in the pixels of the frame as it is coded."""
    if not frame.rotation:
        return rows
    width, height = frame.image.width, frame.image.height
    pairs = [slice(0, 2), slice(2, 4), *(slice(i, i + 2) for i in range(5, rows.shape[1], 2))]
    turned = rows.copy()
    for pair in pairs:
        x, y = rows[:, pair][:, 0], rows[:, pair][:, 1]
        match frame.rotation:
            case 90:
                turned[:, pair] = np.stack([width - y, x], 1)
            case 180:
                turned[:, pair] = np.stack([width - x, height - y], 1)
            case _:
                turned[:, pair] = np.stack([y, height - x], 1)
    low, high = np.minimum(turned[:, :2], turned[:, 2:4]), np.maximum(turned[:, :2], turned[:, 2:4])
    turned[:, :2], turned[:, 2:4] = low, high
    return turned
