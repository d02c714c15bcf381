"""Shards of drawn discs that are called faces, and a recipe of four steps for them."""

from pathlib import Path

import cv2
import numpy as np

from train.detector.recipe import Recipe

SIDE = 64


def write_shard(cache: Path, count: int = 16) -> None:
    """Grey images with one bright disc each, called a face; the teacher fires on its middle cell."""
    rng = np.random.default_rng(0)
    images = np.full((count, SIDE, SIDE, 3), 90, np.uint8)
    centres = rng.integers(20, 44, (count, 2))
    for image, (x, y) in zip(images, centres, strict=True):
        cv2.circle(image, (int(x), int(y)), 10, (220, 180, 150), -1)
    boxes = np.concatenate([centres - 10, centres + 10], 1).astype(np.float32)
    offsets = np.array([[-4, -3], [4, -3], [0, 0], [-3, 4], [3, 4]])
    points = np.concatenate([centres[:, None] + offsets, np.ones((count, 5, 1))], 2).astype(np.float32)
    cells = centres[:, 1] // 8 * (SIDE // 8) + centres[:, 0] // 8
    folder = cache / str(SIDE)
    folder.mkdir(parents=True)
    np.save(folder / "000.npy", images)
    np.save(folder / "000-clean.npy", np.minimum(images, 200))
    np.savez(
        folder / "000.npz",
        image=np.arange(count),
        xyxy=boxes,
        points=points,
        weight=np.where(np.arange(count) == 3, 0, 1).astype(np.float32),
        made=np.ones(count, bool),
        t_image=np.arange(count, dtype=np.int32),
        t_cell=cells.astype(np.int32),
        t_score=np.full(count, 0.8, np.float16),
        t_box_score=np.full(count, 0.7, np.float16),
        t_boxes=rng.normal(size=(count, 64)).astype(np.float16),
        t_kpts=rng.normal(size=(count, 15)).astype(np.float16),
    )


def recipe(folder: Path, **changes: object) -> Recipe:
    """A run of four steps."""
    values: dict[str, object] = {
        "network": "yolov8n-pose.yaml",
        "start": None,
        "teacher": "none",
        "yunet": "none",
        "detect": folder,
        "faces": folder,
        "face_sets": [],
        "backgrounds": folder,
        "held_backgrounds": [],
        "cache": folder / "cache",
        "parts": [],
        "stages": [{"side": SIDE, "images": 16, "batch": 8, "frozen": 2}, {"side": SIDE, "images": 8, "batch": 4}],
        "learning_rate": 0.001,
        "warmup": 1,
        "weight_decay": 0.0005,
        "average": 0.9,
        "teacher_weight": 1.0,
        "teacher_scores": 1.0,
        "gains": {"box": 7.5, "cls": 0.5, "dfl": 1.5, "pose": 6.0, "kobj": 0.5},
        "threads": 1,
        "save_every": 2,
    }
    return Recipe.model_validate(values | changes)
