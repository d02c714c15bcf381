"""People for made scenes: a portrait becomes a cut-out with head and shoulders, and a cut-out becomes a person.

Every maker is a pure function of (inputs, rng). Images are (H, W, 3) uint8 RGB, alphas (H, W) uint8.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from train.common.images import Image
from train.detector.boxes import MIRRORED, Labels, labels

FACE = 128  # height of the face box in a cut-out, pixels


@dataclass(frozen=True)
class Cutout:
    """Somebody without background: colour, how opaque, and the one face (none for a head seen from behind)."""

    rgb: Image
    alpha: NDArray[np.uint8]  # (H, W)
    face: Labels


def cut_out(image: Image, xywh: NDArray[np.floating], points: NDArray[np.floating]) -> Cutout:
    """Head and shoulders of a portrait by GrabCut (Rother et al., 2004), started from where a head and a body are.

    `xywh` is the face box and `points` (5, 2) its points, in pixels of `image`.
    """
    scale = FACE / float(xywh[3])
    height, width = image.shape[:2]
    side = (round(width * scale), round(height * scale))
    small = cv2.resize(image, side, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    x, y, w, h = np.asarray(xywh, np.float64) * scale
    cx, cy, chin = x + w / 2, y + h / 2, y + h
    rows, columns = small.shape[:2]
    mask = np.full((rows, columns), cv2.GC_PR_BGD, np.uint8)
    shoulders = np.array([[cx - 1.3 * w, rows], [cx - 0.5 * w, chin], [cx + 0.5 * w, chin], [cx + 1.3 * w, rows]])
    cv2.fillPoly(mask, [shoulders.astype(np.int32)], cv2.GC_PR_FGD)
    cv2.ellipse(mask, (int(cx), int(cy - 0.1 * h)), (int(0.75 * w), int(0.75 * h)), 0, 0, 360, cv2.GC_PR_FGD, -1)
    top = max(int(y - 0.1 * h), 1)
    mask[:top, : max(int(cx - 0.9 * w), 1)] = mask[:top, int(cx + 0.9 * w) :] = cv2.GC_BGD
    mask[:2], mask[: int(chin), :2], mask[: int(chin), -2:] = cv2.GC_BGD, cv2.GC_BGD, cv2.GC_BGD
    cv2.ellipse(mask, (int(cx), int(cy)), (int(0.48 * w), int(0.5 * h)), 0, 0, 360, cv2.GC_FGD, -1)
    trunk = np.array([[cx - 0.5 * w, rows], [cx - 0.25 * w, chin], [cx + 0.25 * w, chin], [cx + 0.5 * w, rows]])
    cv2.fillPoly(mask, [trunk.astype(np.int32)], cv2.GC_FGD)
    cv2.setRNGSeed(0)
    models = np.zeros((2, 1, 65))
    cv2.grabCut(small, mask, (0, 0, 0, 0), models[0], models[1], 2, cv2.GC_INIT_WITH_MASK)
    alpha = np.where((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD), 255, 0).astype(np.uint8)
    alpha = cv2.GaussianBlur(cv2.erode(alpha, np.ones((3, 3), np.uint8)), (0, 0), 1.2).astype(np.uint8)
    known = np.concatenate([np.asarray(points, np.float32) * scale, np.ones((5, 1), np.float32)], 1)
    return Cutout(small, alpha, labels([[x, y, x + w, y + h]], known[None]))


def with_body(someone: Cutout, rng: np.random.Generator) -> Cutout:
    """`someone` standing: the image's lowest rows become clothes down to the knees."""
    columns = someone.alpha.shape[1]
    length = int(FACE * rng.uniform(0.5, 4.0))
    last = someone.rgb[-10:].astype(np.float32).mean(0)  # (W, 3)
    opaque = np.flatnonzero(someone.alpha[-3] > 128)
    left, right = (opaque[0], opaque[-1]) if len(opaque) > 20 else (columns // 4, 3 * columns // 4)
    cloth = np.median(last[left : right + 1], 0) if rng.random() < 0.5 else rng.uniform(10, 220, 3)
    shade = 1 - 0.35 * np.abs(np.linspace(-1, 1, columns))[None, :, None] ** 2
    folds = cv2.resize(rng.normal(0, 14, (6, 8)).astype(np.float32), (columns, length), interpolation=cv2.INTER_CUBIC)
    rgb = np.clip(cloth[None, None] * shade + folds[..., None], 0, 255)
    if rng.random() < 0.3:
        stripes = np.arange(length) // int(rng.integers(6, 24)) % 2 == 0
        rgb[stripes] = np.clip(rgb[stripes] * rng.uniform(0.4, 1.6), 0, 255)
    body = np.zeros((length, columns), np.uint8)
    taper = rng.uniform(0, 0.15) * columns
    outline = np.array([[left, 0], [right, 0], [right - taper, length], [left + taper, length]], np.int32)
    cv2.fillPoly(body, [outline], 255)
    return replace(
        someone,
        rgb=np.concatenate([someone.rgb, rgb.astype(np.uint8)]),
        alpha=np.concatenate([someone.alpha, cv2.GaussianBlur(body, (0, 0), 1.2)]),
    )


def from_behind(someone: Cutout, rng: np.random.Generator, covered: float = 0.0) -> Cutout:
    """The back of somebody's head: hair where the face was, or, in the share `covered`, a hood, a cap or bald skin,
    and no face. A hard negative."""
    x0, y0, x1, y1 = someone.face.xyxy[0]
    rgb = someone.rgb.astype(np.float32)
    rows, columns = someone.alpha.shape
    hair = np.array(
        [[25, 20, 18], [60, 42, 30], [120, 90, 60], [170, 165, 160], [90, 60, 45], [12, 12, 14]], np.float32
    )
    tone = hair[rng.integers(len(hair))] * rng.uniform(0.7, 1.4)
    rough = 60.0
    if covered and rng.random() < covered:
        rough = float(rng.uniform(3, 25))
        skin = np.median(rgb[int(y0 + 0.3 * (y1 - y0)) : int(y1), int(x0) : int(x1)].reshape(-1, 3), 0)
        tone = skin * rng.uniform(0.7, 1.05) if rng.random() < 0.4 else rng.uniform(10, 235, 3)
        tone = np.asarray(tone, np.float32)
    strands = cv2.GaussianBlur(rng.normal(0, rough, (rows, columns)).astype(np.float32), (0, 0), 1.0, None, 9.0)
    sheen = np.linspace(1.4, 0.7, rows)[:, None, None]
    mask = np.zeros((rows, columns), np.float32)
    w, h = x1 - x0, y1 - y0
    middle = (int((x0 + x1) / 2), int((y0 + y1) / 2 - 0.06 * h))
    cv2.ellipse(mask, middle, (int(0.68 * w), int(rng.uniform(0.62, 0.75) * h)), 0, 0, 360, 1.0, -1)
    cover = cv2.GaussianBlur(mask, (0, 0), 3)[..., None].astype(np.float32)
    rgb = rgb * (1 - cover) + np.clip(tone * sheen + strands[..., None], 0, 255) * cover
    alpha = np.maximum(someone.alpha, (cover[..., 0] * 255).astype(np.uint8))
    return Cutout(rgb.astype(np.uint8), alpha, labels())


def dressed(someone: Cutout, rng: np.random.Generator) -> Cutout:
    """`someone` with, now and then, a mask, sunglasses, a cap or a hood."""
    left, right, nose, mouth_left, mouth_right = someone.face.points[0, :, :2]
    x0, y0, x1, y1 = someone.face.xyxy[0]
    rgb, alpha = someone.rgb.copy(), someone.alpha.copy()
    tone = tuple(float(v) for v in rng.uniform(0, 255, 3))
    kind = rng.choice(["none", "mask", "glasses", "cap", "hood"], p=[0.66, 0.13, 0.05, 0.11, 0.05])
    if kind == "mask":
        pale = [(225, 230, 235), (150, 190, 215), (30, 30, 32), tone]
        bridge = (left + right) / 2 * 0.45 + nose * 0.55
        low = np.array([(mouth_left[0] + mouth_right[0]) / 2, y1 + 0.02 * (y1 - y0)])
        shape = [[x0, bridge[1]], bridge, [x1, bridge[1]], [x1 - 3, mouth_right[1]], low, [x0 + 3, mouth_left[1]]]
        cv2.fillPoly(rgb, [np.array(shape, np.int32)], pale[rng.integers(4)], cv2.LINE_AA)
        rgb = cv2.GaussianBlur(rgb, (0, 0), 0.7).astype(np.uint8)
    elif kind == "glasses":
        for eye in (left, right):
            size = (int(0.2 * (x1 - x0)), int(0.1 * (y1 - y0)))
            cv2.ellipse(rgb, (int(eye[0]), int(eye[1] + 3)), size, 0, 0, 360, (18, 18, 22), -1, cv2.LINE_AA)
        cv2.line(rgb, left.astype(int).tolist(), right.astype(int).tolist(), (18, 18, 22), 4)
    elif kind == "cap":
        brow = int(min(left[1], right[1]) - 0.14 * (y1 - y0))
        middle, half = (int((x0 + x1) / 2), brow), int(0.66 * (x1 - x0))
        for canvas, colour in ((rgb, tone), (alpha, 255.0)):
            cv2.ellipse(canvas, middle, (half, int(0.42 * (y1 - y0))), 0, 180, 360, colour, -1, cv2.LINE_AA)
            cv2.ellipse(canvas, middle, (half, int(0.09 * (y1 - y0))), 0, 0, 360, colour, -1, cv2.LINE_AA)
    elif kind == "hood":
        middle = (int((x0 + x1) / 2), int((y0 + y1) / 2))
        axes = (int(0.72 * (x1 - x0)), int(0.68 * (y1 - y0)))
        for canvas, colour in ((rgb, tone), (alpha, 255.0)):
            cv2.ellipse(canvas, middle, axes, 0, 0, 360, colour, int(0.3 * (x1 - x0)), cv2.LINE_AA)
    return replace(someone, rgb=rgb.astype(np.uint8), alpha=alpha.astype(np.uint8))


def mirrored(someone: Cutout) -> Cutout:
    """The mirror image."""
    width = someone.alpha.shape[1]
    xyxy = someone.face.xyxy[:, [2, 1, 0, 3]].copy()
    xyxy[:, [0, 2]] = width - xyxy[:, [0, 2]]
    points = someone.face.points[:, MIRRORED].copy()
    points[..., 0] = width - points[..., 0]
    face = Labels(xyxy, points, someone.face.ignore)
    return Cutout(np.ascontiguousarray(someone.rgb[:, ::-1]), np.ascontiguousarray(someone.alpha[:, ::-1]), face)
