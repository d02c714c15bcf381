"""Faces covered so that nothing of them can be recovered, for stills and clips that leave the house.

A cover is one flat colour, the box's own mean: mosaics and blurs of a moving face can be undone by what several frames
say together (Hill, Zhou, Saul and Shacham, On the (In)effectiveness of Mosaicing and Blurring as Tools for Document
Redaction, PETS 2016).  It reaches beyond the box on every side and beyond the track in time, as a detector finds a face
later than an eye does, and takes in every detection of even a very low score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from ...imaging import planes

Box = tuple[float, float, float, float]  # x1, y1, x2, y2, frame pixels

_MARGIN = 0.35  # of the box's size, beyond it on every side
_GROWTH = 1.0  # of the box's size a second, more, beyond the track's first and last frame
_HOLD = 1.0  # seconds that a cover stays beyond its track, before and after
_DETECTED_HOLD = 0.4  # and beyond a lone detection
_SAME = 0.3  # overlap from which a detection is the face of a track that is not covered


@dataclass(frozen=True, slots=True)
class Path:
    """Where one track is."""

    frames: Sequence[int]  # rising
    boxes: NDArray[np.float32]  # (n, 4) x1, y1, x2, y2

    def at(self, frame: int, rate: float) -> Box | None:
        """The box to cover on ``frame``: between its own the way straight from one to the next, then held."""
        first, last = self.frames[0], self.frames[-1]
        beyond = max(first - frame, frame - last, 0) / rate
        if beyond > _HOLD:
            return None
        box = [float(np.interp(frame, self.frames, self.boxes[:, i])) for i in range(4)]
        return grown((box[0], box[1], box[2], box[3]), _MARGIN + _GROWTH * beyond)


def grown(box: Box, share: float) -> Box:
    """``box`` with ``share`` of its size more on every side."""
    x1, y1, x2, y2 = box
    dx, dy = share * (x2 - x1), share * (y2 - y1)
    return x1 - dx, y1 - dy, x2 + dx, y2 + dy


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def covers(
    count: int, rate: float, paths: Mapping[int, Path], kept: Set[int], detections: Sequence[Sequence[Box]]
) -> list[list[Box]]:
    """What to cover on each of ``count`` frames.

    Args:
        rate: frames a second.
        paths: of every track, by its number.
        kept: tracks that stay visible; a face that they cross is covered with them underneath.
        detections: on each frame, every box that may be a face.
    """
    found: list[list[Box]] = [[] for _ in range(count)]
    for number, path in paths.items():
        if number in kept:
            continue
        hold = int(np.ceil(_HOLD * rate))
        for frame in range(max(0, path.frames[0] - hold), min(count, path.frames[-1] + hold + 1)):
            if (box := path.at(frame, rate)) is not None:
                found[frame].append(box)
    hold = int(np.ceil(_DETECTED_HOLD * rate))
    for frame, boxes in enumerate(detections):
        for box in boxes:
            if any(_is_kept(box, paths[number], frame) for number in kept if number in paths):
                continue
            for near in range(max(0, frame - hold), min(count, frame + hold + 1)):
                found[near].append(grown(box, _MARGIN))
    return found


def _is_kept(box: Box, path: Path, frame: int) -> bool:
    """Whether a detection is the face of a track that stays visible."""
    if not path.frames[0] <= frame <= path.frames[-1]:
        return False
    own = [float(np.interp(frame, path.frames, path.boxes[:, i])) for i in range(4)]
    return overlap(box, (own[0], own[1], own[2], own[3])) > _SAME


def cover(image: av.VideoFrame, boxes: Iterable[Box]) -> None:
    """Fill ``boxes`` of a writable frame, each with the mean colour of what lies under it."""
    for x1, y1, x2, y2 in boxes:
        region = planes.align(image, int(np.floor(x1)), int(np.floor(y1)), int(np.ceil(x2)), int(np.ceil(y2)))
        if region is None:
            continue
        x0, y0, right, low = region
        mean = planes.read(image, *region).reshape(-1, 3).mean(0)
        flat = np.empty((low - y0, right - x0, 3), np.uint8)
        flat[:] = np.rint(mean).astype(np.uint8)
        planes.write(image, x0, y0, flat)
