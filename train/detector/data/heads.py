"""Heads turned in depth, from portraits: as a camera under the ceiling or to the side sees them.

A head is taken for an ellipsoid that wears the portrait on its front and hair on its back; it is turned and seen from
far away. The result does not resemble the person, but has eyes, nose and mouth where a profile or a bowed
head has them.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from train.detector.boxes import Labels, labels
from train.detector.data.people import Cutout

WIDE, HIGH, DEEP = 0.66, 0.68, 0.78  # half axes: shares of the face box's width, of its height, and of its width
NOSE = 1.18  # how far the nose tip stands out, in distances of the ellipsoid's surface


def turned_head(someone: Cutout, yaw: float, pitch: float, rng: np.random.Generator) -> Cutout:
    """`someone`, the head turned to the side by `yaw` and bowed by `pitch` radians; box and points follow.

    `yaw` above 0 faces the image's right. Points on the side turned away are unknown (0). Heads seen from behind,
    without a face, come back as they are.
    """
    if not len(someone.face):
        return someone
    x0, y0, x1, y1 = (float(v) for v in someone.face.xyxy[0])
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2 - 0.07 * (y1 - y0)])
    axes = np.array([WIDE * (x1 - x0), HIGH * (y1 - y0), DEEP * (x1 - x0)])
    turn = rotation(yaw, pitch)
    rows, columns = someone.alpha.shape
    v, u = np.mgrid[:rows, :columns].astype(np.float64)
    where, on_head = surface(np.stack([u - middle[0], v - middle[1]], -1), axes, turn)
    source = (where[..., :2] + middle).astype(np.float32)
    worn = cv2.remap(someone.rgb, source[..., 0], source[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    covered = cv2.remap(someone.alpha, source[..., 0], source[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    front = np.clip(where[..., 2] / axes[2] / 0.3 + 0.2, 0, 1) * (covered / 255.0)  # hair from the ears back
    head = worn * front[..., None] + hair(someone, rng) * (1 - front[..., None])
    shade = 0.75 + 0.25 * np.clip((where @ turn.T)[..., 2] / axes[2], 0, 1)  # what turns away is darker
    share = cv2.GaussianBlur(on_head.astype(np.float32), (0, 0), 1.2)
    body = someone.alpha * (v > y1 - 0.08 * (y1 - y0))  # of the portrait's own head nothing stays
    rgb = someone.rgb * (1 - share[..., None]) + head * shade[..., None] * share[..., None]
    alpha = np.maximum(body, 255 * share)
    return Cutout(rgb.astype(np.uint8), alpha.astype(np.uint8), face(someone, middle, axes, turn))


def rotation(yaw: float, pitch: float) -> NDArray[np.float64]:
    """(3, 3): x to the right, y down, z toward the camera; turned to the right by `yaw`, then bowed by `pitch`."""
    side = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    bow = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    return bow @ side


def surface(
    pixels: NDArray[np.float64], axes: NDArray[np.float64], turn: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Where on the unturned ellipsoid (..., 3) the `pixels` (..., 2) around its middle lie; whether they hit it."""
    origin, ray = pixels @ turn[:2], turn[2]  # in the head's own frame
    a = (ray**2 / axes**2).sum()
    b = (origin * ray / axes**2).sum(-1)
    c = (origin**2 / axes**2).sum(-1) - 1
    inside = b * b - a * c
    along = (np.sqrt(np.maximum(inside, 0)) - b) / a
    return origin + along[..., None] * ray, inside > 0


def hair(someone: Cutout, rng: np.random.Generator) -> NDArray[np.float64]:
    """(H, W, 3): strands of the colour that stands above the face."""
    x0, y0, x1, y1 = someone.face.xyxy[0].astype(int)
    above = np.s_[max(y0 - (y1 - y0) // 4, 0) : max(y0, 1), max(x0, 0) : max(x1, 1)]
    known = someone.rgb[above][someone.alpha[above] > 200]
    tone = np.median(known, 0) if len(known) > 20 else np.array([50.0, 40.0, 35.0])
    rows, columns = someone.alpha.shape
    strands = cv2.GaussianBlur(rng.normal(0, 45, (rows, columns)).astype(np.float32), (0, 0), 1.0, None, 7.0)
    return np.clip(tone + strands[..., None], 0, 255)


def face(someone: Cutout, middle: NDArray[np.float64], axes: NDArray[np.float64], turn: NDArray[np.float64]) -> Labels:
    """The turned face's Labels: the box around what is to be seen of it, and its points."""
    x0, y0, x1, y1 = (float(v) for v in someone.face.xyxy[0])
    angle = np.linspace(0, 2 * np.pi, 40)
    oval = np.stack([np.cos(angle) * (x1 - x0) / 2, np.sin(angle) * (y1 - y0) / 2], -1)
    spots = np.concatenate([share * oval for share in (1.0, 0.7, 0.4, 0.1)])
    spots += np.array([(x0 + x1) / 2, (y0 + y1) / 2]) - middle
    there = lifted(spots, axes) @ turn.T
    seen = there[there[:, 2] > 0][:, :2] + middle
    points = someone.face.points.copy()
    placed = lifted(points[0, :, :2] - middle, axes)
    placed[2] *= NOSE
    placed = placed @ turn.T
    points[0, :, :2] = placed[:, :2] + middle
    points[0, placed[:, 2] < 0.05 * axes[2]] = 0
    return labels([[*seen.min(0), *seen.max(0)]], points)


def lifted(spots: NDArray[np.floating], axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3): `spots` (n, 2) of the portrait, around the head's middle, laid onto the front of the ellipsoid."""
    left = 1 - ((spots / axes[:2]) ** 2).sum(1)
    return np.concatenate([spots, axes[2] * np.sqrt(np.maximum(left, 0))[:, None]], 1)
