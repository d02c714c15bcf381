"""Faces of real clips labelled by eye: `labels/*.csv`, one file a clip, numbers only.

A row is one head in one frame: a *face* that can be seen, a *head* without one, or *unclear*, which counts neither as
right nor as wrong. `judged` rows were looked at; the others lie between them on the same person's path and have their
kind from the nearest. docs/reports/detector.md says how they were made.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_enhance.errors import InputError

FOLDER = Path(__file__).parent / "labels"
COLUMNS = ("frame", "seconds", "person", "kind", "pose", "x1", "y1", "x2", "y2", "luma", "judged")
KINDS = ("face", "head", "unclear")
POSES = ("frontal", "three-quarter", "profile", "bowed")


@dataclass(frozen=True)
class LabelledClip:
    """The labels of one clip, one row a head and frame, frames increasing."""

    name: str  # the clip's file name without its suffix
    frame: NDArray[np.int64]  # (n,)
    seconds: NDArray[np.float64]  # (n,) stream time
    person: NDArray[np.str_]  # (n,) who it is: the same in every frame
    kind: NDArray[np.str_]  # (n,) one of KINDS
    pose: NDArray[np.str_]  # (n,) one of POSES for faces, else empty
    xyxy: NDArray[np.float32]  # (n, 4) frame pixels
    luma: NDArray[np.float32]  # (n,) mean luma in the box, 0..255
    judged: NDArray[np.bool_]  # (n,)

    def take(self, which: NDArray[Any]) -> "LabelledClip":
        """The rows at `which`: a mask or indices."""
        columns = (self.frame, self.seconds, self.person, self.kind, self.pose, self.xyxy, self.luma, self.judged)
        return LabelledClip(self.name, *(column[which] for column in columns))


def read_clip(path: Path) -> LabelledClip:
    """The labels in the CSV file at `path`. Raises InputError naming the line that cannot be read."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of labels") from None
    for number, row in enumerate(rows, 2):
        if tuple(row) != COLUMNS or row["kind"] not in KINDS or row["pose"] not in ("", *POSES):
            raise InputError(f"{path}:{number}: not a label; want {','.join(COLUMNS)}")
    try:
        boxes = np.array([[float(row[k]) for k in ("x1", "y1", "x2", "y2")] for row in rows], np.float32)
        return LabelledClip(
            path.stem,
            np.array([int(row["frame"]) for row in rows], np.int64),
            np.array([float(row["seconds"]) for row in rows]),
            np.array([row["person"] for row in rows], np.str_),
            np.array([row["kind"] for row in rows], np.str_),
            np.array([row["pose"] for row in rows], np.str_),
            boxes.reshape(-1, 4),
            np.array([float(row["luma"]) for row in rows], np.float32),
            np.array([row["judged"] == "1" for row in rows], bool),
        )
    except ValueError as error:
        raise InputError(f"{path}: a number cannot be read ({error}); correct the file") from None


def read_all(folder: Path = FOLDER) -> list[LabelledClip]:
    """Every labelled clip in `folder`, by name. Raises InputError where there is none."""
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise InputError(f"{folder}: no labels (*.csv); name their folder with --labels")
    return [read_clip(path) for path in paths]
