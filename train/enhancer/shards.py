"""Degraded frames made once, as they come from the codec, so that training only cuts.

`python -m train.enhancer shards`.

A folder of shards holds the clean images (`images.npy`, `images.json`) and shards of degraded frames of them:
`shard_NNN.npy`, flat uint8, and `shard_NNN.npz`, the table of what each frame shows.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.errors import InputError
from stream_enhance.imaging.crop import BOX_CENTRE_Y, BOX_HEIGHT, cut, scale_of
from train.common.command import FILE, Command, Several
from train.common.images import Image, read_image
from train.common.recipe import load
from train.degrade import DEFAULT, KINDS, Ranges, Seen, degrade_clip, frame_to_image, in_light, jpeg
from train.degrade_sensor import film
from train.enhancer.cli import renamed
from train.enhancer.data import (
    Pair,
    Portrait,
    augmented,
    detected,
    jostled,
    named,
    pair_of,
    patch_place,
    points_in,
    read_index,
    split,
    usable,
)

SWIFT = ("motion", "defocus", "noise", "night", "infrared", "halo", "interlace", "jpeg")  # kinds that need no codec
ALONE = Ranges(face_px=(24, 112))
MILD = Ranges(
    face_px=(32, 128),
    motion_px=(1, 4),
    motion_of_face=0.05,
    defocus_of_face=(0.005, 0.02),
    noise_sigma=(1, 6),
    night_gamma=(1.2, 3.5),
    halo=(0.1, 0.6),
    jpeg_quality=(70, 95),
)
LARGE = 48  # pixels: faces of this height and more show detail that an enhancer can harm


class ShardPairs:
    """Pairs from the shards that `python -m train.enhancer shards` wrote; cut, mirror and light are drawn each time."""

    def __init__(
        self,
        folders: Path | Sequence[Path],
        size: int = 256,
        augment: bool = True,
        keep_small: float = 1,
        fresh: float = 0,
        shrunk: float = 0,
    ):
        """`keep_small`: the share kept of faces under LARGE pixels, so that large ones weigh more; `fresh`: the share
        of samples of a nearly good face instead, made on the fly (`mildly`); `shrunk`: that of a clean small one."""
        folders = [folders] if isinstance(folders, Path) else folders
        self.size, self.augment, self.fresh, self.shrunk = size, augment, fresh, shrunk
        self.images, self.clean, self.frames, self.home, tables = [], [], [], [], []
        for number, folder in enumerate(folders):
            shards = sorted(folder.glob("shard_*.npz"))
            if not shards or not (folder / "images.json").exists():
                raise InputError(
                    f"{folder}: no shards here; make them with "
                    f"`python -m train.enhancer shards --faces DIR --out {folder}`"
                )
            self.images.append(json.loads((folder / "images.json").read_text()))
            self.clean.append(np.load(folder / "images.npy", mmap_mode="r"))
            tables += [np.load(shard) for shard in shards]
            self.frames += [np.load(shard.with_suffix(".npy"), mmap_mode="r") for shard in shards]
            self.home += [number] * len(shards)  # of each shard: whose images it shows
        self.shard = np.concatenate([np.full(len(t["side"]), k) for k, t in enumerate(tables)])
        self.table = {key: np.concatenate([t[key] for t in tables]) for key in tables[0].files}
        drawn = np.random.default_rng(0).random(len(self.shard)) < keep_small
        kept = (self.table["face_px"] >= LARGE) | drawn
        self.shard = self.shard[kept]
        self.table = {key: column[kept] for key, column in self.table.items()}

    def __len__(self) -> int:
        return len(self.shard)

    def seen(self, index: int) -> tuple[Seen, NDArray[np.float32]]:
        """What the camera saw, and the true points (5, 2) in the clean image."""
        row = {key: column[index] for key, column in self.table.items()}
        side, start = int(row["side"]), int(row["start"])
        shard = self.shard[index]
        frame = np.asarray(self.frames[shard][start : start + side * side * 3]).reshape(side, side, 3)
        entry = self.images[self.home[shard]][int(row["image"])]
        h, w = entry["shape"]
        clean = np.asarray(self.clean[self.home[shard]][entry["start"] : entry["start"] + h * w * 3]).reshape(h, w, 3)
        kinds = tuple(kind for bit, kind in enumerate(KINDS) if int(row["kinds"]) >> bit & 1)
        seen = Seen(frame, clean, row["to_clean"], float(row["face_px"]), kinds, float(row["gamma"]))
        return seen, np.array(entry["points"], np.float32)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Pair `index`; all that is drawn is drawn from `rng`."""
        seen, true = self.seen(index)
        drawn = rng.random() if self.fresh or self.shrunk else 1.0
        if drawn < self.shrunk:
            seen = shrunk(seen.clean, true, rng)
        elif drawn < self.shrunk + self.fresh:
            seen = mildly(seen.clean, true, rng)
        points = points_in(seen.to_clean, true)
        if self.augment:
            points = jostled(detected(points, seen.face_px, rng), rng)
        pair = pair_of(seen.frame, seen.clean, seen.to_clean, points, self.size)
        pair = Pair(pair.low, in_light(pair.clean, seen.gamma, "infrared" in seen.kinds), pair.points)
        return augmented(pair, rng, self.augment)


def mildly(image: Image, points: NDArray[np.float32], rng: np.random.Generator) -> Seen:
    """The face at `points` (5, 2) of `image` with one defect or none, half of the time a slight one, and no codec.

    `clean` stays `image`: `in_light` is applied later, as for a shard's frame.
    """
    center, height = box_of(points)
    kind = ("", *SWIFT)[int(rng.integers(0, 1 + len(SWIFT)))]
    ranges = MILD if rng.random() < 0.5 else ALONE
    seen = degrade_clip(image, center, height, rng, ranges, only=(kind,) if kind else ())
    return replace(seen, clean=image)


def shrunk(image: Image, points: NDArray[np.float32], rng: np.random.Generator) -> Seen:
    """The face at `points` (5, 2) of `image`, 32 to 200 pixels high and otherwise as it is: there is nothing to repair.

    In three draws of ten it is a good JPEG besides.
    """
    center, height = box_of(points)
    face_px = float(np.exp(rng.uniform(np.log(32), np.log(200))))
    side = 2 * round((1.9 * face_px + 16) / 2)
    to_clean = frame_to_image(center, height / face_px, 0.0, side)
    frame = cut(image, to_clean, side)
    if rng.random() < 0.3:
        frame = jpeg(frame, int(rng.integers(85, 98)))
    return Seen(frame, image, to_clean, face_px, (), 1.0)


def box_of(points: NDArray[np.float32]) -> tuple[tuple[float, float], float]:
    """Middle (x, y) and height in pixels of the face box that `points` (5, 2) imply."""
    place = patch_place(points, 256)  # patch -> image
    x, y = place[:, :2] @ np.array([127.5, 256 * BOX_CENTRE_Y - 0.5]) + place[:, 2]
    return (float(x), float(y)), 256 * BOX_HEIGHT * scale_of(place)


def write_images(portraits: Sequence[Portrait], out: Path) -> None:
    """All clean images as one flat uint8 file, and where each lies in it."""
    entries, start = [], 0
    with open(out / "images.raw", "wb") as file:
        for portrait in portraits:
            image = read_image(portrait.path)
            entry = {"start": start, "shape": image.shape[:2], "file": f"{portrait.group}/{portrait.path.name}"}
            entries.append({**entry, "points": portrait.points.tolist(), "person": portrait.person})
            file.write(image.tobytes())
            start += image.size
    np.save(out / "images.npy", np.fromfile(out / "images.raw", np.uint8))
    (out / "images.raw").unlink()
    (out / "images.json").write_text(json.dumps(entries))


def write_shard(
    portraits: Sequence[Portrait], out: Path, number: int, count: int, seed: int, ranges: Ranges, sensor: float = 0
) -> None:
    """`count` degraded frames of `portraits` drawn evenly, as `shard_NNN.npy` (flat uint8) and `.npz` (the table).

    `sensor`: the share of them by `train.degrade_sensor` instead of `train.degrade`.
    """
    rng = np.random.default_rng([seed, number])
    order = np.concatenate([rng.permutation(len(portraits)) for _ in range(count // len(portraits) + 1)])[:count]
    rows: dict[str, list[object]] = {k: [] for k in ("image", "start", "side", "to_clean", "face_px", "kinds", "gamma")}
    frames, start = [], 0
    for index in order:
        portrait = portraits[index]
        camera = film if sensor and rng.random() < sensor else degrade_clip
        seen = camera(read_image(portrait.path), portrait.center, portrait.height, rng, ranges)
        bits = sum(1 << KINDS.index(kind) for kind in seen.kinds)
        values = (
            index,
            start,
            seen.frame.shape[0],
            seen.to_clean,
            np.float32(seen.face_px),
            bits,
            np.float32(seen.gamma),
        )
        for column, value in zip(rows.values(), values, strict=True):
            column.append(value)
        frames.append(seen.frame.ravel())
        start += seen.frame.size
    np.save(out / f"shard_{number:03d}.npy", np.concatenate(frames))
    table: dict[str, Any] = {key: np.array(column) for key, column in rows.items()}
    np.savez(out / f"shard_{number:03d}.npz", **table)


@click.command(cls=Command)
@click.option("--faces", type=FILE, required=True, help="Folder with index.csv.")
@click.option("--sets", cls=Several, help="Sets of the index to use (all).")
@click.option("--out", type=FILE, required=True, help="Folder for the shards.")
@click.option("--count", type=int, default=8000, show_default=True, help="Frames a shard.")
@click.option("--numbers", cls=Several, type=int, default=[0], help="Numbers of the shards to write (0).")
@click.option("--held-out", type=float, default=0.1, show_default=True, help="Share of people kept for validation.")
@click.option("--half", type=click.Choice(["train", "val"]), default="train", show_default=True)
@click.option("--people", type=FILE, help="JSON {file: person}, where one person has several files.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--sensor", type=float, default=0, help="Share of the frames by train.degrade_sensor (0).")
@click.option("--ranges", type=FILE, help="YAML: what differs from the default defects (train.degrade.Ranges).")
def command(
    faces: Path,
    sets: tuple[str, ...],
    out: Path,
    count: int,
    numbers: tuple[int, ...],
    held_out: float,
    half: str,
    people: Path | None,
    seed: int,
    sensor: float,
    ranges: Path | None,
) -> None:
    """Degrade good faces once and write them as shards, for training to read."""
    cv2.setNumThreads(1)
    portraits = usable(read_index(faces, sets or None))
    portraits = named(portraits, people, faces) if people else portraits
    chosen = split(portraits, held_out)[half == "val"] if held_out else portraits
    defects = DEFAULT if ranges is None else load(Ranges, ranges)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "images.json").exists():
        write_images(chosen, out)
    for number in numbers:
        write_shard(chosen, out, number, count, seed, defects, sensor)
        print(f"{out}: shard {number} of {count} frames of {len(chosen)} faces")


if __name__ == "__main__":
    sys.exit(renamed("train.enhancer.shards"))
