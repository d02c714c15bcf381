"""Faces filmed over several frames, written once for training: `python -m train.enhancer clips`.

A folder of clips holds the clean images (`images.npy`, `images.json`, as shards have them) and files of clips:
`clips_NNN.npy`, flat uint8, and `clips_NNN.npz`, the table of what each clip shows. A still moves before the camera; of
people with enough images, frames of a video, their own motion is filmed too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from train.common.command import FILE, Command, Several
from train.common.images import read_image
from train.degrade import DEFAULT
from train.degrade_held_out import record_clip
from train.degrade_sequence import LEAD, Box, FilmedClip, film_sequence
from train.enhancer.data import Portrait, named, read_index, split, usable
from train.enhancer.shards import write_images

FRAMES = 12  # of a clip


def takes(portraits: Sequence[Portrait]) -> list[list[int]]:
    """What can be filmed: each image by itself, and runs of the images of people with enough of them."""
    people: dict[str, list[int]] = {}
    for index, portrait in enumerate(portraits):
        people.setdefault(portrait.person, []).append(index)
    found, length = [], FRAMES + LEAD
    for rows in people.values():
        if len(rows) < length:
            found += [[row] for row in rows]
            continue
        rows.sort(key=lambda k: portraits[k].path.name)
        found += [rows[k : k + length] for k in range(0, len(rows) - length + 1, 4)]
    return found


def write_clips(
    portraits: Sequence[Portrait], out: Path, number: int, count: int, seed: int, perfect: float, other: bool
) -> None:
    """`count` clips of `portraits` as `clips_NNN.npy` and `.npz`; the share `perfect` of them is only small.

    `other`: by the camera that training never uses, which moves stills alone.
    """
    rng = np.random.default_rng([seed, number])
    choice = [[k] for k in range(len(portraits))] if other else takes(portraits)
    order = np.concatenate([rng.permutation(len(choice)) for _ in range(count // len(choice) + 1)])[:count]
    rows: dict[str, list[Any]] = {k: [] for k in ("images", "start", "side", "to_clean", "face_px", "mono", "gamma")}
    frames, start = [], 0
    for index in order:
        take = choice[index]
        if other:
            seen = by_other_camera(portraits[take[0]], rng)
        else:
            images = [read_image(portraits[k].path) for k in take]
            boxes = steadied([(portraits[k].center, portraits[k].height) for k in take])
            seen = film_sequence(images, boxes, FRAMES, rng, DEFAULT, bool(rng.random() < perfect))
        shown = [take[t % len(take)] for t in range(LEAD, LEAD + FRAMES)]
        values = (shown, start, seen.frames.shape[1], seen.to_clean, np.float32(seen.face_px), seen.mono, seen.gamma)
        for column, value in zip(rows.values(), values, strict=True):
            column.append(value)
        frames.append(seen.frames.ravel())
        start += seen.frames.size
    np.save(out / f"clips_{number:03d}.npy", np.concatenate(frames))
    table: dict[str, Any] = {key: np.array(column) for key, column in rows.items()}
    np.savez(out / f"clips_{number:03d}.npz", **table)


def by_other_camera(portrait: Portrait, rng: np.random.Generator) -> FilmedClip:
    """The last frames of what `train.degrade_held_out` films of `portrait`, 20 to 100 pixels high."""
    px = float(np.exp(rng.uniform(*np.log((20, 100)))))
    clip = record_clip(read_image(portrait.path), portrait.center, portrait.height, px, rng)[-FRAMES:]
    return FilmedClip(np.stack([r.frame for r in clip]), np.stack([r.to_clean for r in clip]), px, False, 1.0)


def steadied(boxes: Sequence[Box]) -> list[Box]:
    """`boxes` of consecutive frames without their detector's jitter: one height, middles averaged over five."""
    middles = np.array([middle for middle, _ in boxes])
    height = float(np.median([height for _, height in boxes]))
    padded = np.pad(middles, ((2, 2), (0, 0)), mode="edge")
    calm = np.mean([padded[k : k + len(boxes)] for k in range(5)], 0)
    return [((float(x), float(y)), height) for x, y in calm]


@click.command(cls=Command)
@click.option("--faces", type=FILE, required=True, help="Folder with index.csv.")
@click.option("--sets", cls=Several, help="Sets of the index to use (all).")
@click.option("--out", type=FILE, required=True, help="Folder for the clips.")
@click.option("--count", type=int, default=500, show_default=True, help="Clips a file.")
@click.option("--numbers", cls=Several, type=int, default=[0], help="Numbers of the files to write (0).")
@click.option("--held-out", type=float, default=0.1, show_default=True, help="Share of people kept for validation.")
@click.option("--half", type=click.Choice(["train", "val"]), default="train", show_default=True)
@click.option("--people", type=FILE, help="JSON {file: person}, where one person has several files.")
@click.option("--perfect", type=float, default=0.08, show_default=True, help="Share of clips that are only small.")
@click.option("--other-camera", is_flag=True, help="By the camera that training never uses, to measure on.")
@click.option("--seed", type=int, default=0, show_default=True)
def command(
    faces: Path,
    sets: tuple[str, ...],
    out: Path,
    count: int,
    numbers: tuple[int, ...],
    held_out: float,
    half: str,
    people: Path | None,
    perfect: float,
    other_camera: bool,
    seed: int,
) -> None:
    """Film good faces once over several frames, for training a network that sees them all."""
    cv2.setNumThreads(1)
    portraits = usable(read_index(faces, sets or None))
    portraits = named(portraits, people, faces) if people else portraits
    chosen = split(portraits, held_out)[half == "val"] if held_out else portraits
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "images.json").exists():
        write_images(chosen, out)
    for number in numbers:
        write_clips(chosen, out, number, count, seed, perfect, other_camera)
        print(f"{out}: file {number} of {count} clips of {len(chosen)} faces")
