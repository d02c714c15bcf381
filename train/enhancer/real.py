"""An enhancer on real poor faces, whose truth nobody knows.

`python -m train.enhancer real --faces DIR --model ONNX --out DIR`.

Writes sheets of input | output, those that the network changed most first, and `scores.csv`: for each image the
height of its face, a score without a reference before and after (with `--quality`), and how far the output, shrunk to
what the camera resolved, is from the input: what an enhancer adds there, it adds against the evidence.
"""

import csv
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.backends import Session, open_session
from stream_enhance.errors import InputError
from stream_enhance.imaging.crop import BOX_HEIGHT, cut, scale_of
from stream_enhance.shipped import DETECTOR, default_model
from stream_enhance.stages.detect import Detector
from stream_enhance.stages.networks import UNet
from train.common.bootstrap import interval
from train.common.command import FILE, Command
from train.common.images import Image, list_images, read_image, write_image
from train.enhancer.cli import renamed
from train.enhancer.data import patch_place
from train.enhancer.find_faces import OPTIONS, largest_face
from train.enhancer.metrics import Quality

log = logging.getLogger("train.enhancer.real")
COARSE = 24  # pixels: the side to which both patches are shrunk to compare what the camera can have resolved
ACROSS = 5  # pairs in one row of a sheet
DOWN = 6


@dataclass(frozen=True)
class Enhanced:
    """One face before and after."""

    name: str
    face_px: float  # height in the image
    low: Image  # (S, S, 3) RGB
    ours: Image  # (S, S, 3) RGB
    apart: float  # mean absolute difference at COARSE, of 255


def enhanced(root: Path, session: Session) -> Iterator[Enhanced]:
    """The largest face of every image under `root`, aligned and enhanced; images without one are named."""
    files = list_images(root)
    enhance = UNet(session)
    with open_session(default_model(DETECTOR), "face-detection", "cpu", 1) as detection:
        detector = Detector(detection, OPTIONS)
        for path in files:
            image = read_image(path)
            found = largest_face(detector, image)
            if found is None:
                log.warning("left out: %s: no face found in it", path)
                continue
            place = patch_place(found[1], session.card.size)
            low = cut(image, place, session.card.size)
            ours = enhance(low[None], np.array([scale_of(place)], np.float32))[0]
            height = BOX_HEIGHT * session.card.size * scale_of(place)
            yield Enhanced(path.relative_to(root).as_posix(), height, low, ours, coarse_difference(low, ours))


def coarse_difference(a: Image, b: Image) -> float:
    """Mean absolute difference of two patches, both shrunk to COARSE pixels."""
    small = [cv2.resize(p, (COARSE, COARSE), interpolation=cv2.INTER_AREA).astype(np.float64) for p in (a, b)]
    return float(np.abs(small[0] - small[1]).mean())


def sheet(faces: Sequence[Enhanced]) -> Image:
    """Pairs input | output, ACROSS in a row."""
    pairs = [np.hstack([face.low, face.ours]) for face in faces]
    pairs += [np.zeros_like(pairs[0])] * (-len(pairs) % ACROSS)
    return np.vstack([np.hstack(pairs[k : k + ACROSS]) for k in range(0, len(pairs), ACROSS)])


def summary(before: NDArray[np.float64], after: NDArray[np.float64]) -> str:
    """One line: the scores' means, the gain with its interval, and the share that fell."""
    low, high = interval(after - before) or (0.0, 0.0)
    gain, fell = (after - before).mean(), (after < before - 0.01).mean()
    return (
        f"{len(before)} faces: score {before.mean():.3f} -> {after.mean():.3f}, gain {gain:.3f} "
        f"[{low:.3f}, {high:.3f}], lower in {fell:.0%}"
    )


@click.command(cls=Command)
@click.option("--faces", type=FILE, required=True, help="Folder of images, one face each.")
@click.option("--model", type=FILE, required=True, help="An enhancer, ONNX.")
@click.option("--out", type=FILE, required=True, help="Folder for the sheets and scores.csv.")
@click.option("--quality", type=FILE, help="LightQNet, ONNX, for the score without a reference.")
@click.option("--threads", type=int, default=0, help="CPU threads; 0: one a core.")
def command(faces: Path, model: Path, out: Path, quality: Path | None, threads: int) -> None:
    """Enhance real poor faces; write input and output side by side, and scores."""
    cv2.setNumThreads(1)
    judge = None if quality is None else Quality(quality)
    with open_session(model, "face-enhancement", "cpu", threads, precision="fp32") as session:
        found = sorted(enhanced(faces, session), key=lambda face: -face.apart)
    if not found:
        raise InputError(f"{faces}: no face was found in any of its images")
    out.mkdir(parents=True, exist_ok=True)
    scores = np.array([(judge(f.low), judge(f.ours)) if judge else (np.nan, np.nan) for f in found])
    with open(out / "scores.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "face_px", "coarse_difference", "score_input", "score_output"])
        for face, (before, after) in zip(found, scores, strict=True):
            known = ["", ""] if judge is None else [f"{before:.4f}", f"{after:.4f}"]
            writer.writerow([face.name, f"{face.face_px:.1f}", f"{face.apart:.3f}", *known])
    count = ACROSS * DOWN
    for number, start in enumerate(range(0, len(found), count)):
        write_image(out / f"sheet_{number:02d}.png", sheet(found[start : start + count]))
    if judge is not None:
        print(summary(scores[:, 0], scores[:, 1]))
    print(f"coarse difference: median {np.median([f.apart for f in found]):.2f}, largest {found[0].apart:.2f} of 255")


if __name__ == "__main__":
    sys.exit(renamed("train.enhancer.real"))
