"""Clips of a 1080p camera with small faces whose places are known, for ``bench_regions``.

    python -m benchmarks.made_scenes FACES BACKGROUNDS FOLDER [--frames 150] [--size 1920x1080]

FACES holds portraits and ``index.csv`` (file, face box), BACKGROUNDS images without people.  Of each kind in ``KINDS``
one clip is written to FOLDER, H.264, and beside it ``<kind>.json``: for each frame the faces' boxes, an id each, and
whether the face moves.  People stand, walk through, or walk in and stay; in ``shake`` the camera trembles.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from train.common.images import read_image

Image = NDArray[np.uint8]  # (H, W, 3) RGB
KINDS = {  # people who stand, walk, walk in and stay; pixels that the camera trembles by
    "standing": (10, 0, 0, 0.0),
    "walking": (0, 4, 0, 0.0),
    "mixed": (5, 3, 4, 0.0),
    "crowd": (14, 14, 4, 0.0),
    "shake": (6, 4, 0, 3.0),
    "empty": (0, 0, 0, 0.0),
}
HEIGHTS = (16, 40)  # pixels of a face
SPEEDS = (20, 120)  # pixels a second
RATE = 25
NOISE = 3.0  # of 255


@dataclass(frozen=True)
class Person:
    """One pasted head."""

    patch: Image
    mask: NDArray[np.float32]  # (H, W, 1) 0..1
    face: tuple[float, float, float, float]  # x0, y0, x1, y1 in the patch
    start: tuple[float, float]  # of the patch's corner, pixels of the frame
    speed: tuple[float, float]  # pixels a second
    stays_after: float  # seconds

    def corner(self, seconds: float) -> tuple[float, float]:
        """Where the patch's corner is."""
        moving = min(seconds, self.stays_after)
        return self.start[0] + self.speed[0] * moving, self.start[1] + self.speed[1] * moving


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("backgrounds", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="*.jpg", help="Which files of BACKGROUNDS.")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--size", default="1920x1080")
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    given.folder.mkdir(parents=True, exist_ok=True)
    backgrounds = sorted(given.backgrounds.glob(given.only))
    with (given.faces / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if float(row["face_h"]) >= 100]
    for number, (kind, counts) in enumerate(KINDS.items()):
        rng = np.random.default_rng(number)
        background = covering(backgrounds[rng.integers(len(backgrounds))], width, height)
        people = cast(given.faces, rows, counts[:3], (width, height), rng)
        truth = write(given.folder / f"{kind}.mp4", background, people, counts[3], given.frames, rng)
        (given.folder / f"{kind}.json").write_text(json.dumps(truth))
        print(kind, sum(map(len, truth)), "faces in", given.frames, "frames")


def covering(path: Path, width: int, height: int) -> Image:
    image = read_image(path)
    ratio = max(width / image.shape[1], height / image.shape[0])
    large = cv2.resize(image, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(large[:height, :width]).astype(np.uint8)


def cast(
    folder: Path, rows: list[dict[str, str]], counts: tuple[int, ...], size: tuple[int, int], rng: np.random.Generator
) -> list[Person]:
    """People who do not begin on one another."""
    people: list[Person] = []
    for kind, count in zip(("stands", "walks", "comes"), counts, strict=True):
        for _ in range(count):
            row = rows[rng.integers(len(rows))]
            height = np.exp(rng.uniform(*np.log(HEIGHTS)))
            patch, face = cut(folder / row["file"], row, height)
            for _ in range(200):
                start = rng.uniform((20, 20), (size[0] - patch.shape[1] - 20, size[1] - patch.shape[0] - 20))
                if all(np.hypot(*(start - other.start)) > 90 for other in people):
                    break
            heading = rng.uniform(0, 2 * np.pi) if kind == "walks" else rng.choice([0, np.pi])
            speed = 0 if kind == "stands" else rng.uniform(*SPEEDS)
            stays = rng.uniform(1.5, 3) if kind == "comes" else np.inf
            inner = np.pad(np.ones((patch.shape[0] - 4, patch.shape[1] - 4), np.float32), 2)
            soft = cv2.GaussianBlur(inner, (5, 5), 0).astype(np.float32)
            velocity = (float(speed * np.cos(heading)), float(speed * np.sin(heading)))
            people.append(Person(patch, soft[:, :, None], face, (start[0], start[1]), velocity, float(stays)))
    return people


def cut(path: Path, row: dict[str, str], height: float) -> tuple[Image, tuple[float, float, float, float]]:
    """Head and shoulders of a portrait, the face so many pixels high, and the face's box in it."""
    image = read_image(path)
    x, y, w, h = (float(row[f"face_{key}"]) for key in "xywh")
    x0, y0 = max(0, round(x - 0.7 * w)), max(0, round(y - 0.5 * h))
    x1, y1 = min(image.shape[1], round(x + 1.7 * w)), min(image.shape[0], round(y + 1.8 * h))
    ratio = height / h
    patch = cv2.resize(
        np.ascontiguousarray(image[y0:y1, x0:x1]), None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA
    )
    box = ((x - x0) * ratio, (y - y0) * ratio, (x + w - x0) * ratio, (y + h - y0) * ratio)
    return np.asarray(patch, np.uint8), box


def write(
    path: Path, background: Image, people: list[Person], tremble: float, frames: int, rng: np.random.Generator
) -> list[list[dict[str, Any]]]:
    """The clip at ``path``; the faces of each frame."""
    height, width = background.shape[:2]
    noises = [rng.normal(0, NOISE, (height, width, 1)).astype(np.float32) for _ in range(4)]
    truth: list[list[dict[str, Any]]] = []
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=RATE, options={"crf": "21", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            image = background.copy()
            shift = np.round(rng.normal(0, tremble, 2)).astype(int) if tremble else np.zeros(2, int)
            truth.append([face for i, person in enumerate(people) if (face := paste(image, person, i, index / RATE))])
            image = np.roll(image, tuple(shift[::-1]), (0, 1))
            for face in truth[-1]:
                face["box"] = [round(float(v + s), 1) for v, s in zip(face["box"], [*shift, *shift], strict=True)]
            noisy = np.clip(image + np.roll(noises[index % 4], 37 * index, 1), 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(noisy, "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return truth


def paste(image: Image, person: Person, number: int, seconds: float) -> dict[str, Any] | None:
    """Put the person into ``image``; their face, or None where it is not all inside."""
    corner = person.corner(seconds)
    x, y = (round(c) for c in corner)
    height, width = person.patch.shape[:2]
    x0, y0, x1, y1 = max(0, x), max(0, y), min(image.shape[1], x + width), min(image.shape[0], y + height)
    if x1 <= x0 or y1 <= y0:
        return None
    part = np.s_[y0 - y : y1 - y, x0 - x : x1 - x]
    mask = person.mask[part]
    image[y0:y1, x0:x1] = image[y0:y1, x0:x1] * (1 - mask) + person.patch[part] * mask
    box = [person.face[0] + x, person.face[1] + y, person.face[2] + x, person.face[3] + y]
    inside = box[0] >= 0 and box[1] >= 0 and box[2] <= image.shape[1] and box[3] <= image.shape[0]
    moves = bool(np.hypot(*person.speed) > 0 and seconds < person.stays_after)
    return {"id": number, "box": box, "moves": moves} if inside else None


if __name__ == "__main__":
    main()
