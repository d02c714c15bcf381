"""Which images show one person: `python -m train.enhancer.people --faces DIR --embedder ONNX people.json`.

Sets of portraits overlap, so a split by file would put one person on both sides. Faces whose embeddings are alike are
given one name; `--people` of the other commands reads the file.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from train.common.command import ended
from train.enhancer.data import read_faces, read_image, same_people, usable
from train.enhancer.gather import Embedder


def main(arguments: Sequence[str] | None = None) -> int:
    """Write {file: person} as JSON; 0, or 2 where what was given cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m train.enhancer.people", description="Which images show one person."
    )
    parser.add_argument("out", type=Path, help="JSON {file: person} to write")
    parser.add_argument("--faces", type=Path, required=True, help="folder of good faces")
    parser.add_argument("--sets", nargs="+", help="sets of its index to use (all)")
    parser.add_argument("--embedder", type=Path, required=True, help="face embedding, ONNX")
    parser.add_argument("--likeness", type=float, default=0.5, help="cosine from which two faces are one person's")
    given = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    return ended(lambda: run(given))


def run(given: argparse.Namespace) -> None:
    """What the command line asks for."""
    embedder = Embedder(given.embedder)
    portraits = usable(read_faces(given.faces, given.sets))
    labels = same_people(np.stack([embedder(read_image(p.path), p.points) for p in portraits]), given.likeness)
    files = [portrait.path.relative_to(given.faces).as_posix() for portrait in portraits]
    given.out.write_text(
        json.dumps({file: f"person{label:04d}" for file, label in zip(files, labels, strict=True)}, indent=0)
    )
    print(f"{given.out}: {len(files)} images of {len(set(labels.tolist()))} people")


if __name__ == "__main__":
    sys.exit(main())
