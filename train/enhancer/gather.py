"""More good faces, from images of anything and from videos: `python -m train.enhancer gather --out DIR FILE...`.

The largest face of each file, or of every `--every`th frame of a video, is found by the project's detector and kept
with what is around it, in DIR, beside an index.csv as `train.enhancer.data` reads it. Faces that resemble a person
whom the split holds out are left out.
"""

import csv
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import av
import click
import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.backends import open_session
from stream_enhance.errors import InputError
from stream_enhance.imaging.crop import cut, patch_to_frame
from stream_enhance.shipped import DETECTOR, default_model
from stream_enhance.stages.detect import Detector
from train.common.command import FILE, Command, Several
from train.common.images import SUFFIXES, Image, read_image, write_image
from train.enhancer.cli import renamed
from train.enhancer.data import NO_BOX, POINTS, arcface_warp, named, read_faces, split
from train.enhancer.find_faces import OPTIONS, Box, largest_face

log = logging.getLogger("train.enhancer.gather")
SAME_PERSON = 0.45  # cosine from which two faces may be one person's

Embed = Callable[[Image, NDArray[np.float32]], NDArray[np.float32]]  # (image, points) -> (d,) unit embedding


class Embedder:
    """(d,) unit embedding of an aligned 256-pixel patch, by an ONNX file that takes (n, 3, 112, 112) RGB of 0-255."""

    def __init__(self, path: Path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.warp = arcface_warp(256)

    def __call__(self, image: Image, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of the face in `image` (H, W, 3) RGB at `points` (5, 2)."""
        patch = cut(image, patch_to_frame(NO_BOX, points[None], 256)[0], 256)
        face = cv2.warpAffine(patch, self.warp, (112, 112), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        batch = face.transpose(2, 0, 1)[None].astype(np.float32)
        vector = self.session.run(None, {self.session.get_inputs()[0].name: batch})[0][0]
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


def images_of(files: Iterable[Path], every: int) -> Iterator[tuple[str, str, Image]]:
    """(name, whose: the stem, image (H, W, 3) RGB) of each image, and of every `every`th frame of a video."""
    for path in files:
        if path.suffix.lower() in SUFFIXES:
            yield path.stem, path.stem, read_image(path)
            continue
        try:
            with av.open(str(path)) as clip:
                for index, frame in enumerate(clip.decode(video=0)):
                    if index % every == 0:
                        image = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
                        yield f"{path.stem}_{index:05d}", path.stem, image
        except av.FFmpegError as error:
            raise InputError(f"{path}: {error.strerror}") from None


def around(box: Box, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of the square around `box` that a patch and its jitter need, within the image."""
    x, y, half = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, 1.1 * (box[3] - box[1])
    return max(0, int(x - half)), max(0, int(y - half)), min(shape[1], int(x + half)), min(shape[0], int(y + half))


def gather(
    files: Sequence[Path],
    out: Path,
    smallest: float,
    every: int,
    embedder: Embed | None,
    held_out: NDArray[np.float32],
) -> int:
    """Write the faces of `files` of at least `smallest` pixels; how many. `held_out` (n, d): embeddings to avoid."""
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    columns = ["set", "file", "person", *(f"face_{k}" for k in "xywh"), *(f"{p}_{k}" for p in POINTS for k in "xy")]
    with (
        open(out / "index.csv", "w", newline="") as file,
        open_session(default_model(DETECTOR), "face-detection", "cpu", 1) as session,
    ):
        writer, detector = csv.writer(file), Detector(session, OPTIONS)
        writer.writerow(columns)
        for name, whose, image in images_of(files, every):
            found = largest_face(detector, image)
            if found is None or found[0][3] - found[0][1] < smallest:
                log.info("left out: %s: no face of %.0f pixels", name, smallest)
                continue
            box, points = found
            if embedder is not None and len(held_out) and (held_out @ embedder(image, points)).max() >= SAME_PERSON:
                log.info("left out: %s: resembles a person held out", name)
                continue
            x1, y1, x2, y2 = around(box, image.shape)
            write_image(out / f"{name}.png", image[y1:y2, x1:x2])
            corner = np.array([x1, y1], np.float32)
            place = (box[0] - x1, box[1] - y1, box[2] - box[0], box[3] - box[1])
            numbers = [*place, *(points - corner).ravel().tolist()]
            writer.writerow([out.name, f"{name}.png", whose, *(f"{v:.2f}" for v in numbers)])
            count += 1
    return count


@click.command(cls=Command)
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--out", type=FILE, required=True, help="Folder for the faces and their index.csv.")
@click.option("--smallest", type=float, default=110, show_default=True, help="Least height of a face in pixels.")
@click.option("--every", type=int, default=40, show_default=True, help="Take one of so many frames of a video.")
@click.option("--apart-from", type=FILE, help="Folder of faces: leave out its held-out people.")
@click.option("--sets", cls=Several, help="Sets of its index (all).")
@click.option("--people", type=FILE, help="JSON {file: person} for it.")
@click.option("--held-out", type=float, default=0.1, show_default=True, help="Share of its people that is held out.")
@click.option("--embedder", type=FILE, help="Face embedding, ONNX; needed with --apart-from.")
def command(
    files: tuple[Path, ...],
    out: Path,
    smallest: float,
    every: int,
    apart_from: Path | None,
    sets: tuple[str, ...],
    people: Path | None,
    held_out: float,
    embedder: Path | None,
) -> None:
    """Collect the largest face of each of FILES, images or videos, for training."""
    cv2.setNumThreads(1)
    model, avoid = None, np.zeros((0, 1), np.float32)
    if apart_from:
        if embedder is None:
            raise InputError("--apart-from: name the face embedding that recognises people with --embedder")
        model = Embedder(embedder)
        portraits = read_faces(apart_from, sets or None)
        if people:
            portraits = named(portraits, people, apart_from)
        avoid = np.stack([model(read_image(p.path), p.points) for p in split(portraits, held_out)[1]])
    count = gather(files, out, smallest, every, model, avoid)
    print(f"{out}: {count} faces")


if __name__ == "__main__":
    sys.exit(renamed("train.enhancer.gather"))
