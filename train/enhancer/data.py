"""Pairs to learn from: a face as a bad camera gives it, and the same face clean, both cut as the runtime cuts them.

`read_faces` lists good faces (from an `index.csv`, or found by a detector), `split` parts them by person, and
`FolderPairs` degrades them as they are asked for; `train.enhancer.shards` does that once for many samples. Images are
(H, W, 3) uint8 RGB; points are pixels in the order of `stream_enhance.imaging.crop.TEMPLATE`.
"""

import csv
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.errors import InputError
from stream_enhance.imaging.crop import TEMPLATE, cut, patch_to_frame
from train.common.command import json_object
from train.common.images import Image, read_image
from train.degrade import DEFAULT, Ranges, degrade_clip

log = logging.getLogger("train.enhancer.data")
POINTS = ("reye", "leye", "nose", "rmouth", "lmouth")
SMALLEST = 64  # pixels: a face lower than this cannot be a target
NO_BOX = np.zeros((1, 4), np.float32)
MIRRORED = [1, 0, 2, 4, 3]  # the five points after left and right changed places


@dataclass(frozen=True)
class Portrait:
    """One good face in one image file."""

    path: Path
    group: str  # the set it is from: the folder's name
    xyxy: tuple[float, float, float, float]  # face box, pixels
    points: NDArray[np.float32]  # (5, 2) pixels
    person: str  # the same for all images of one person

    @property
    def height(self) -> float:
        """Height of the face box in pixels."""
        return self.xyxy[3] - self.xyxy[1]

    @property
    def center(self) -> tuple[float, float]:
        """Middle of the face box (x, y)."""
        return (self.xyxy[0] + self.xyxy[2]) / 2, (self.xyxy[1] + self.xyxy[3]) / 2


@dataclass(frozen=True)
class Pair:
    """One thing to learn, (S, S, 3) uint8 RGB each, and the points that a detector saw: (5, 2) patch pixels."""

    low: Image
    clean: Image
    points: NDArray[np.float32]


def read_index(root: Path, sets: Sequence[str] | None = None) -> list[Portrait]:
    """The faces that `root`/index.csv lists (columns: set, file, face_x, face_y, face_w, face_h, reye_x, ...).

    A column `person` is used where there is one; otherwise every file is its own person.
    """
    portraits = []
    with open(root / "index.csv", newline="") as file:
        for row in csv.DictReader(file):
            if sets is not None and row["set"] not in sets:
                continue
            x, y, w, h = (float(row[f"face_{k}"]) for k in "xywh")
            points = np.array([[float(row[f"{p}_x"]), float(row[f"{p}_y"])] for p in POINTS], np.float32)
            person = row.get("person") or row["file"]
            portraits.append(Portrait(root / row["file"], row["set"], (x, y, x + w, y + h), points, person))
    if not portraits:
        raise InputError(f"{root}/index.csv: lists no face of the sets {', '.join(sets or ['(any)'])}")
    return portraits


def read_faces(root: Path, sets: Sequence[str] | None = None) -> list[Portrait]:
    """The faces that `root`/index.csv lists, or, where there is none, those that the detector finds in its images."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder of images")
    if (root / "index.csv").exists():
        return read_index(root, sets)
    from train.enhancer.find_faces import find_faces

    return find_faces(root)


def usable(portraits: Sequence[Portrait], smallest: float = SMALLEST) -> list[Portrait]:
    """Those that can be read and are large enough; what is left out is counted and named in the log."""
    kept, small = [], 0
    for portrait in portraits:
        try:
            read_image(portrait.path)
        except InputError as error:
            log.warning("left out: %s", error)
            continue
        if portrait.height < smallest:
            log.warning(
                "left out: %s: its face is %.0f pixels high, under %d", portrait.path, portrait.height, smallest
            )
            small += 1
            continue
        kept.append(portrait)
    if len(kept) < len(portraits):
        log.warning("%d of %d images left out, %d of them too small", len(portraits) - len(kept), len(portraits), small)
    if not kept:
        raise InputError("no usable image; see the warnings above")
    return kept


def same_people(embeddings: NDArray[np.float32], similarity: float = 0.5) -> NDArray[np.int64]:
    """(n,) labels: faces joined by a chain of cosines of at least `similarity` are one person. `embeddings` (n, d)."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    label = np.arange(len(unit))
    for i in range(len(unit)):
        for j in np.flatnonzero(unit[i, ...] @ unit[: i + 1].T >= similarity):
            if label[i] != label[j]:
                label[label == label[i]] = label[j]
    return label.astype(np.int64)


def split(portraits: Sequence[Portrait], held_out: float = 0.1, seed: int = 0) -> tuple[list[Portrait], list[Portrait]]:
    """(training, validation) with no person in both; who is held out depends on the person's name and `seed` alone.

    Raises InputError where there are too few people to part.
    """
    people = sorted({p.person for p in portraits}, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    count = max(1, round(held_out * len(people)))
    if len(people) < 2 or count >= len(people):
        raise InputError(
            f"{len(people)} people cannot be split into training and validation; add images of other people"
        )
    out = set(people[:count])
    return [p for p in portraits if p.person not in out], [p for p in portraits if p.person in out]


def half_of(person: str) -> int:
    """0 or 1: the half of the held-out people to choose by, or the half to report on, by the name alone."""
    return hashlib.sha256(f"half:{person}".encode()).digest()[0] & 1


def pair_of(
    frame: Image,
    clean: Image,
    to_clean: NDArray[np.float32],
    points: NDArray[np.float32],
    size: int,
) -> Pair:
    """Cut `frame` and `clean` to the patch that `points` (5, 2; pixels of the frame) place, as the runtime does."""
    place = patch_place(points, size)
    onto = (np.vstack([to_clean, [0, 0, 1]]) @ np.vstack([place, [0, 0, 1]]))[:2].astype(np.float32)
    back = cv2.invertAffineTransform(place)
    return Pair(
        cut(frame, place, size), cut(clean, onto, size), (points @ back[:, :2].T + back[:, 2]).astype(np.float32)
    )


def patch_place(points: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """(2, 3) affine from the patch to the frame, by the five `points` (5, 2) in the frame."""
    return patch_to_frame(NO_BOX, points[None], size)[0].astype(np.float32)


def points_in(seen_to_clean: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """`points` (5, 2) of the clean image in the frame's pixels."""
    back = cv2.invertAffineTransform(seen_to_clean)
    return (points @ back[:, :2].T + back[:, 2]).astype(np.float32)


def detected(points: NDArray[np.float32], face_px: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """`points` (5, 2) as a detector would see them on a face `face_px` high: half a pixel and 1.5 % of the face off."""
    sigma = min(0.015 * face_px + 0.3, 0.04 * face_px)
    return (points + rng.normal(0, sigma, points.shape)).astype(np.float32)


def jostled(points: NDArray[np.float32], rng: np.random.Generator, share: float = 0.5) -> NDArray[np.float32]:
    """In `share` of the draws, `points` (5, 2) turned (sigma 4 degrees), grown (6 %) and moved (6 % of their
    height): as a detector errs on a face that is hard to see."""
    if rng.random() >= share:
        return points
    angle, scale = np.radians(rng.normal(0, 4)), np.exp(rng.normal(0, 0.06))
    middle, height = points.mean(0), np.ptp(points[:, 1])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return ((points - middle) @ turn.T + middle + rng.normal(0, 0.06, 2) * height).astype(np.float32)


def mirrored(pair: Pair) -> Pair:
    """The pair seen in a mirror: both images and the points."""
    points = pair.points[MIRRORED].copy()
    points[:, 0] = pair.low.shape[1] - 1 - points[:, 0]
    return Pair(np.ascontiguousarray(pair.low[:, ::-1]), np.ascontiguousarray(pair.clean[:, ::-1]), points)


def tinted(pair: Pair, rng: np.random.Generator) -> Pair:
    """Both images under the same other light: gain, gamma, haze, colour balance, and more or less colour."""
    gain = rng.uniform(0.65, 1.2) * rng.uniform(0.92, 1.08, 3)
    light = gain * (np.arange(256)[:, None] / 255) ** rng.uniform(0.8, 1.3)
    if rng.random() < 0.25:  # haze: less contrast over a lifted black
        share = rng.uniform(0.35, 0.9)
        light = share * light + (1 - share) * rng.uniform(0.2, 0.7)
    table = np.clip(255 * light + 0.5, 0, 255).astype(np.uint8)[:, None]  # (256, 1, 3)
    share = rng.uniform(0.6, 1.2)
    mix = share * np.eye(3, dtype=np.float32) + (1 - share) / 3  # 0: grey
    low, clean = (cv2.transform(cv2.LUT(p, table), mix.astype(np.float32)) for p in (pair.low, pair.clean))
    return Pair(low.astype(np.uint8), clean.astype(np.uint8), pair.points)


def heatmaps(points: NDArray[np.float32], size: int, sigma: float = 6.0) -> NDArray[np.float32]:
    """(4, size, size): 2-D Gaussians at both eyes, the nose tip and the middle of the mouth; `points` (5, 2) pixels."""
    spots = np.stack([points[0], points[1], points[2], (points[3] + points[4]) / 2])  # (4, 2)
    grid = np.arange(size, dtype=np.float32)
    x = np.exp(-0.5 * ((grid[None] - spots[:, :1]) / sigma) ** 2)  # (4, size)
    y = np.exp(-0.5 * ((grid[None] - spots[:, 1:]) / sigma) ** 2)
    return (y[:, :, None] * x[:, None, :]).astype(np.float32)


class FolderPairs:
    """Pairs made on the fly: each time, a portrait is seen by another camera."""

    def __init__(self, portraits: Sequence[Portrait], size: int = 256, ranges: Ranges = DEFAULT, augment: bool = True):
        self.portraits, self.size, self.ranges, self.augment = list(portraits), size, ranges, augment

    def __len__(self) -> int:
        return len(self.portraits)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Pair `index`; all that is drawn is drawn from `rng`."""
        portrait = self.portraits[index]
        image = read_image(portrait.path)
        seen = degrade_clip(image, portrait.center, portrait.height, rng, self.ranges)
        points = points_in(seen.to_clean, portrait.points)
        if self.augment:
            points = jostled(detected(points, seen.face_px, rng), rng)
        return augmented(pair_of(seen.frame, seen.clean, seen.to_clean, points, self.size), rng, self.augment)


def augmented(pair: Pair, rng: np.random.Generator, on: bool = True) -> Pair:
    """The pair, in half of the draws mirrored, and under a drawn light; as it is where not `on`."""
    if not on:
        return pair
    if rng.random() < 0.5:
        pair = mirrored(pair)
    return tinted(pair, rng)


def arcface_warp(size: int) -> NDArray[np.float32]:
    """(2, 3): pixels of ArcFace's 112-pixel alignment -> pixels of the patch; fixed, since the patch is aligned too."""
    arcface = np.array(
        [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    )
    patch = TEMPLATE * size - 0.5
    a, p = arcface - arcface.mean(0), patch - patch.mean(0)
    scale, turn = (a * p).sum() / (a * a).sum(), (a[:, 0] * p[:, 1] - a[:, 1] * p[:, 0]).sum() / (a * a).sum()
    linear = np.array([[scale, -turn], [turn, scale]])
    return np.concatenate([linear, (patch.mean(0) - linear @ arcface.mean(0))[:, None]], axis=1).astype(np.float32)


def named(portraits: Sequence[Portrait], people: Path, root: Path) -> list[Portrait]:
    """`portraits` with the people that the JSON file {file: person} names. Raises InputError."""
    names = json_object(people, "the JSON {file: person} that `python -m train.enhancer people` wrote")
    keys = [p.path.relative_to(root).as_posix() for p in portraits]
    return [
        Portrait(p.path, p.group, p.xyxy, p.points, names.get(key, p.person))
        for p, key in zip(portraits, keys, strict=True)
    ]
