"""Pairs to learn from: a face as a bad camera gives it, and the same face clean, both cut as the runtime cuts them.

`read_faces` lists good faces (from an `index.csv`, or found by a detector), `split` parts them by person, and
`python -m train.data` writes shards: the degraded frames as they come from the codec, so that training only cuts.
Pictures are (H, W, 3) uint8 RGB; points are pixels in the order of `stream_enhance.crop.TEMPLATE`.
"""

import argparse
import csv
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.crop import TEMPLATE, cut, patch_to_frame
from stream_enhance.errors import InputError
from train.degrade import DEFAULT, KINDS, Picture, Ranges, Seen, in_light, surveil

log = logging.getLogger("train.data")
POINTS = ("reye", "leye", "nose", "rmouth", "lmouth")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
LARGE = 48  # pixels: faces of this height and more show detail that an enhancer can spoil
SMALLEST = 64  # pixels: a face lower than this cannot be a target
NO_BOX = np.zeros((1, 4), np.float32)
MIRRORED = [1, 0, 2, 4, 3]  # the five points after left and right changed places


@dataclass(frozen=True)
class Portrait:
    """One good face in one picture file."""

    path: Path
    group: str  # the set it is from: the folder's name
    xyxy: tuple[float, float, float, float]  # face box, pixels
    points: NDArray[np.float32]  # (5, 2) pixels
    person: str  # the same for all pictures of one person

    @property
    def height(self) -> float:
        """Height of the face box in pixels."""
        return self.xyxy[3] - self.xyxy[1]

    @property
    def center(self) -> tuple[float, float]:
        """Middle of the face box (x, y)."""
        return (self.xyxy[0] + self.xyxy[2]) / 2, (self.xyxy[1] + self.xyxy[3]) / 2


@dataclass(frozen=True)
class Pair:
    """One thing to learn, (S, S, 3) uint8 RGB each, and the points that a detector saw: (5, 2) patch pixels."""

    low: Picture
    clean: Picture
    points: NDArray[np.float32]


def read_picture(path: Path) -> Picture:
    """The picture file as (H, W, 3) uint8 RGB. Raises InputError where it cannot be read."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if picture is None:
        raise InputError(f"{path}: not a picture that can be read")
    return np.ascontiguousarray(picture[:, :, ::-1]).astype(np.uint8)


def read_index(root: Path, sets: Sequence[str] | None = None) -> list[Portrait]:
    """The faces that `root`/index.csv lists (columns: set, file, face_x, face_y, face_w, face_h, reye_x, ...).

    A column `person` is used where there is one; otherwise every file is its own person.
    """
    portraits = []
    with open(root / "index.csv", newline="") as file:
        for row in csv.DictReader(file):
            if sets is not None and row["set"] not in sets:
                continue
            x, y, w, h = (float(row[f"face_{k}"]) for k in "xywh")
            points = np.array([[float(row[f"{p}_x"]), float(row[f"{p}_y"])] for p in POINTS], np.float32)
            person = row.get("person") or row["file"]
            portraits.append(Portrait(root / row["file"], row["set"], (x, y, x + w, y + h), points, person))
    if not portraits:
        raise InputError(f"{root}/index.csv: lists no face of the sets {', '.join(sets or ['(any)'])}")
    return portraits


def read_faces(root: Path, sets: Sequence[str] | None = None) -> list[Portrait]:
    """The faces that `root`/index.csv lists, or, where there is none, those that the detector finds in its pictures."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder of pictures")
    if (root / "index.csv").exists():
        return read_index(root, sets)
    from train.find_faces import find_faces

    return find_faces(root)


def usable(portraits: Sequence[Portrait], smallest: float = SMALLEST) -> list[Portrait]:
    """Those that can be read and are large enough; what is left out is counted and named in the log."""
    kept, small = [], 0
    for portrait in portraits:
        try:
            read_picture(portrait.path)
        except InputError as error:
            log.warning("left out: %s", error)
            continue
        if portrait.height < smallest:
            log.warning(
                "left out: %s: its face is %.0f pixels high, under %d", portrait.path, portrait.height, smallest
            )
            small += 1
            continue
        kept.append(portrait)
    if len(kept) < len(portraits):
        log.warning(
            "%d of %d pictures left out, %d of them too small", len(portraits) - len(kept), len(portraits), small
        )
    if not kept:
        raise InputError("no picture left to work with; see the pictures named above")
    return kept


def same_people(embeddings: NDArray[np.float32], likeness: float = 0.5) -> NDArray[np.int64]:
    """(n,) labels: faces joined by a chain of cosines of at least `likeness` are one person. `embeddings` (n, d)."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    label = np.arange(len(unit))
    for i in range(len(unit)):
        for j in np.flatnonzero(unit[i, ...] @ unit[: i + 1].T >= likeness):
            if label[i] != label[j]:
                label[label == label[i]] = label[j]
    return label.astype(np.int64)


def split(portraits: Sequence[Portrait], held_out: float = 0.1, seed: int = 0) -> tuple[list[Portrait], list[Portrait]]:
    """(training, validation) with no person in both; who is held out depends on the person's name and `seed` alone.

    Raises InputError where there are too few people to part.
    """
    people = sorted({p.person for p in portraits}, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    count = max(1, round(held_out * len(people)))
    if len(people) < 2 or count >= len(people):
        raise InputError(f"{len(people)} people cannot be split into training and validation; add pictures of others")
    out = set(people[:count])
    return [p for p in portraits if p.person not in out], [p for p in portraits if p.person in out]


def pair_of(
    frame: Picture,
    clean: Picture,
    to_clean: NDArray[np.float32],
    points: NDArray[np.float32],
    size: int,
) -> Pair:
    """Cut `frame` and `clean` to the patch that `points` (5, 2; pixels of the frame) place, as the runtime does."""
    place = patch_place(points, size)
    onto = (np.vstack([to_clean, [0, 0, 1]]) @ np.vstack([place, [0, 0, 1]]))[:2].astype(np.float32)
    back = cv2.invertAffineTransform(place)
    return Pair(
        cut(frame, place, size), cut(clean, onto, size), (points @ back[:, :2].T + back[:, 2]).astype(np.float32)
    )


def patch_place(points: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """(2, 3) affine from the patch to the frame, by the five `points` (5, 2) in the frame."""
    return patch_to_frame(NO_BOX, points[None], size)[0].astype(np.float32)


def points_in(seen_to_clean: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """`points` (5, 2) of the clean picture in the frame's pixels."""
    back = cv2.invertAffineTransform(seen_to_clean)
    return (points @ back[:, :2].T + back[:, 2]).astype(np.float32)


def detected(points: NDArray[np.float32], face_px: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """`points` (5, 2) as a detector would see them on a face `face_px` high: half a pixel and 1.5 % of the face off."""
    sigma = min(0.015 * face_px + 0.3, 0.04 * face_px)
    return (points + rng.normal(0, sigma, points.shape)).astype(np.float32)


def mirrored(pair: Pair) -> Pair:
    """The pair seen in a mirror: both pictures and the points."""
    points = pair.points[MIRRORED].copy()
    points[:, 0] = pair.low.shape[1] - 1 - points[:, 0]
    return Pair(np.ascontiguousarray(pair.low[:, ::-1]), np.ascontiguousarray(pair.clean[:, ::-1]), points)


def tinted(pair: Pair, rng: np.random.Generator) -> Pair:
    """Both pictures under the same other light: gain 0.75 to 1.15, each colour within 6 %."""
    gain = rng.uniform(0.75, 1.15) * rng.uniform(0.94, 1.06, 3)
    table = np.clip(np.arange(256)[:, None] * gain + 0.5, 0, 255).astype(np.uint8)  # (256, 3)
    change = [np.stack([table[p[:, :, c], c] for c in range(3)], axis=2) for p in (pair.low, pair.clean)]
    return Pair(change[0], change[1], pair.points)


def heatmaps(points: NDArray[np.float32], size: int, sigma: float = 6.0) -> NDArray[np.float32]:
    """(4, size, size): 2-D Gaussians at both eyes, the nose tip and the middle of the mouth; `points` (5, 2) pixels."""
    spots = np.stack([points[0], points[1], points[2], (points[3] + points[4]) / 2])  # (4, 2)
    grid = np.arange(size, dtype=np.float32)
    x = np.exp(-0.5 * ((grid[None] - spots[:, :1]) / sigma) ** 2)  # (4, size)
    y = np.exp(-0.5 * ((grid[None] - spots[:, 1:]) / sigma) ** 2)
    return (y[:, :, None] * x[:, None, :]).astype(np.float32)


class FolderPairs:
    """Pairs made on the fly: every look at a portrait is another camera."""

    def __init__(self, portraits: Sequence[Portrait], size: int = 256, ranges: Ranges = DEFAULT, augment: bool = True):
        self.portraits, self.size, self.ranges, self.augment = list(portraits), size, ranges, augment

    def __len__(self) -> int:
        return len(self.portraits)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Pair `index`; all that is drawn is drawn from `rng`."""
        portrait = self.portraits[index]
        picture = read_picture(portrait.path)
        seen = surveil(picture, portrait.center, portrait.height, rng, self.ranges)
        points = points_in(seen.to_clean, portrait.points)
        if self.augment:
            points = detected(points, seen.face_px, rng)
        return augmented(pair_of(seen.frame, seen.clean, seen.to_clean, points, self.size), rng, self.augment)


def augmented(pair: Pair, rng: np.random.Generator, on: bool = True) -> Pair:
    """The pair, in half of the draws mirrored, and under a drawn light; as it is where not `on`."""
    if not on:
        return pair
    if rng.random() < 0.5:
        pair = mirrored(pair)
    return tinted(pair, rng)


class ShardPairs:
    """Pairs from the shards that `python -m train.data` wrote; the cut, mirror and light are drawn anew each time."""

    def __init__(self, folder: Path, size: int = 256, augment: bool = True, keep_small: float = 1):
        """`keep_small`: the share kept of faces under LARGE pixels, so that large ones weigh more."""
        shards = sorted(folder.glob("shard_*.npz"))
        if not shards or not (folder / "pictures.json").exists():
            raise InputError(
                f"{folder}: no shards here; make them with `python -m train.data --faces DIR --out {folder}`"
            )
        self.size, self.augment = size, augment
        self.pictures = json.loads((folder / "pictures.json").read_text())
        self.clean = np.load(folder / "pictures.npy", mmap_mode="r")
        tables = [np.load(shard) for shard in shards]
        self.frames = [np.load(shard.with_suffix(".npy"), mmap_mode="r") for shard in shards]
        self.shard = np.concatenate([np.full(len(t["side"]), k) for k, t in enumerate(tables)])
        self.table = {key: np.concatenate([t[key] for t in tables]) for key in tables[0].files}
        drawn = np.random.default_rng(0).random(len(self.shard)) < keep_small
        kept = (self.table["face_px"] >= LARGE) | drawn
        self.shard = self.shard[kept]
        self.table = {key: column[kept] for key, column in self.table.items()}

    def __len__(self) -> int:
        return len(self.shard)

    def seen(self, index: int) -> tuple[Seen, NDArray[np.float32]]:
        """What the camera saw, and the true points (5, 2) in the clean picture."""
        row = {key: column[index] for key, column in self.table.items()}
        side, start = int(row["side"]), int(row["start"])
        frame = np.asarray(self.frames[self.shard[index]][start : start + side * side * 3]).reshape(side, side, 3)
        entry = self.pictures[int(row["picture"])]
        h, w = entry["shape"]
        clean = np.asarray(self.clean[entry["start"] : entry["start"] + h * w * 3]).reshape(h, w, 3)
        kinds = tuple(kind for bit, kind in enumerate(KINDS) if int(row["kinds"]) >> bit & 1)
        seen = Seen(frame, clean, row["to_clean"], float(row["face_px"]), kinds, float(row["gamma"]))
        return seen, np.array(entry["points"], np.float32)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Pair `index`; all that is drawn is drawn from `rng`."""
        seen, true = self.seen(index)
        points = points_in(seen.to_clean, true)
        if self.augment:
            points = detected(points, seen.face_px, rng)
        pair = pair_of(seen.frame, seen.clean, seen.to_clean, points, self.size)
        pair = Pair(pair.low, in_light(pair.clean, seen.gamma, "infrared" in seen.kinds), pair.points)
        return augmented(pair, rng, self.augment)


def write_pictures(portraits: Sequence[Portrait], out: Path) -> None:
    """All clean pictures as one flat uint8 file, and where each lies in it."""
    entries, start = [], 0
    with open(out / "pictures.raw", "wb") as file:
        for portrait in portraits:
            picture = read_picture(portrait.path)
            entry = {"start": start, "shape": picture.shape[:2], "file": f"{portrait.group}/{portrait.path.name}"}
            entries.append({**entry, "points": portrait.points.tolist(), "person": portrait.person})
            file.write(picture.tobytes())
            start += picture.size
    np.save(out / "pictures.npy", np.fromfile(out / "pictures.raw", np.uint8))
    (out / "pictures.raw").unlink()
    (out / "pictures.json").write_text(json.dumps(entries))


def write_shard(portraits: Sequence[Portrait], out: Path, number: int, count: int, seed: int, ranges: Ranges) -> None:
    """`count` degraded frames of `portraits` drawn evenly, as `shard_NNN.npy` (flat uint8) and `.npz` (the table)."""
    rng = np.random.default_rng([seed, number])
    order = np.concatenate([rng.permutation(len(portraits)) for _ in range(count // len(portraits) + 1)])[:count]
    rows: dict[str, list[object]] = {
        k: [] for k in ("picture", "start", "side", "to_clean", "face_px", "kinds", "gamma")
    }
    frames, start = [], 0
    for index in order:
        portrait = portraits[index]
        seen = surveil(read_picture(portrait.path), portrait.center, portrait.height, rng, ranges)
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
    np.savez(out / f"shard_{number:03d}.npz", **{key: np.array(column) for key, column in rows.items()})


def embed_all(portraits: Sequence[Portrait], embedder: Callable[[Picture], NDArray[np.float32]]) -> NDArray[np.float32]:
    """(n, d) embeddings of the faces, cut to 256-pixel patches."""
    patches = (cut(read_picture(p.path), patch_to_frame(NO_BOX, p.points[None], 256)[0], 256) for p in portraits)
    return np.stack([embedder(patch) for patch in patches])


def arcface_warp(size: int) -> NDArray[np.float32]:
    """(2, 3): pixels of ArcFace's 112-pixel alignment -> pixels of the patch; fixed, since the patch is aligned too."""
    arcface = np.array(
        [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    )
    patch = TEMPLATE * size - 0.5
    a, p = arcface - arcface.mean(0), patch - patch.mean(0)
    scale, turn = (a * p).sum() / (a * a).sum(), (a[:, 0] * p[:, 1] - a[:, 1] * p[:, 0]).sum() / (a * a).sum()
    linear = np.array([[scale, -turn], [turn, scale]])
    return np.concatenate([linear, (patch.mean(0) - linear @ arcface.mean(0))[:, None]], axis=1).astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write shards of one half of the split."""
    parser = argparse.ArgumentParser(prog="python -m train.data", description="Precompute degraded faces.")
    parser.add_argument("--faces", type=Path, required=True, help="folder with index.csv")
    parser.add_argument("--sets", nargs="*", help="sets of the index to use (all)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=8000, help="frames a shard")
    parser.add_argument("--numbers", type=int, nargs="*", default=[0], help="numbers of the shards to write")
    parser.add_argument("--held-out", type=float, default=0.1, help="share of people kept for validation")
    parser.add_argument("--half", choices=["train", "val"], default="train")
    parser.add_argument("--people", type=Path, help="JSON {file: person}, where one person has several files")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    portraits = usable(read_index(given.faces, given.sets))
    portraits = named(portraits, given.people, given.faces) if given.people else portraits
    chosen = split(portraits, given.held_out)[given.half == "val"]
    given.out.mkdir(parents=True, exist_ok=True)
    if not (given.out / "pictures.json").exists():
        write_pictures(chosen, given.out)
    for number in given.numbers:
        write_shard(chosen, given.out, number, given.count, given.seed, DEFAULT)
        print(f"{given.out}: shard {number} of {given.count} frames of {len(chosen)} faces")


def named(portraits: Sequence[Portrait], people: Path, root: Path) -> list[Portrait]:
    """`portraits` with the people that the JSON file {file: person} names."""
    names = json.loads(people.read_text())
    keys = [p.path.relative_to(root).as_posix() for p in portraits]
    return [
        Portrait(p.path, p.group, p.xyxy, p.points, names.get(key, p.person))
        for p, key in zip(portraits, keys, strict=True)
    ]


if __name__ == "__main__":
    main()
