"""Which images show one person: `python -m train.enhancer people --faces DIR --embedder ONNX people.json`.

Sets of portraits overlap, so a split by file would put one person on both sides. Faces with similar embeddings are
given one name; `--people` of the other commands reads the file.
"""

import json
import sys
from pathlib import Path

import click
import cv2
import numpy as np

from train.common.command import FILE, Command, Several
from train.common.images import read_image
from train.enhancer.cli import renamed
from train.enhancer.data import read_faces, same_people, usable
from train.enhancer.gather import Embedder


@click.command(cls=Command)
@click.argument("out", type=FILE)
@click.option("--faces", type=FILE, required=True, help="Folder of good faces.")
@click.option("--sets", cls=Several, help="Sets of its index to use (all).")
@click.option("--embedder", type=FILE, required=True, help="Face embedding, ONNX.")
@click.option(
    "--similarity",
    "--likeness",
    type=float,
    default=0.5,
    show_default=True,
    help="Cosine from which two are one person.",
)
def command(out: Path, faces: Path, sets: tuple[str, ...], embedder: Path, similarity: float) -> None:
    """Find which images show one person; write {file: person} to OUT as JSON."""
    cv2.setNumThreads(1)
    embed = Embedder(embedder)
    portraits = usable(read_faces(faces, sets or None))
    labels = same_people(np.stack([embed(read_image(p.path), p.points) for p in portraits]), similarity)
    files = [portrait.path.relative_to(faces).as_posix() for portrait in portraits]
    out.write_text(
        json.dumps({file: f"person{label:04d}" for file, label in zip(files, labels, strict=True)}, indent=0)
    )
    print(f"{out}: {len(files)} images of {len(set(labels.tolist()))} people")


if __name__ == "__main__":
    sys.exit(renamed("train.enhancer.people"))
