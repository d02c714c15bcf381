"""What half precision does to the results of a network, beside float32 on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from . import open_session
from .torch_session import TorchSession

_LEAST_DB = 60.0
_BOX, _SCORE, _FACE = 1.0, 0.01, 0.4  # pixels, of a score, and the score from which a cell counts


class Parity(NamedTuple):
    """What was found, in words, and whether it is good enough."""

    text: str
    good: bool


def compare(path: Path, task: str, count: int, device: str) -> Parity:
    """Run ``count`` made images through ``path`` in float32 (onnxruntime) and in half (torch on ``device``).

    Raises:
        ModelError: the model, torch or the device cannot be used.
    """
    worst = []
    with (
        open_session(path, task, "cpu", precision="fp32") as exact,
        TorchSession(path, task, "fp16", device) as half,
    ):
        shape = (exact.card.size, exact.card.size) if task == "face-enhancement" else (288, 480)
        for seed in range(count):
            batch = _image(seed, shape)
            worst.append(_difference(task, exact(batch), half(batch)))
    figures = np.array(worst)
    if task == "face-enhancement":
        least = float(figures.min())
        return Parity(f"{least:.1f} dB at least over {count} patches", least >= _LEAST_DB)
    box, score, changed = figures.max(0)
    text = f"boxes within {box:.2f} pixels, scores within {score:.4f}, {changed:.0f} faces more or fewer"
    return Parity(text, box <= _BOX and score <= _SCORE and changed == 0)


def _image(seed: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """(1, 3, H, W) in 0..1: smooth colours with edges, another for each seed."""
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.random((*shape, 3), dtype=np.float32), (0, 0), rng.uniform(2, 12))
    image = (image - image.min()) / np.ptp(image)
    centre = (int(shape[1] * rng.uniform(0.3, 0.7)), int(shape[0] * rng.uniform(0.3, 0.7)))
    axes = (int(shape[0] * rng.uniform(0.1, 0.25)), int(shape[0] * rng.uniform(0.15, 0.3)))
    cv2.ellipse(image, centre, axes, 0, 0, 360, rng.random(3).tolist(), -1, cv2.LINE_AA)
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def _difference(task: str, exact: NDArray[np.float32], half: NDArray[np.float32]) -> tuple[float, ...]:
    if task == "face-enhancement":
        return (float(-10 * np.log10(max(float(((exact - half) ** 2).mean()), 1e-12))),)
    found = exact[:, 4] > _FACE  # (n, cells)
    boxes = np.abs(exact[:, :4] - half[:, :4]).max(1)[found] if found.any() else np.zeros(1)
    changed = abs(int(found.sum()) - int((half[:, 4] > _FACE).sum()))
    return float(boxes.max()), float(np.abs(exact[:, 4] - half[:, 4]).max()), float(changed)
