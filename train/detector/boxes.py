"""Face labels as arrays, for the detector's training and evaluation: reading, matching, moving. NumPy only.

Boxes are xyxy in pixels, points are (n, 5, 3): x, y in pixels and 1 where the point is known, in the order eye left,
eye right, nose, mouth left, mouth right (left and right of the image).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_enhance.errors import InputError

MIRRORED = [1, 0, 2, 4, 3]  # the order of the five points after a left-right flip


@dataclass(frozen=True)
class Labels:
    """The faces of one image; `ignore` marks those that count neither as right nor as wrong."""

    xyxy: NDArray[np.float32]  # (n, 4) pixels
    points: NDArray[np.float32]  # (n, 5, 3) pixels, pixels, 0 or 1
    ignore: NDArray[np.bool_]  # (n,)

    def __len__(self) -> int:
        return len(self.xyxy)

    def take(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> "Labels":
        """The labels at `which`: a mask or indices."""
        return Labels(self.xyxy[which], self.points[which], self.ignore[which])


def labels(xyxy: object = (), points: object = None, ignore: object = None) -> Labels:
    """Labels from anything array-like; without `points` none is known, without `ignore` every face counts."""
    boxes = np.asarray(xyxy, np.float32).reshape(-1, 4)
    n = len(boxes)
    known = np.zeros((n, 5, 3), np.float32) if points is None else np.asarray(points, np.float32).reshape(n, 5, 3)
    dropped = np.zeros(n, bool) if ignore is None else np.asarray(ignore, bool).reshape(n)
    return Labels(boxes, known, dropped)


def join(parts: list[Labels]) -> Labels:
    """One Labels of many."""
    if not parts:
        return labels()
    return Labels(
        np.concatenate([p.xyxy for p in parts]),
        np.concatenate([p.points for p in parts]),
        np.concatenate([p.ignore for p in parts]),
    )


def moved(faces: Labels, affine: NDArray[np.floating], oval: bool = False) -> Labels:
    """`faces` after the image went through the (2, 3) affine; a turned box is the upright box around it, or around
    the `oval` in it, which is closer to a face."""
    a = np.asarray(affine, np.float32)
    x0, y0, x1, y1 = faces.xyxy.T
    corners = np.stack([np.stack([x0, y0], -1), np.stack([x1, y0], -1), np.stack([x0, y1], -1), np.stack([x1, y1], -1)])
    corners = corners @ a[:, :2].T + a[:, 2]  # (4, n, 2)
    points = faces.points.copy()
    points[..., :2] = points[..., :2] @ a[:, :2].T + a[:, 2]
    if oval:
        middle = corners.mean(0)
        half = np.sqrt((np.stack([x1 - x0, y1 - y0], 1) / 2) ** 2 @ (a[:, :2] ** 2).T)
        return Labels(np.concatenate([middle - half, middle + half], 1), points, faces.ignore)
    return Labels(np.concatenate([corners.min(0), corners.max(0)], 1), points, faces.ignore)


def flipped(faces: Labels, width: int) -> Labels:
    """`faces` of the image's mirror image."""
    xyxy = faces.xyxy[:, [2, 1, 0, 3]].copy()
    xyxy[:, [0, 2]] = width - xyxy[:, [0, 2]]
    points = faces.points[:, MIRRORED].copy()
    points[..., 0] = width - points[..., 0]
    return Labels(xyxy, points, faces.ignore)


def inside(faces: Labels, width: int, height: int, share: float = 0.5) -> Labels:
    """Boxes clipped to the image; a face with less than `share` of its box inside is dropped."""
    if not len(faces):
        return faces
    clipped = faces.xyxy.copy()
    clipped[:, [0, 2]] = clipped[:, [0, 2]].clip(0, width)
    clipped[:, [1, 3]] = clipped[:, [1, 3]].clip(0, height)
    keep = area(clipped) > share * np.maximum(area(faces.xyxy), 1e-6)
    points = faces.points.copy()
    out = (points[..., 0] < 0) | (points[..., 1] < 0) | (points[..., 0] >= width) | (points[..., 1] >= height)
    points[out] = 0
    return Labels(clipped[keep], points[keep], faces.ignore[keep])


def area(xyxy: NDArray[np.floating]) -> NDArray[np.floating]:
    """(n,) pixels."""
    return np.clip(xyxy[:, 2] - xyxy[:, 0], 0, None) * np.clip(xyxy[:, 3] - xyxy[:, 1], 0, None)


def iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float32]:
    """(n, m) intersection over union of xyxy boxes (n, 4) and (m, 4)."""
    both = overlap(a, b)
    total = area(a)[:, None] + area(b)[None] - both
    return (both / np.maximum(total, 1e-9)).astype(np.float32)


def overlap(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """(n, m) pixels that boxes (n, 4) and (m, 4) share."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.clip(high - low, 0, None).prod(-1)


def suppress(xyxy: NDArray[np.floating], score: NDArray[np.floating], limit: float = 0.5) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: the kept boxes' indices, best first."""
    order = np.argsort(-score, kind="stable")
    overlaps = iou(xyxy[order], xyxy[order])
    alive = np.ones(len(order), bool)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= overlaps[i, i + 1 :] <= limit
    return order[alive]


def letterbox(width: int, height: int, side: int) -> NDArray[np.float32]:
    """(2, 3) affine that fits a width x height image, centred, into side x side."""
    scale = side / max(width, height)
    dx, dy = (side - width * scale) / 2, (side - height * scale) / 2
    return np.array([[scale, 0, round(dx)], [0, scale, round(dy)]], np.float32)


def read_yolo(path: str | Path, width: int, height: int) -> Labels:
    """The YOLO label file at `path` (class cx cy w h, shares of the image) as Labels without points.

    An empty file means no faces. Raises InputError for a missing file, a malformed line, or a box outside the image.
    """
    try:
        lines = [line.split() for line in Path(path).read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        raise InputError(f"{path}: no label file; an empty one says that there are no faces") from None
    boxes = []
    for number, words in enumerate(lines, 1):
        try:
            _, cx, cy, w, h = map(float, words[:5])
        except ValueError:
            raise InputError(f"{path}:{number}: not a label; want: class cx cy w h") from None
        corners = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
        if not (corners.min() >= -0.01 and corners.max() <= 1.01 and w > 0 and h > 0):
            raise InputError(f"{path}:{number}: a box outside its image; values are shares of it, 0 to 1")
        boxes.append(corners.clip(0, 1) * [width, height, width, height])
    return labels(boxes)


def read_list(path: str | Path) -> list[Path]:
    """The images that a list file names, one a line, relative to the list.

    Raises InputError where the list is missing or empty.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such list of images")
    images = [path.parent / line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not images:
        raise InputError(f"{path}: names no training images")
    return images
