"""Something in front of a face: masks, sunglasses, hats, scarves, hands and objects composited on good faces.

`python -m train.enhancer occlude` writes such faces with an `index.csv`. What is hidden is hidden in the target too,
so that a network learns to leave it alone instead of painting a mouth on a mask.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from train.common.command import FILE, Command, Several, refuse_existing
from train.common.images import Image, list_images, read_image, write_image
from train.enhancer.data import POINTS, Portrait, named, read_faces, split, usable

Kind = Literal["mask", "sunglasses", "hat", "scarf", "hand", "object"]
SHARES: dict[Kind, float] = {"mask": 0.3, "hand": 0.2, "sunglasses": 0.15, "hat": 0.15, "scarf": 0.05, "object": 0.15}
Place = NDArray[np.float64]  # (2,): x, y in pixels of the image


@dataclass(frozen=True)
class FaceAxes:
    """The face's own coordinates: one unit is the distance of the eyes, `right` and `down` as seen in the image."""

    eyes: Place
    nose: Place
    mouth: Place
    right: Place
    down: Place
    unit: float  # pixels

    def at(self, origin: Place, right: float, down: float) -> Place:
        """The place so far right of and below `origin`."""
        return origin + self.unit * (right * self.right + down * self.down)


def axes_of(points: NDArray[np.float32]) -> FaceAxes:
    """From the five points (5, 2)."""
    five = points.astype(np.float64)
    across = five[1] - five[0]
    unit = float(np.hypot(*across))
    right = across / unit
    down = np.array([-right[1], right[0]])
    return FaceAxes((five[0] + five[1]) / 2, five[2], (five[3] + five[4]) / 2, right, down, unit)


def occlude(
    image: Image, points: NDArray[np.float32], kind: Kind, rng: np.random.Generator, texture: Image | None = None
) -> Image:
    """`image` (H, W, 3) with a `kind` before the face at `points` (5, 2); `texture` covers hats, scarves, objects."""
    axes = axes_of(points)
    if kind == "sunglasses":
        alpha = glasses(image, points, axes)
    elif kind == "hand":
        alpha = hand(image, axes, rng)
    else:
        alpha = polygon(image, outline(axes, kind, rng))
    soft = cv2.GaussianBlur(alpha, (0, 0), max(0.6, 0.02 * axes.unit))[..., None]
    fill = material(image, axes, kind, rng, texture)
    return np.clip(image * (1 - soft) + fill * soft + 0.5, 0, 255).astype(np.uint8)


def outline(axes: FaceAxes, kind: Kind, rng: np.random.Generator) -> Sequence[Place]:
    """The corners of a mask, hat, scarf or object."""
    at, eyes, mouth = axes.at, axes.eyes, axes.mouth
    if kind == "mask":
        w, top = rng.uniform(0.85, 1.0), at(axes.nose, 0, -rng.uniform(0.1, 0.35))
        upper = [at(eyes, -w, 0.35), at(eyes, -w / 2, 0.32), top, at(eyes, w / 2, 0.32), at(eyes, w, 0.35)]
        lower = [(0.85 * w, 0.15), (0.45 * w, 0.62), (0, 0.75), (-0.45 * w, 0.62), (-0.85 * w, 0.15)]
        return [*upper, *(at(mouth, x, y) for x, y in lower)]
    if kind == "hat":
        y, dip = rng.uniform(-0.75, -0.4), rng.uniform(-0.1, 0.12)
        return [at(eyes, *p) for p in ((-1.3, y), (0, y + dip), (1.3, y), (1.2, -1.6), (0, -1.9), (-1.2, -1.6))]
    if kind == "scarf":
        y = rng.uniform(-0.25, 0.3)
        return [at(mouth, *p) for p in ((-1.6, y - 0.2), (0, y + 0.1), (1.6, y - 0.2), (1.8, 2.5), (-1.8, 2.5))]
    middle = at(axes.nose, rng.uniform(-0.9, 0.9), rng.uniform(-0.8, 1.0))
    radius = axes.unit * rng.uniform(0.4, 0.9)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    return [middle + radius * rng.uniform(0.6, 1.2) * np.array([np.cos(a), np.sin(a)]) for a in angles]


def polygon(image: Image, corners: Sequence[Place]) -> NDArray[np.float32]:
    """(H, W): 1 within `corners`, 0 outside, with a soft edge."""
    alpha = np.zeros(image.shape[:2], np.float32)
    cv2.fillPoly(alpha, [np.rint(np.array(corners) * 8).astype(np.int32)], 1.0, cv2.LINE_AA, 3)
    return alpha


def glasses(image: Image, points: NDArray[np.float32], axes: FaceAxes) -> NDArray[np.float32]:
    """(H, W): two lenses and a frame across."""
    alpha = np.zeros(image.shape[:2], np.float32)
    angle = float(np.degrees(np.arctan2(axes.right[1], axes.right[0])))
    lens = (max(1, int(0.38 * axes.unit)), max(1, int(0.3 * axes.unit)))
    for eye in points[:2]:
        cv2.ellipse(alpha, pixel(axes.at(eye, 0, 0.08)), lens, angle, 0, 360, 1.0, -1, cv2.LINE_AA)
    ends = pixel(axes.at(axes.eyes, -1, -0.05)), pixel(axes.at(axes.eyes, 1, -0.05))
    cv2.line(alpha, *ends, 1.0, max(1, int(0.07 * axes.unit)), cv2.LINE_AA)
    return 0.9 * alpha


def hand(image: Image, axes: FaceAxes, rng: np.random.Generator) -> NDArray[np.float32]:
    """(H, W): four fingers and a palm over the mouth, the nose or the eyes."""
    alpha = np.zeros(image.shape[:2], np.float32)
    origin = (axes.mouth, axes.nose, axes.eyes)[int(rng.integers(3))]
    middle = axes.at(origin, rng.uniform(-0.5, 0.5), rng.uniform(-0.1, 0.3))
    angle = rng.uniform(-0.8, 0.8) + np.pi / 2
    along = axes.unit * np.array([np.cos(angle), np.sin(angle)])
    beside = np.array([-along[1], along[0]])
    for k in range(4):
        root = middle + 0.2 * (k - 1.5) * beside
        ends = pixel(root - rng.uniform(0.35, 0.6) * along), pixel(root + 0.6 * along)
        cv2.line(alpha, *ends, 1.0, max(2, int(0.17 * axes.unit)), cv2.LINE_AA)
    palm = (max(1, int(0.45 * axes.unit)), max(1, int(0.5 * axes.unit)))
    cv2.ellipse(alpha, pixel(middle + 0.95 * along), palm, 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    return alpha


def material(
    image: Image, axes: FaceAxes, kind: Kind, rng: np.random.Generator, texture: Image | None
) -> NDArray[np.float64]:
    """(H, W, 3): the occluder's colour under the image's light."""
    height, width = image.shape[:2]
    glow = cv2.GaussianBlur(image.mean(2), (0, 0), 0.5 * axes.unit)[..., None] / max(image.mean(), 30)
    light = glow.clip(0.4, 1.4)
    if kind == "hand":
        x, y = np.clip(axes.nose.astype(int), 0, [width - 1, height - 1])
        skin = np.median(image[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5].reshape(-1, 3), 0)
        return np.asarray(skin * rng.uniform(0.75, 1.15) * light**0.5)
    if kind == "sunglasses":
        return np.asarray(rng.uniform(5, 60, 3) + 25 * light)
    if kind == "mask":
        y, x = np.mgrid[:height, :width]
        right = ((x - axes.nose[0]) * axes.right[0] + (y - axes.nose[1]) * axes.right[1]) / axes.unit
        down = ((x - axes.nose[0]) * axes.down[0] + (y - axes.nose[1]) * axes.down[1]) / axes.unit
        pleats = 1 + 0.08 * np.sin(2 * np.pi * rng.uniform(2, 4) * down)
        colours = ([235, 238, 240], [150, 190, 215], [30, 30, 34], rng.uniform(20, 240, 3))
        shade = (pleats * (1 - 0.25 * np.abs(right).clip(0, 1.2)))[..., None]
        return np.asarray(np.array(colours[int(rng.integers(4))]) * shade * light)
    if texture is not None and (kind == "object" or rng.random() < 0.5):
        return cv2.resize(texture, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float64)
    return np.asarray(rng.uniform(10, 230, 3) * light)


def pixel(place: Place) -> tuple[int, int]:
    """The nearest whole pixel."""
    return round(float(place[0])), round(float(place[1]))


@click.command(cls=Command)
@click.option("--faces", type=FILE, required=True, help="Folder of good faces.")
@click.option("--sets", cls=Several, help="Sets of its index to use (all).")
@click.option("--people", type=FILE, help="JSON {file: person}.")
@click.option("--held-out", type=float, default=0.1, show_default=True, help="Share of people to leave out.")
@click.option("--textures", type=FILE, help="Folder of images to cover hats, scarves and objects with.")
@click.option("--count", type=int, default=360, show_default=True, help="How many to make.")
@click.option("--out", type=FILE, required=True, help="Folder for the faces and their index.csv.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace an index.csv that is there.")
def command(
    faces: Path,
    sets: tuple[str, ...],
    people: Path | None,
    held_out: float,
    textures: Path | None,
    count: int,
    out: Path,
    seed: int,
    overwrite: bool,
) -> None:
    """Composite occluders on good faces, for training."""
    cv2.setNumThreads(1)
    refuse_existing(out / "index.csv", overwrite)
    portraits = read_faces(faces, sets or None)
    portraits = named(portraits, people, faces) if people else portraits
    chosen = usable(split(portraits, held_out)[0] if held_out else portraits)
    covers = list_images(textures) if textures else []
    (out / "occluded").mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(seed), []
    for number in range(count):
        portrait = chosen[int(rng.integers(len(chosen)))]
        kind = get_args(Kind)[int(rng.choice(len(SHARES), p=[SHARES[k] for k in get_args(Kind)]))]
        texture = read_image(covers[int(rng.integers(len(covers)))]) if covers else None
        file = f"occluded/{number:04d}_{kind}.png"
        write_image(out / file, occlude(read_image(portrait.path), portrait.points, kind, rng, texture))
        rows.append(row_of(portrait, file))
    with open(out / "index.csv", "w", newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"{out}: {count} faces of {len(chosen)} portraits")


def row_of(portrait: Portrait, file: str) -> dict[str, Any]:
    """The index's row of `portrait` in another file."""
    left, top, right, bottom = portrait.xyxy
    box = {"face_x": left, "face_y": top, "face_w": right - left, "face_h": bottom - top}
    where = {f"{p}_{axis}": float(portrait.points[i, j]) for i, p in enumerate(POINTS) for j, axis in enumerate("xy")}
    return {"set": "occluded", "file": file, **box, **where, "person": portrait.person}
