"""Training images for the detector, made once and kept in shards, so that the training core only trains.

In: portraits, real images with boxes, places without faces, the teacher. Out: per shard `NNN.npy`, (n, S, S, 3)
uint8 RGB as the camera delivers them, `NNN-clean.npy`, the same before the camera degraded them, and `NNN.npz`, the
faces and what the teacher saw in the clean image. A shard is a pure function of (recipe, its number).
"""

import csv
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stream_enhance.errors import InputError
from train.common.images import Image, read_image
from train.detector.boxes import Labels, iou, labels, moved, overlap, read_list, read_yolo
from train.detector.data.backdrops import panorama_view
from train.detector.data.people import Cutout, cut_out
from train.detector.data.scenes import Manner, Real, Scene, degrade, make, mosaic
from train.detector.recipe import Recipe, Shards
from train.detector.teacher import complete, load_teacher, teach, yunet

VIEWS = 300  # into the panoramas, searched for hard negatives
STATION_SIDE = 1920  # side at which the references see the station's small faces, pixels


@dataclass(frozen=True)
class Sources:
    """What images are made from."""

    people: list[Cutout]
    places: list[Image]
    real: list[Real]
    share: NDArray[np.float64]  # (len(real),): how often each real image is taken


def prepare(recipe: Recipe) -> None:
    """Cut out the people, complete the real images' labels and find hard negatives, once, in the
    recipe's cache."""
    recipe.cache.mkdir(parents=True, exist_ok=True)
    tasks: dict[str, Callable[[Recipe], object]] = {"people": read_people, "real": read_real, "hard": read_hard}
    for name, maker in tasks.items():
        target = recipe.cache / f"{name}.pickle"
        if not target.exists():
            save(target, maker(recipe))


def save(target: Path, value: object) -> None:
    """Pickle `value` whole or not at all."""
    part = target.with_suffix(".part")
    part.write_bytes(pickle.dumps(value, protocol=5))
    os.replace(part, target)


def held_out(row: dict[str, str]) -> bool:
    """Whether a portrait belongs to the evaluation's people: governors, and every other synthetic person."""
    name = Path(row["file"]).stem
    if row["set"] == "csusa_portraits":
        return name.startswith("gov_")
    return row["set"] == "faker_synth" and int(name.rsplit("_", 1)[1]) % 2 == 0


def read_people(recipe: Recipe, held: bool = False) -> list[Cutout]:
    """Cut-outs of the recipe's portraits: those to train with, or the held-out ones."""
    index = recipe.faces / "index.csv"
    if not index.is_file():
        raise InputError(f"{index}: no index of portraits; set `faces` in the recipe")
    with index.open() as file:
        rows = [r for r in csv.DictReader(file) if r["set"] in recipe.face_sets and held_out(r) == held]
    if not rows:
        raise InputError(f"{index}: no portraits of {', '.join(recipe.face_sets)}; nothing to paste")
    people = []
    for row in rows:
        box = np.array([float(row[f"face_{k}"]) for k in "xywh"])
        names = [f"{part}_{axis}" for part in ("reye", "leye", "nose", "rmouth", "lmouth") for axis in "xy"]
        points = np.array([float(row[name]) for name in names]).reshape(5, 2)
        people.append(cut_out(read_image(recipe.faces / row["file"]), box, points))
    return people


def read_places(recipe: Recipe, held: bool = False) -> list[Image]:
    """The recipe's backgrounds: those to train with, or the held-out ones."""
    paths = [p for p in sorted(recipe.backgrounds.glob("*.png")) if (p.stem in recipe.held_backgrounds) == held]
    if not paths:
        raise InputError(f"{recipe.backgrounds}: no backgrounds (*.png); set `backgrounds` in the recipe")
    return [read_image(path) for path in paths]


def read_real(recipe: Recipe) -> list[tuple[Image, Labels]]:
    """The real training images with completed labels, the station's last."""
    teacher, other = load_teacher(recipe.teacher), yunet(recipe.yunet)
    real = []
    for path in read_list(recipe.detect / "train.txt") + station_list(recipe, learnt=True):
        image = read_image(path)
        height, width = image.shape[:2]
        human = read_yolo(recipe.detect / "labels" / f"{path.stem}.txt", width, height)
        most = STATION_SIDE if path.stem in recipe.station else 1280
        side = int(np.clip(2 * max(height, width), 640, most))
        real.append((image, complete(image, human, teacher, other, side)))
    return real


def station_list(recipe: Recipe, learnt: bool) -> list[Path]:
    """The station's images: those that the recipe learns from, or the others."""
    paths = read_list(recipe.detect / "cctv_pseudo.txt")
    unknown = set(recipe.station) - {path.stem for path in paths}
    if unknown:
        raise InputError(
            f"{recipe.detect / 'cctv_pseudo.txt'}: no {', '.join(sorted(unknown))}; correct `station` in the recipe"
        )
    return [path for path in paths if (path.stem in recipe.station) == learnt]


def read_hard(recipe: Recipe) -> list[Real]:
    """Real images and views into the panoramas, each with what `hard_negative_model` wrongly takes for faces."""
    from train.detector.eval.peers import yolo

    real = pickle.loads((recipe.cache / "real.pickle").read_bytes())
    if recipe.hard_negative_model is None:
        return [Real(image, faces, np.zeros((0, 4), np.float32)) for image, faces in real]
    find = yolo(recipe.hard_negative_model)
    rng = np.random.default_rng(recipe.seed)
    panoramas = [place for place in read_places(recipe) if place.shape[1] == 2 * place.shape[0]]
    views = [panorama_view(panoramas[i % len(panoramas)], rng, 640) for i in range(VIEWS if panoramas else 0)]
    found = []
    for image, faces in real + [(view, labels()) for view in views]:
        rows = np.concatenate([find(image, side) for side in (320, 640)])
        boxes = rows[rows[:, 4] > 0.15, :4]
        found.append(Real(image, faces, boxes[iou(boxes, faces.xyxy).max(1, initial=0) < 0.1]))
    # a view without such a place teaches nothing new
    return found[: len(real)] + [one for one in found[len(real) :] if len(one.hard)]


def empty_crops(real: list[Real], rng: np.random.Generator, count: int) -> list[Image]:
    """Squares of real images that no face, counted or ignored, touches: clothes, hands, walls, lettering."""
    crops: list[Image] = []
    for _ in range(40 * count):
        one = real[rng.integers(len(real))]
        image, faces = one.image, one.faces
        height, width = image.shape[:2]
        size = int(min(height, width) * rng.uniform(0.25, 0.7))
        if size < 90:
            continue
        x, y = rng.integers(0, width - size + 1), rng.integers(0, height - size + 1)
        square = np.array([[x, y, x + size, y + size]], np.float32)
        if not len(faces) or overlap(square, faces.xyxy).max() == 0:
            crops.append(image[y : y + size, x : x + size].copy())
            if len(crops) == count:
                break
    return crops


def read_sources(recipe: Recipe) -> Sources:
    """Everything that `prepare` and the folders hold."""
    people, real = (pickle.loads((recipe.cache / f"{name}.pickle").read_bytes()) for name in ("people", "hard"))
    places = read_places(recipe)
    crops = empty_crops(real, np.random.default_rng(recipe.seed), 400)
    # an image with several faces is a public place, and more like what a camera sees than a portrait is
    share = np.array([min(len(one.faces), 4) + 0.5 for one in real])
    listed = len(read_list(recipe.detect / "train.txt"))
    station = np.zeros(len(real), bool)
    station[listed : listed + len(recipe.station)] = True
    if station.any():
        share[station] *= (
            recipe.station_share / (1 - recipe.station_share) * share[~station].sum() / share[station].sum()
        )
    return Sources(people, places * max(1, len(crops) // (2 * len(places))) + crops, real, share / share.sum())


def one_image(sources: Sources, part: Shards, rng: np.random.Generator) -> tuple[Scene, bool]:
    """One training image; whether it is made, that is, whether its faces are known to be all."""
    manner = Manner(part.turned, part.covered, part.clear, part.goods, part.heads, part.hard)
    if rng.random() < part.made:
        crowd, face_px = (0, 12), part.face_px
        if rng.random() < part.crowded:
            crowd, face_px = (20, 45), (part.face_px[0], 3 * part.face_px[0])
        return make(sources.places, sources.people, rng, part.side, face_px, crowd, part.behind, manner=manner), True
    count = int(rng.choice(part.tiles))
    chosen = [sources.real[i] for i in rng.choice(len(sources.real), count, p=sources.share)]
    face_px = (2 * part.face_px[0], 2 * part.face_px[1])
    large, faces = mosaic(chosen, rng, 2 * part.side, face_px, 3.2, manner)
    image = cv2.resize(large, (part.side, part.side), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    faces = moved(faces, np.array([[0.5, 0, 0], [0, 0.5, 0]], np.float32))
    faces = replace(faces, ignore=faces.ignore | (faces.xyxy[:, 3] - faces.xyxy[:, 1] < 4.5))
    shots = [np.roll(image, int(rng.integers(-1, 2)), axis=1), image]
    return replace(degrade(shots, faces, rng, clear=part.clear), large=large), False


def make_shard(recipe: Recipe, part: Shards, number: int, sources: Sources, teacher: torch.nn.Module) -> None:
    """Write shard `number` of `part`, whole or not at all."""
    folder = recipe.cache / part.folder
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{number:03d}.npz"
    if target.exists():
        return
    rng = np.random.default_rng([recipe.seed, part.side, number, *part.name.encode()])
    scenes, made, taught = [], [], []
    for start in range(0, part.per_shard, 8):
        batch = [one_image(sources, part, rng) for _ in range(min(8, part.per_shard - start))]
        scenes += [scene for scene, _ in batch]
        made += [is_made for _, is_made in batch]
        outputs = teach(teacher, [scene for scene, _ in batch], [is_made for _, is_made in batch])
        outputs["t_image"] = outputs["t_image"] + np.int32(start)
        taught.append(outputs)
    counts = np.array([len(scene.faces) for scene in scenes])
    truth: dict[str, Any] = {
        "image": np.repeat(np.arange(len(scenes)), counts),
        "xyxy": np.concatenate([scene.faces.xyxy for scene in scenes]),
        "points": np.concatenate([scene.faces.points for scene in scenes]),
        "made": np.array(made),
    }
    np.save(folder / f"{number:03d}.npy", np.stack([scene.seen for scene in scenes]))
    np.save(folder / f"{number:03d}-clean.npy", np.stack([scene.clean for scene in scenes]))
    with (folder / f"{number:03d}.part").open("wb") as file:
        joined: dict[str, Any] = {key: np.concatenate([t[key] for t in taught]) for key in taught[0]}
        np.savez(file, **truth, **joined)
    os.replace(folder / f"{number:03d}.part", target)


_worker: dict[str, object] = {}


def start_worker(recipe: Recipe) -> None:
    """One thread per process, and its own copy of the sources."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _worker.update(recipe=recipe, sources=read_sources(recipe), teacher=load_teacher(recipe.teacher))


def work(task: tuple[Shards, int]) -> str:
    """One shard in a worker process."""
    make_shard(_worker["recipe"], task[0], task[1], _worker["sources"], _worker["teacher"])  # type: ignore[arg-type]
    return f"{task[0].folder}/{task[1]:03d}"


def make_all(recipe: Recipe, workers: int) -> Iterator[str]:
    """Every shard that is not there yet, the parts in turn; yields the name of each as it is done."""
    prepare(recipe)
    tasks = [(part, n) for part in recipe.parts for n in range(part.shards)]
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker, initargs=(recipe,)) as pool:
        yield from pool.map(work, tasks)


def read_shard(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, NDArray[Any]]]:
    """A shard's images as seen and clean, mapped from the disk, and everything else by its column."""
    with np.load(path) as held:
        seen, clean = (np.load(path.with_name(f"{path.stem}{end}.npy"), mmap_mode="r") for end in ("", "-clean"))
        old = {"t_sure": "t_box_score"}
        return seen, clean, {old.get(key, key): value for key, value in held.items()}


__all__ = ["Sources", "make_all", "make_shard", "prepare", "read_people", "read_places", "read_shard"]
