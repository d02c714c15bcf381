"""Where in a large frame the detector looks: a few equal crops at its own resolution, and now and then all of it.

A face that the whole frame shows too small fills a crop well enough, but a frame has dozens of crops.  What has changed
since the network last saw it is due, and so are the places where faces are followed; what was never seen is due after
a cut, and what has long been the same is looked at again every few seconds.  Each detection takes the crops with most
that is due, the longer the better, so that nothing is passed over for ever: trees in the wind, a camera that shakes or
a crowd only make it a sweep.  Motion is found on the luma plane at an eighth of its size (as Frigate does at the size
of its sub-stream).  All coordinates are pixels of the frame as it is coded.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ..imaging import planes

CELL = 32  # pixels: what is due is counted in squares of this side
SHRINK = 8  # times that the luma is smaller when it is compared
MARGIN = 1  # cells at a crop's edge that it does not count as seen: a face may be cut there
CROPS = 3  # a detection
BURST = 12  # a detection, while there is something that was never seen
SHOWN = 20  # pixels of a face's height that are enough for the network: from there on the whole frame shows it
_REFRESH = 10.0  # seconds after which what has not changed is looked at again
_REFRESH_TRACK = 1.0  # the same where a face is followed
_WHOLE = (0.5, 5.0)  # seconds between views of the whole frame: where something moves, and where nothing does
_CHANGED = 6  # grey levels, at least, and three times what the whole frame changes by
_GLOBAL = 9  # grey levels that half of the frame changes by when the camera moves or the light is switched
_TRACK = 25  # cells' worth that each corner of a followed face is due
_CUT = 2  # pixels from a crop's edge to a face that it cuts
_LEAST = 0.15  # of urgency that is worth a crop: one cell that changed so many seconds ago

Box = tuple[int, int, int, int]  # x0, y0, x1, y1


@dataclass(frozen=True, slots=True)
class Expected:
    """Where the tracker expects faces."""

    xyxy: NDArray[np.float32]  # (n, 4)
    urgent: NDArray[np.bool_]  # (n,) new, or just missed: a look decides


@dataclass(frozen=True, slots=True)
class Plan:
    """What one detection looks at."""

    crops: tuple[Box, ...]  # all of one size
    whole: bool  # the whole frame too, as one more image of that size
    size: tuple[int, int]  # width and height of the frame
    crop: tuple[int, int]  # width and height of a crop

    @property
    def large(self) -> float:
        """Pixels of height from which a face is looked for in the whole frame."""
        return large_face(self.size, self.crop)

    def seen(self, xyxy: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of the boxes (n, 4) it looks at as a whole: only there can a face be missed."""
        large = xyxy[:, 3] - xyxy[:, 1] >= self.large
        return np.asarray(self._in_crops(xyxy) | (self.whole & large))

    def merged(self, rows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Detections of the crops and the whole frame, in this order, as one array.

        Args:
            rows: of each, (n, 5 or more): box, score and so on.  What a crop's edge cuts is dropped, and so is what the
                whole frame shows of a small face that a crop shows better.
        """
        kept = [_uncut(part, box, self.size) for part, box in zip(rows, self.crops, strict=False)]
        for part in rows[len(self.crops) :]:
            small = part[:, 3] - part[:, 1] < self.large
            kept.append(part[~(small & self._in_crops(part[:, :4]))])
        return np.concatenate(kept)

    def _in_crops(self, xyxy: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of the boxes (n, 4), with a quarter of their size around them, lie in a crop or outside the frame."""
        room = (xyxy[:, 2:] - xyxy[:, :2]) / 4
        limits = np.array([*self.size, *self.size], np.float32)
        boxes = np.clip(np.concatenate([xyxy[:, :2] - room, xyxy[:, 2:] + room], 1), 0, limits)
        outside = (boxes[:, 2:] - boxes[:, :2] <= 1).any(1)
        result = outside
        for x0, y0, x1, y1 in self.crops:
            result |= (boxes[:, :2] >= (x0, y0)).all(1) & (boxes[:, 2:] <= (x1, y1)).all(1)
        return np.asarray(result, np.bool_)


class Regions:
    """Plans the detections of one stream of large frames.

    Args:
        size: width and height of the frames, both at least the crop's.
        crop: width and height of a crop.
    """

    def __init__(self, size: tuple[int, int], crop: tuple[int, int]) -> None:
        self.size, self.crop = size, crop
        self._large = large_face(size, crop)
        self._xs, self._ys = (_starts(length, room) for length, room in zip(size, crop, strict=True))
        cells = -(-size[1] // CELL), -(-size[0] // CELL)  # rows, columns
        self._looked_at = np.full(cells, -np.inf)  # seconds
        self._shown: NDArray[np.uint8] | None = None  # small luma, of each cell as it was when last looked at
        self._whole_at = -np.inf

    def plan(self, image: av.VideoFrame, seconds: float, expected: Expected) -> Plan:
        """What to look at in ``image``, of the time ``seconds``; it is taken as looked at."""
        now = small_luma(image)
        if self._shown is None:
            self._shown = now.copy()
        changed = changed_cells(now, self._shown, self._looked_at.shape)
        age = np.minimum(seconds - self._looked_at, 2 * _REFRESH)
        never = np.isinf(self._looked_at)
        due = np.where(never, 1.0, changed * np.minimum(age, 1.0) + 0.02 * (age > _REFRESH))
        small = self._add_tracks(due, expected, age, changed)
        whole = self._whole_due(seconds, bool(changed.any()), bool((~small).any()))
        room = (BURST if never.any() else CROPS) - whole
        crops: list[Box] = []
        while len(crops) < room:
            box = self._best(due)
            if box is None:
                break
            crops.append(box)
            self._look(box, due, now, seconds)
        if whole:
            self._whole_at = seconds
        return Plan(tuple(crops), whole, self.size, self.crop)

    def _add_tracks(
        self, due: NDArray[np.float64], expected: Expected, age: NDArray[np.float64], changed: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Make due what is followed, in place; which of the faces (n,) are small enough for a crop."""
        small = expected.xyxy[:, 3] - expected.xyxy[:, 1] < self._large
        for box, urgent, fits in zip(expected.xyxy, expected.urgent, small, strict=True):
            x0, y0, x1, y1 = np.clip((box / CELL).astype(int), 0, np.array(due.shape[::-1] * 2) - 1)
            if not fits:
                due[y0 : y1 + 1, x0 : x1 + 1] = 0
                continue
            waited = age[y0 : y1 + 1, x0 : x1 + 1].max()
            moved = changed[max(0, y0 - 1) : y1 + 2, max(0, x0 - 1) : x1 + 2].any()
            if urgent or moved or waited > _REFRESH_TRACK:
                due[y0 : y1 + 1 : max(1, y1 - y0), x0 : x1 + 1 : max(1, x1 - x0)] += _TRACK * min(waited + urgent, 1.0)
        return np.asarray(small, np.bool_)

    def _whole_due(self, seconds: float, changed: bool, large: bool) -> bool:
        return large or seconds - self._whole_at >= _WHOLE[not changed]

    def _best(self, due: NDArray[np.float64]) -> Box | None:
        """The crop with most that is due in it, rather in its middle; None where it is not worth it."""
        sums = np.zeros((due.shape[0] + 1, due.shape[1] + 1))
        sums[1:, 1:] = due.cumsum(0).cumsum(1)
        score = self._inside(sums, MARGIN) + 0.1 * self._inside(sums, 2 * MARGIN + 1)
        row, column = np.unravel_index(score.argmax(), score.shape)
        if score[row, column] < _LEAST:
            return None
        x, y = int(self._xs[column]), int(self._ys[row])
        return x, y, x + self.crop[0], y + self.crop[1]

    def _inside(self, sums: NDArray[np.float64], margin: int) -> NDArray[np.float64]:
        """What is due in each crop without ``margin`` cells at its edges, (ys, xs)."""
        (x0, x1), (y0, y1) = (
            _seen_cells(starts, room, length, margin)
            for starts, room, length in zip((self._xs, self._ys), self.crop, self.size, strict=True)
        )
        total: NDArray[np.float64] = (
            sums[np.ix_(y1, x1)] - sums[np.ix_(y0, x1)] - sums[np.ix_(y1, x0)] + sums[np.ix_(y0, x0)]
        )
        return total

    def _look(self, box: Box, due: NDArray[np.float64], now: NDArray[np.uint8], seconds: float) -> None:
        assert self._shown is not None
        (x0, x1), (y0, y1) = (
            (int(cells[0][0]), int(cells[1][0]))
            for cells in (_seen_cells(np.array([box[i]]), self.crop[i], self.size[i], MARGIN) for i in (0, 1))
        )
        due[y0:y1, x0:x1] = 0
        self._looked_at[y0:y1, x0:x1] = seconds
        step = CELL // SHRINK
        part = np.s_[y0 * step : y1 * step, x0 * step : x1 * step]
        self._shown[part] = now[part]


def large_face(size: tuple[int, int], crop: tuple[int, int]) -> float:
    """Pixels of height from which a face is looked for in the whole frame: it is shown well there, or fits no crop."""
    return min(SHOWN * max(size) / max(crop), min(crop) / 2)


def _uncut(rows: NDArray[np.float32], box: Box, size: tuple[int, int]) -> NDArray[np.float32]:
    """``rows`` that do not touch an edge of ``box`` inside the frame."""
    x0, y0, x1, y1 = box
    cut = (rows[:, 0] < x0 + _CUT) & (x0 > 0) | (rows[:, 2] > x1 - _CUT) & (x1 < size[0] - 4)
    cut |= (rows[:, 1] < y0 + _CUT) & (y0 > 0) | (rows[:, 3] > y1 - _CUT) & (y1 < size[1] - 4)
    return rows[~cut]


def small_luma(image: av.VideoFrame) -> NDArray[np.uint8]:
    """The luma of ``image`` (green, of RGB) at 1/``SHRINK`` of its size, (H / 8, W / 8) uint8."""
    layout = planes.LAYOUTS[image.format.name]
    luma = planes.samples(image, 0)
    if layout.kind == "rgb":
        luma = luma[:, layout.order[1] :: layout.channels]
    size = (-(-image.width // SHRINK), -(-image.height // SHRINK))
    small = np.asarray(cv2.resize(np.ascontiguousarray(luma[::2]), size, interpolation=cv2.INTER_AREA), luma.dtype)
    return (small >> (layout.bits - 8 + layout.shift)).astype(np.uint8)


def changed_cells(now: NDArray[np.uint8], before: NDArray[np.uint8], cells: tuple[int, int]) -> NDArray[np.bool_]:
    """Which cells (rows, columns) differ between two small lumas; all of them where the camera has moved."""
    difference = cv2.absdiff(now, before)
    level = float(np.median(difference[::2, ::2]))
    if level > _GLOBAL:
        return np.ones(cells, np.bool_)
    step = CELL // SHRINK
    mask = np.zeros((cells[0] * step, cells[1] * step), np.uint8)
    mask[: now.shape[0], : now.shape[1]] = difference > max(_CHANGED, 3 * level)
    return np.asarray(mask.reshape(cells[0], step, cells[1], step).sum((1, 3)) > 1, np.bool_)


def _starts(length: int, room: int) -> NDArray[np.int64]:
    """Where crops of ``room`` pixels may begin along ``length``: at each cell, and flush with the end."""
    last = (length - room) // 4 * 4  # whole chroma samples, of 4:1:1 too
    return np.unique(np.minimum(np.arange(0, length - room + CELL, CELL), last))


def _seen_cells(
    starts: NDArray[np.int64], room: int, length: int, margin: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First cell, and the one after the last, that crops see well: ``margin`` cells off, except at the frame's edge."""
    first = np.where(starts <= 0, 0, -(-starts // CELL) + margin)
    last = np.where(starts + room > length - 4, -(-length // CELL), (starts + room) // CELL - margin)
    return first, np.maximum(first, last)
