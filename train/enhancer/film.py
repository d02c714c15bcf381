"""Held-out faces through a second camera, and non-faces, for `fidelity` to measure on.

`python -m train.enhancer film` films faces with `train.degrade_held_out`, which shares nothing with what training
degrades by, and cuts non-faces from clips.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.errors import InputError
from train.common.command import FILE, Command, Several, refuse_existing
from train.common.images import Image, read_image
from train.degrade_held_out import record
from train.enhancer.data import Portrait, detected, named, pair_of, points_in, read_faces, split, usable
from train.enhancer.judges import SIZE
from train.enhancer.non_faces import patches

SIZES = (24, 32, 40, 64, 96)  # pixels: heights of the face in the frame


@dataclass(frozen=True)
class Faces:
    """Filmed faces with their truth; each field has one entry a sample."""

    low: Image  # (n, S, S, 3): what the camera and its recorder deliver
    clean: Image  # (n, S, S, 3)
    px: NDArray[np.int64]  # height of the face in the frame
    face: NDArray[np.int64]  # number of the portrait
    group: NDArray[np.str_]
    name: NDArray[np.str_]  # of the file
    person: NDArray[np.str_]

    def only(self, keep: NDArray[np.bool_]) -> "Faces":
        """The samples where `keep` is true."""
        return Faces(**{field.name: getattr(self, field.name)[keep] for field in fields(self)})


def film_faces(portraits: Sequence[Portrait], sizes: Sequence[int]) -> Faces:
    """Every portrait at every size; what is drawn depends on its place in the list and on the size alone."""
    rows: list[tuple[Any, ...]] = []
    for index, portrait in enumerate(portraits):
        image = read_image(portrait.path)
        for px in sizes:
            rng = np.random.default_rng([99, index, px])
            seen = record(image, portrait.center, portrait.height, px, rng)
            points = detected(points_in(seen.to_clean, portrait.points), px, rng)
            pair = pair_of(seen.frame, image, seen.to_clean, points, SIZE)
            rows.append((pair.low, pair.clean, px, index, portrait.group, portrait.path.name, portrait.person))
    return Faces(*(np.array(column) for column in zip(*rows, strict=True)))


def load(path: Path) -> Faces:
    """What `film` wrote. Raises InputError."""
    try:
        with np.load(path) as file:
            return Faces(**{field.name: file[field.name] for field in fields(Faces)})
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: not a set of faces; make it with `python -m train.enhancer film` ({error})"
        ) from None


@click.command(cls=Command)
@click.option("--faces", type=FILE, required=True, help="Folder of good faces, with or without an index.csv.")
@click.option("--sets", cls=Several, help="Sets of its index to use (all).")
@click.option("--people", type=FILE, help="JSON {file: person}.")
@click.option("--held-out", type=float, default=0, help="Only the share of people that training kept out (0: all).")
@click.option("--sizes", cls=Several, type=int, default=list(SIZES), help="Face heights in pixels.")
@click.option("--out", type=FILE, required=True, help="The .npz to write.")
@click.option("--clips", cls=Several, type=FILE, help="Images and videos to cut non-faces from.")
@click.option("--yunet", type=FILE, help="YuNet, ONNX; needed with --clips.")
@click.option("--non-faces", type=FILE, help="The .npy to write them to; needed with --clips.")
@click.option("--each", type=int, default=70, show_default=True, help="Non-faces a clip.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def command(
    faces: Path,
    sets: tuple[str, ...],
    people: Path | None,
    held_out: float,
    sizes: tuple[int, ...],
    out: Path,
    clips: tuple[Path, ...],
    yunet: Path | None,
    non_faces: Path | None,
    each: int,
    overwrite: bool,
) -> None:
    """Film held-out faces with a second camera, for `fidelity` to measure on."""
    cv2.setNumThreads(1)
    refuse_existing(out, overwrite)
    portraits = read_faces(faces, sets or None)
    portraits = named(portraits, people, faces) if people else portraits
    chosen = usable(split(portraits, held_out)[1] if held_out else portraits)
    filmed = film_faces(chosen, sizes)
    table: dict[str, Any] = {field.name: getattr(filmed, field.name) for field in fields(filmed)}
    np.savez(out, **table)
    print(f"{out}: {len(chosen)} faces of {len({p.person for p in chosen})} people at {len(sizes)} sizes")
    if clips:
        if yunet is None or non_faces is None:
            raise InputError("--clips: needs --yunet and --non-faces too")
        refuse_existing(non_faces, overwrite)
        squares = patches(clips, yunet, each)
        np.save(non_faces, squares)
        print(f"{non_faces}: {len(squares)} non-faces of {len(clips)} files")
