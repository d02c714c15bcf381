"""The detectors measured: ours, the teacher, YuNet, NudeNet, Haar, on three sets at three input sizes.

Detections are kept in a folder, one file per detector, set and size, so that what is there is not computed again and
a detector that needs another OpenCV (Haar) can be measured apart and reported together.
"""

import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_enhance.errors import InputError
from train.common.images import Image, read_image
from train.detector.boxes import Labels, read_list, read_yolo
from train.detector.data.make import station_list
from train.detector.eval import metrics
from train.detector.eval.peers import Finder
from train.detector.recipe import Recipe

SIDES = (320, 480, 640)
SETS = ("val", "station", "made")
MADE, MADE_SIDE, MADE_FACES, MADE_SEED = 240, 640, (8.0, 130.0), 20_000

Sample = tuple[Image, Labels]


def load_set(recipe: Recipe, name: str) -> list[Sample]:
    """Images and faces of one of SETS. The made one is made once and kept in the recipe's cache."""
    if name == "made":
        return made_set(recipe)
    if name not in SETS:
        raise InputError(f"{name}: no such set; there are {', '.join(SETS)}")
    samples = []
    for path in station_list(recipe, learnt=False) if name == "station" else read_list(recipe.detect / "val.txt"):
        image = read_image(path)
        samples.append(
            (image, read_yolo(recipe.detect / "labels" / f"{path.stem}.txt", image.shape[1], image.shape[0]))
        )
    return samples


def made_set(recipe: Recipe) -> list[Sample]:
    """Made surveillance images with people and places that no training image holds; exact ground truth."""
    kept = recipe.cache / "made_eval.pickle"
    if not kept.exists():
        from train.detector.data.make import read_people, read_places, save
        from train.detector.data.scenes import make

        people, places = read_people(recipe, held=True), read_places(recipe, held=True)
        samples = []
        for number in range(MADE):
            rng = np.random.default_rng([MADE_SEED, number])
            scene = make(places, people, rng, MADE_SIDE, MADE_FACES)
            samples.append((scene.seen, scene.faces))
        save(kept, samples)
    return list(pickle.loads(kept.read_bytes()))[:MADE]


def detect(
    folder: Path,
    detector: str,
    name: str,
    side: int,
    samples: Callable[[], Sequence[Sample]],
    finder: Callable[[], Finder],
) -> list[NDArray[np.float32]]:
    """Detections of every image, from the folder or computed and put there."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{detector}_{name}_{side}.npz"
    if not kept.exists():
        find = finder()
        rows = [find(image, side) for image, _ in samples()]
        columns: dict[str, Any] = {f"{i:05d}": row for i, row in enumerate(rows)}
        np.savez_compressed(kept, **columns)
    with np.load(kept) as held:
        return [held[key] for key in sorted(held.files)]


def measure(rows: Sequence[NDArray[np.float32]], samples: Sequence[Sample]) -> metrics.Pool:
    """All images judged."""
    return metrics.pool([metrics.judge(row, truth) for row, (_, truth) in zip(rows, samples, strict=True)])


def evaluate(
    recipe: Recipe,
    folder: Path,
    finders: dict[str, Callable[[], Finder]],
    names: Sequence[str] = SETS,
    sides: Sequence[int] = SIDES,
) -> dict[str, metrics.Pool]:
    """Every detector's outcomes by "detector/set/side"."""
    pools = {}
    for name in names:
        samples: list[Sample] = load_set(recipe, name)
        for detector, finder in finders.items():
            for side in sides:
                rows = detect(folder, detector, name, side, partial(list, samples), finder)
                pools[f"{detector}/{name}/{side}"] = measure(rows, samples)
    return pools


def summary(pools: dict[str, metrics.Pool], rounds: int = 300) -> dict[str, dict[str, Any]]:
    """Figures and 95 % intervals of every pool, ready for JSON."""
    return {
        key: {"figures": metrics.figures(held), "interval": metrics.intervals(held, rounds)}
        for key, held in pools.items()
    }


def save_summary(path: Path, result: Mapping[str, object]) -> None:
    """Write `result` as JSON with three decimals."""
    text = json.dumps(result, default=float)
    path.write_text(json.dumps(json.loads(text, parse_float=lambda v: round(float(v), 4)), indent=1) + "\n")
