"""An enhancer on real poor faces, whose truth nobody knows.

`python -m train.enhancer.real --faces DIR --model ONNX --out DIR`.

Writes sheets of input | output, those that the network changed most first, and `scores.csv`: for each image the
height of its face, a score without a reference before and after (with `--quality`), and how far the output, shrunk to
what the camera resolved, is from the input: what an enhancer adds there, it adds against the evidence.
"""

import argparse
import csv
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.backends import Session, open_session
from stream_enhance.errors import InputError
from stream_enhance.imaging.crop import BOX_HEIGHT, cut, scale_of
from stream_enhance.pipeline import DETECTOR, default_model
from stream_enhance.stages.detect import Detector, DetectorOptions
from stream_enhance.stages.networks import UNet
from train.common.command import ended
from train.degrade import Image
from train.enhancer.data import IMAGE_SUFFIXES, patch_place, read_image
from train.enhancer.evaluate import interval
from train.enhancer.find_faces import SIDE, largest_face
from train.enhancer.metrics import Quality

log = logging.getLogger("train.enhancer.real")
COARSE = 24  # pixels: the side to which both patches are shrunk to compare what the camera can have resolved
ACROSS = 5  # pairs in one row of a sheet
DOWN = 6


@dataclass(frozen=True)
class Looked:
    """One face before and after."""

    name: str
    face_px: float  # height in the image
    low: Image  # (S, S, 3) RGB
    ours: Image  # (S, S, 3) RGB
    apart: float  # mean absolute difference at COARSE, of 255


def look(root: Path, session: Session) -> Iterator[Looked]:
    """The largest face of every image under `root`, aligned and enhanced; images without one are named."""
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES) if root.is_dir() else []
    if not files:
        raise InputError(f"{root}: holds no images ({', '.join(IMAGE_SUFFIXES)})")
    enhance = UNet(session)
    with open_session(default_model(DETECTOR), "face-detection", "cpu", 1) as eyes:
        detector = Detector(eyes, DetectorOptions(size=SIDE, every=1, score=0.3))
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
            yield Looked(path.relative_to(root).as_posix(), height, low, ours, coarse_difference(low, ours))


def coarse_difference(a: Image, b: Image) -> float:
    """Mean absolute difference of two patches, both shrunk to COARSE pixels."""
    small = [cv2.resize(p, (COARSE, COARSE), interpolation=cv2.INTER_AREA).astype(np.float64) for p in (a, b)]
    return float(np.abs(small[0] - small[1]).mean())


def sheet(faces: Sequence[Looked]) -> Image:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 where what was given cannot be used, or 1 where the run failed."""
    parser = argparse.ArgumentParser(prog="python -m train.enhancer.real", description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, required=True, help="folder of images, one face each")
    parser.add_argument("--model", type=Path, required=True, help="an enhancer, ONNX")
    parser.add_argument("--out", type=Path, required=True, help="folder for the sheets and scores.csv")
    parser.add_argument("--quality", type=Path, help="LightQNet, ONNX, for the score without a reference")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: one a core")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    cv2.setNumThreads(1)
    return ended(lambda: run(given))


def run(given: argparse.Namespace) -> None:
    """What the command line asks for."""
    quality = None if given.quality is None else Quality(given.quality)
    with open_session(given.model, "face-enhancement", "cpu", given.threads) as session:
        faces = sorted(look(given.faces, session), key=lambda face: -face.apart)
    if not faces:
        raise InputError(f"{given.faces}: no face was found in any of its images")
    given.out.mkdir(parents=True, exist_ok=True)
    scores = np.array([(quality(f.low), quality(f.ours)) if quality else (np.nan, np.nan) for f in faces])
    with open(given.out / "scores.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "face_px", "coarse_difference", "score_input", "score_output"])
        for face, (before, after) in zip(faces, scores, strict=True):
            told = ["", ""] if quality is None else [f"{before:.4f}", f"{after:.4f}"]
            writer.writerow([face.name, f"{face.face_px:.1f}", f"{face.apart:.3f}", *told])
    count = ACROSS * DOWN
    for number, start in enumerate(range(0, len(faces), count)):
        image = sheet(faces[start : start + count])
        cv2.imwrite(str(given.out / f"sheet_{number:02d}.png"), np.ascontiguousarray(image[:, :, ::-1]))
    if quality is not None:
        print(summary(scores[:, 0], scores[:, 1]))
    print(f"coarse difference: median {np.median([f.apart for f in faces]):.2f}, largest {faces[0].apart:.2f} of 255")


if __name__ == "__main__":
    sys.exit(main())
