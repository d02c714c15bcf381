"""Drawn faces in a folder with an index.csv, as `train.enhancer.data.read_index` takes them."""

import csv
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.imaging.crop import TEMPLATE

HEADS = ("set", "file", "face_x", "face_y", "face_w", "face_h")
POINTS = ("reye", "leye", "nose", "rmouth", "lmouth")


def draw(person: int, side: int = 200) -> NDArray[np.uint8]:
    """One face, (side, side, 3) RGB, its points where TEMPLATE has them; each person has other colours and features."""
    rng = np.random.default_rng(person)
    skin, wall, hair = (tuple(int(v) for v in rng.integers(low, low + 90, 3)) for low in (140, 30, 10))
    image = np.full((side, side, 3), wall, np.uint8)
    middle = (side // 2, round(0.55 * side))
    cv2.ellipse(image, (middle[0], round(0.4 * side)), (round(0.3 * side), round(0.33 * side)), 0, 0, 360, hair, -1)
    cv2.ellipse(image, middle, (round(0.25 * side), round(0.36 * side)), 0, 0, 360, skin, -1)
    points = np.rint(TEMPLATE * side).astype(int)
    for eye in points[:2]:
        cv2.circle(image, tuple(int(v) for v in eye), round(side * rng.uniform(0.02, 0.04)), (20, 20, 40), -1)
    cv2.line(image, (points[2][0], points[2][1] - side // 10), tuple(int(v) for v in points[2]), (90, 60, 50), 3)
    mouth = [tuple(int(v) for v in corner) for corner in points[3:]]
    cv2.line(image, mouth[0], mouth[1], (150, 30, 40), int(rng.integers(2, 8)))
    return image


def write_folder(root: Path, people: int = 6, side: int = 200, each: int = 1) -> Path:
    """`people` drawn persons with `each` images apiece and their index.csv in `root`; returns `root`."""
    (root / "drawn").mkdir(parents=True)
    with open(root / "index.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*HEADS, *(f"{p}_{axis}" for p in POINTS for axis in "xy"), "person"])
        for person in range(people):
            for copy in range(each):
                name = f"drawn/{person}_{copy}.png"
                cv2.imwrite(str(root / name), draw(person, side)[:, :, ::-1])
                box = (0.22 * side, 0.16 * side, 0.56 * side, 0.75 * side)
                writer.writerow(["drawn", name, *box, *(TEMPLATE * side).ravel(), f"p{person}"])
    return root
