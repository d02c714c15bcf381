"""Whether a face may be enhanced, and how far: pure functions of what the detector, the tracker and the patch say.

An enhancer draws a face into whatever it is given.  So what is not surely a face, is turned away, lies mostly outside
the frame or holds nothing to go by is left as it is.  The thresholds are calibrated on faces labelled by hand; see
docs/reports/enhancer.md.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..imaging import crop
from ..types import Faces

_SCORE_RAMP = 0.12  # of score, from not at all to full strength: a step would flicker
_YAW_RAMP = 0.13  # of yaw, likewise
_DARK, _FLAT = 60.0, 6.0  # grey levels: mean and standard deviation below which nothing of a face can be seen

# The one table of how far a result is mixed in.  Face height in frame pixels; strength there; sharpness (see
# ``sharpness_of``) up to which it is that, and from which it is nothing: a sharp input has more to lose than to gain.
# Straight between, and beyond its ends as at its ends.  Measured for the network that ships, docs/reports/enhancer.md.
STRENGTH = (
    (24.0, 0.7, 80.0, 160.0),
    (40.0, 0.7, 60.0, 120.0),
    (64.0, 0.7, 30.0, 60.0),
    (96.0, 0.6, 12.0, 22.0),
    (128.0, 0.4, 7.0, 13.0),
)

# Face heights in frame pixels: up to the first the mouth is shown as the camera saw it, from the second like the rest.
# So few pixels do not say how a mouth is drawn, and what a network draws there is a smile.
MOUTH = (32.0, 48.0)


def strength_of(height: float, sharpness: float) -> float:
    """0..1 for a face so many frame pixels high and so sharp; see ``STRENGTH``."""
    heights, *columns = zip(*STRENGTH, strict=True)
    strength, whole, none = (float(np.interp(height, heights, column)) for column in columns)
    return strength * float(np.clip((none - sharpness) / (none - whole), 0, 1))


def sharpness_of(patch: NDArray[np.uint8], scale: float) -> float:
    """Standard deviation of the Laplacian of the face's luma, at the resolution that the camera gave, grey levels.

    Args:
        patch: (S, S, 3) uint8 RGB.
        scale: frame pixels a patch pixel.
    """
    side = min(len(patch), max(8, round(len(patch) * scale)))
    grey = cv2.cvtColor(cv2.resize(patch, (side, side), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    face = grey[side // 6 : side - side // 12, side // 6 : side - side // 6]
    return float(cv2.meanStdDev(cv2.Laplacian(face, cv2.CV_32F))[1][0, 0])


def with_mouth_as_seen(mixed: NDArray[np.uint8], original: NDArray[np.uint8], height: float) -> NDArray[np.uint8]:
    """``mixed`` with the mouth of ``original`` where the face is small; see ``MOUTH``.

    Args:
        mixed: (S, S, 3) uint8 aligned patch, as it is to be shown.
        original: the same patch as the camera saw it.
        height: of the face, frame pixels.
    """
    least, whole = MOUTH
    if height >= whole:
        return mixed
    kept = _mouth(len(mixed)) * np.float32(min(1.0, (whole - height) / (whole - least)))
    return np.asarray(cv2.blendLinear(original, mixed, kept, 1 - kept), np.uint8)


@lru_cache(maxsize=4)
def _mouth(size: int) -> NDArray[np.float32]:
    """(size, size) float32: 1 on the mouth of an aligned face, falling to 0 around it."""
    y, x = np.mgrid[:size, :size] / size
    across, down = (x - 0.5) / 0.195, (y - float(crop.TEMPLATE[3, 1])) / 0.117
    mask: NDArray[np.float32] = np.exp(-((across**2 + down**2) ** 2)).astype(np.float32)
    return mask


def yaw_of(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far faces are turned to a side.

    Args:
        points: (n, 5, 2) float32 face points in ``crop.TEMPLATE``'s order, pixels.

    Returns:
        (n,) float32: the nose tip's distance from the line through the middles of eyes and mouth, in eye distances of a
        frontal face of this size; 0 frontal, about 0.5 in profile.
    """
    unit = crop.patch_to_frame(np.zeros((len(points), 4), np.float32), points, 1)  # a patch of side 1
    side = np.hypot(unit[:, 0, 0], unit[:, 1, 0])  # pixels
    eyes, mouth = points[:, :2].mean(1), points[:, 3:].mean(1)
    down = mouth - eyes
    nose = points[:, 2] - eyes
    across = np.abs(nose[:, 0] * down[:, 1] - nose[:, 1] * down[:, 0]) / np.maximum(np.hypot(*down.T), 1e-3)
    eye_distance = float(crop.TEMPLATE[1, 0] - crop.TEMPLATE[0, 0])
    return np.asarray(across / np.maximum(side * eye_distance, 1e-3), np.float32)


def trust_of(faces: Faces, min_score: float, min_evidence: float) -> NDArray[np.float32]:
    """(n,) float32, 0..1: how far a face's detections, the present one and its track's best, say that it is a face."""
    trust = np.clip((faces.score - min_score) / _SCORE_RAMP, 0, 1)
    if faces.evidence is not None:
        trust = trust * (faces.evidence >= min_evidence)
    if faces.coasting is not None:
        trust = trust * ~faces.coasting
    return np.asarray(trust, np.float32)


def front_of(faces: Faces, max_yaw: float) -> NDArray[np.float32]:
    """(n,) float32, 0..1: how far a face is seen from the front; 1 where it has no points."""
    if faces.points is None:
        return np.ones(len(faces), np.float32)
    return np.asarray(np.clip((max_yaw - yaw_of(faces.points)) / _YAW_RAMP, 0, 1), np.float32)


def visible(xyxy: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """(n,) float32, 0..1: the part of each box that lies within a frame of so many pixels."""
    inside = np.clip(xyxy, 0, np.array([width, height, width, height], np.float32))
    area = (xyxy[:, 2:] - xyxy[:, :2]).prod(1)
    return np.asarray((inside[:, 2:] - inside[:, :2]).prod(1) / np.maximum(area, 1e-3), np.float32)


def is_dark_and_flat(patch: NDArray[np.uint8]) -> bool:
    """Whether nothing of a face can be seen in a (S, S, 3) uint8 RGB patch: dark cloth, a shadow."""
    grey = cv2.cvtColor(cv2.resize(patch, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(grey)
    return float(mean[0, 0]) < _DARK and float(deviation[0, 0]) < _FLAT


def outside(to_frame: NDArray[np.float32], size: int, width: int, height: int) -> NDArray[np.bool_] | None:
    """(size, size) mask of the patch's pixels that no pixel of the frame lies under; None where all are inside."""
    x0, y0, x1, y1 = crop.bounds(to_frame, size)
    if x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height:
        return None
    axis = np.arange(size, dtype=np.float32)
    x = to_frame[0, 0] * axis + to_frame[0, 1] * axis[:, None] + to_frame[0, 2]
    y = to_frame[1, 0] * axis + to_frame[1, 1] * axis[:, None] + to_frame[1, 2]
    beyond: NDArray[np.bool_] = (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5)
    return beyond
