"""Clips to learn from, as the runtime sees a track: aligned patches, the way to each from the last, the running mean.

`ClipSamples` reads what `python -m train.enhancer clips` wrote. The cut with a detector's jitter, the mirror and the
light are drawn each time, alike for all frames of a clip.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.errors import InputError
from stream_enhance.stages.past import Past
from stream_enhance.stages.steady import motion_of, thumb_of
from train.common.images import Image
from train.degrade import in_light
from train.enhancer.data import Pair, augmented, detected, jostled, pair_of, points_in

CORRELATED = 0.7  # of a detector's error with that of the frame before


@dataclass(frozen=True)
class Sample:
    """One track of T frames."""

    low: Image  # (T, S, S, 3) RGB
    clean: Image  # (T, S, S, 3) RGB
    mean: Image  # (T, S/2, S/2, 3) RGB: of the inputs so far, carried to this one
    count: NDArray[np.float32]  # (T, 64, 64): inputs in the mean
    flow: NDArray[np.float32]  # (T, 64, 64, 2) cells x, y: from this input to the last
    kept: NDArray[np.float32]  # (T, 64, 64) 0..1: how much of the past holds; 0 on the first frame
    face_px: float


class ClipSamples:
    """The clips of several folders."""

    def __init__(self, folders: Sequence[Path], size: int = 256, augment: bool = True):
        self.size, self.augment = size, augment
        self.images, self.clean, self.frames, self.rows = [], [], [], []
        for number, folder in enumerate(folders):
            files = sorted(folder.glob("clips_*.npz"))
            if not files or not (folder / "images.json").exists():
                raise InputError(
                    f"{folder}: no clips here; make them with "
                    f"`python -m train.enhancer clips --faces DIR --out {folder}`"
                )
            self.images.append(json.loads((folder / "images.json").read_text()))
            self.clean.append(np.load(folder / "images.npy", mmap_mode="r"))
            for file in files:
                with np.load(file) as opened:
                    table = {key: opened[key] for key in opened.files}
                self.frames.append(np.load(file.with_suffix(".npy"), mmap_mode="r"))
                self.rows += [
                    (number, len(self.frames) - 1, {key: column[k] for key, column in table.items()})
                    for k in range(len(table["side"]))
                ]

    def __len__(self) -> int:
        return len(self.rows)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """Clip `index`; all that is drawn is drawn from `rng`."""
        home, file, row = self.rows[index]
        count, side, start = len(row["images"]), int(row["side"]), int(row["start"])
        flat = self.frames[file][start : start + count * side * side * 3]
        frames = np.asarray(flat).reshape(count, side, side, 3)
        errors, seeds = self.jitter(count, float(row["face_px"]), rng), rng.integers(0, 2**32, 2)
        pairs = []
        for t in range(count):
            clean, true = self.image(home, int(row["images"][t]))
            points = points_in(row["to_clean"][t], true) + errors[t]
            if self.augment:
                points = jostled(points, np.random.default_rng(seeds[0]))
            pair = pair_of(frames[t], clean, row["to_clean"][t], points, self.size)
            pair = Pair(pair.low, in_light(pair.clean, float(row["gamma"]), bool(row["mono"])), pair.points)
            pairs.append(augmented(pair, np.random.default_rng(seeds[1]), self.augment))
        return tracked([p.low for p in pairs], [p.clean for p in pairs], float(row["face_px"]))

    def image(self, home: int, index: int) -> tuple[Image, NDArray[np.float32]]:
        """A clean image (H, W, 3) and its five points (5, 2)."""
        entry = self.images[home][index]
        h, w = entry["shape"]
        flat = np.asarray(self.clean[home][entry["start"] : entry["start"] + h * w * 3])
        return flat.reshape(h, w, 3), np.array(entry["points"], np.float32)

    def jitter(self, count: int, face_px: float, rng: np.random.Generator) -> NDArray[np.float32]:
        """(count, 5, 2) pixels: a detector's errors, alike from frame to frame."""
        nothing = np.zeros((5, 2), np.float32)
        errors = [detected(nothing, face_px, rng)]
        for _ in range(count - 1):
            errors.append(CORRELATED * errors[-1] + np.sqrt(1 - CORRELATED**2) * detected(nothing, face_px, rng))
        return np.stack(errors).astype(np.float32)


def tracked(low: Sequence[Image], clean: Sequence[Image], face_px: float) -> Sample:
    """The patches of one track with what the runtime would remember at each."""
    past = Past.of(low[0])
    means, counts, flows, kept = [past.mean], [past.count], [np.zeros((*past.count.shape, 2), np.float32)], []
    kept.append(np.zeros_like(past.count))
    thumbs = [thumb_of(patch) for patch in low]
    for t in range(1, len(low)):
        motion = motion_of(thumbs[t - 1], thumbs[t])
        if motion is None:
            past = Past.of(low[t])
            flows.append(np.zeros_like(flows[0]))
            kept.append(np.zeros_like(past.count))
        else:
            past.add(low[t], motion)
            flows.append(motion.flow)
            kept.append(1 - motion.change)
        means.append(past.mean)
        counts.append(past.count)
    mean = np.stack([cv2.convertScaleAbs(m) for m in means]).astype(np.uint8)
    return Sample(np.stack(low), np.stack(clean), mean, np.stack(counts), np.stack(flows), np.stack(kept), face_px)
