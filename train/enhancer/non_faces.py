"""Squares without a face: what an enhancer must leave alone, for training and for counting the faces it paints.

`python -m train.enhancer non-faces` cuts them from images and videos, away from whatever YuNet sees, and writes an
`index.csv` as a folder of faces has it: the five points stand where an upright face's would. So `shards` degrades
them as it does faces, and a network learns that their target is their own clean version.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import click
import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.errors import InputError
from stream_enhance.imaging.crop import BOX_CENTRE_Y, BOX_HEIGHT, TEMPLATE, cut
from train.common.command import FILE, Command, refuse_existing
from train.common.images import SUFFIXES, Image, read_image, write_image
from train.enhancer.data import POINTS
from train.enhancer.judges import SIZE, open_yunet

HINT = 0.15  # YuNet's score from which a place is avoided: far below a detection
DETECTED_AT = 1280  # pixels: longer side that YuNet sees
LARGEST = 240  # pixels: a square that stands for a higher face is shrunk
FLAT = 8  # of 255: most squares with less deviation are left out, there is little to learn from a wall


def frames_of(path: Path, every: int, most: int) -> Iterator[tuple[str, Image]]:
    """(name, image) of an image file, or of every `every`th frame of a video, at most `most` of them."""
    if path.suffix.lower() in SUFFIXES:
        yield path.stem, read_image(path)
        return
    try:
        with av.open(str(path)) as clip:
            for index, frame in enumerate(clip.decode(video=0)):
                if index >= every * most:
                    return
                if index % every == every // 2:
                    yield f"{path.stem}_{index:05d}", frame.to_ndarray(format="rgb24").astype(np.uint8)
    except av.FFmpegError as error:
        raise InputError(f"{path}: {error.strerror}") from None


class FaceFree:
    """Places of an image that are away from all that YuNet takes for a face."""

    def __init__(self, model: Path):
        self.network = open_yunet(model, 320, HINT)

    def places(
        self, image: Image, count: int, heights: tuple[float, float], rng: np.random.Generator
    ) -> Iterator[tuple[float, float, float]]:
        """Up to `count` (x, y, height): middles and face heights in pixels, the height log-uniform in `heights`."""
        height, width = image.shape[:2]
        shrink = min(1.0, DETECTED_AT / max(height, width))
        seen = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        self.network.setInputSize((seen.shape[1], seen.shape[0]))
        _, faces = self.network.detect(np.ascontiguousarray(seen[..., ::-1]))
        boxes: NDArray[Any] = np.zeros((0, 4)) if faces is None else faces[:, :4] / shrink
        middles = boxes[:, :2] + boxes[:, 2:] / 2
        found = 0
        for _ in range(4 * count):
            tall = float(np.exp(rng.uniform(*np.log(heights))))
            half = tall / BOX_HEIGHT / 2
            if found == count or 2 * half >= min(height, width):
                continue
            x, y = (float(rng.uniform(half, side - half)) for side in (width, height))
            apart = np.abs(middles - [x, y]).max(1)
            if (apart < half + boxes[:, 3] / 2).any():
                continue
            found += 1
            yield x, y, tall


def patches(files: Sequence[Path], model: Path, each: int, seed: int = 0) -> Image:
    """(n, S, S, 3): non-faces as the runtime would cut them at face heights of 16 to 64 px; about `each` of a file."""
    rng, search, found = np.random.default_rng(seed), FaceFree(model), []
    for path in files:
        frames = list(frames_of(path, 25, 20))
        for k in range(each):
            image = frames[k % len(frames)][1]
            for x, y, tall in search.places(image, 1, (16, 64), rng):
                scale = tall / BOX_HEIGHT / SIZE
                affine = np.array([[scale, 0, x - scale * SIZE / 2], [0, scale, y - scale * SIZE / 2]], np.float32)
                found.append(cut(image, affine, SIZE))
    if not found:
        raise InputError("no square without a face was found")
    return np.stack(found)


@click.command(cls=Command)
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--out", type=FILE, required=True, help="Folder for the squares and their index.csv.")
@click.option("--yunet", type=FILE, required=True, help="YuNet, ONNX.")
@click.option("--each", type=int, default=4, show_default=True, help="Squares an image or a frame.")
@click.option("--every", type=int, default=60, show_default=True, help="Of a video, every so many frames.")
@click.option("--frames", type=int, default=15, show_default=True, help="Frames of a video, at most.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace an index.csv that is there.")
def command(
    files: tuple[Path, ...], out: Path, yunet: Path, each: int, every: int, frames: int, seed: int, overwrite: bool
) -> None:
    """Cut squares without a face from FILES (images and videos)."""
    cv2.setNumThreads(1)
    refuse_existing(out / "index.csv", overwrite)
    (out / "non_faces").mkdir(parents=True, exist_ok=True)
    rng, search, rows = np.random.default_rng(seed), FaceFree(yunet), []
    for path in files:
        for name, image in frames_of(path, every, frames):
            top = max(65.0, min(image.shape[:2]) / 2)
            for k, place in enumerate(search.places(image, each, (64, top), rng)):
                row = write_square(image, place, out, f"{name}_{k}", path.stem, rng)
                rows += [] if row is None else [row]
    if not rows:
        raise InputError("no square without a face was found")
    with open(out / "index.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"{out}: {len(rows)} squares of {len(files)} files")


def write_square(
    image: Image, place: tuple[float, float, float], out: Path, name: str, origin: str, rng: np.random.Generator
) -> dict[str, Any] | None:
    """Write what is around `place` (x, y, height) and return its row of the index; None where it is too flat."""
    x, y, tall = place
    left, top = max(0, int(x - 1.25 * tall)), max(0, int(y - 1.25 * tall))
    square = image[top : int(y + 1.25 * tall), left : int(x + 1.25 * tall)]
    if square.std() < FLAT and rng.random() < 0.8:
        return None
    shrink = min(1.0, LARGEST / tall)
    square = cv2.resize(square, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA).astype(np.uint8)
    middle, tall = np.array([x - left, y - top]) * shrink, tall * shrink
    side, angle = tall / BOX_HEIGHT, np.radians(rng.normal(0, 8))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = ((TEMPLATE - [0.5, BOX_CENTRE_Y]) * side) @ turn.T + middle
    write_image(out / "non_faces" / f"{name}.png", square)
    box = {"face_x": middle[0] - 0.38 * side, "face_y": middle[1] - tall / 2, "face_w": 0.76 * side, "face_h": tall}
    where = {f"{point}_{axis}": points[i, j] for i, point in enumerate(POINTS) for j, axis in enumerate("xy")}
    numbers = {key: round(float(value), 2) for key, value in (box | where).items()}
    return {"set": "non_faces", "file": f"non_faces/{name}.png", **numbers, "person": origin}
