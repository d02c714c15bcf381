"""The trained detector as an ONNX file with its card, checked against the network it came from.

Batch, height and width are dynamic; non-maximum suppression stays outside. Weights are stored as float16 where the
detections stay the same, and cast to float32 by the graph, so every provider computes in float32.
"""

import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from stream_enhance.backends.card import Card, weights_sha256, write_card
from train.common.command import ExportDiffers, json_object
from train.common.git import commit
from train.common.onnx_export import store_half, to_onnx
from train.detector.eval.evaluate import load_set
from train.detector.recipe import Recipe
from train.detector.trainer import network_of

PIXELS, SCORE = 0.5, 0.01  # how far ONNX and torch may differ
FLOOR = 0.05  # cells that score less are no detections, and are not compared in pixels


def write_onnx(
    checkpoint: Path, target: Path, recipe: Recipe | None = None, results: Path | None = None, size: int = 640
) -> Card:
    """Export the averaged weights in `checkpoint` to `target`; the card as written.

    `recipe` replaces the checkpoint's own for the card and the shift of the scores; `results` is a summary.json of the
    evaluation, for the card. `size` is the default input side in pixels.
    """
    network, trained_by = network_of(checkpoint)  # first: without it nothing else matters
    recipe = recipe or trained_by
    metrics = json_object(results, "a summary.json of `python -m train.detector eval`") if results else {}
    card = Card(
        name=target.stem,
        task="face-detection",
        size=size,
        dynamic=True,
        points=5,
        license=recipe.card.license,
        data=recipe.card.data,
        recipe=f"{recipe.network}, started from {recipe.origin or 'random weights'}",
        commit=commit(),
        weights_sha256="",
        weaknesses=recipe.card.weaknesses,
        metrics=metrics,
    )
    samples = [image for image, _ in load_set(recipe, "made")[:4]]
    images = np.stack([cv2.resize(p, (size, size), interpolation=cv2.INTER_AREA) for p in samples])
    for branch in network.model[-1].cv3:
        branch[-1].bias.data += recipe.score_shift
    return export(network, target, card, images.astype(np.uint8))


def export(model: nn.Module, target: Path, card: Card, images: NDArray[np.uint8]) -> Card:
    """Write `model` to `target`; the card as written, with the weights' digest.

    `images` (n, S, S, 3) uint8 RGB are what torch and ONNX are compared on. Raises ExportDiffers, and writes nothing,
    where they differ by more than half a pixel or a hundredth of score.
    """
    fused = to_export(model)
    exact = trace(fused, card.size)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        wanted = fused(x.contiguous()).numpy()
    small = store_half(exact, 512)
    lost = differences(wanted, run(small, x.numpy()))
    graph = small if lost[0] <= PIXELS / 2 and lost[1] <= SCORE / 2 else exact
    pixels, score = differences(wanted, run(graph, x.numpy()))
    if not (pixels <= PIXELS and score <= SCORE):
        raise ExportDiffers(f"{target}: ONNX and torch differ by {pixels:.3f} px and {score:.4f} in score; not written")
    stored = graph is small
    metrics = card.metrics | {"parity": {"pixels": pixels, "score": score, "float16_storage": stored}}
    card = card.model_copy(update={"weights_sha256": weights_sha256(graph), "metrics": metrics})
    write_card(graph, card)
    onnx.checker.check_model(graph)
    target.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(graph, str(target))
    return card


def to_export(model: Any) -> nn.Module:
    """A copy of `model` with batch norms folded and a head that gives (n, 20, cells)."""
    fused = copy.deepcopy(model).float().cpu().eval().fuse(verbose=False)
    head = fused.model[-1]
    head.export, head.dynamic, head.format = True, True, "onnx"
    return fused


def trace(model: nn.Module, size: int) -> onnx.ModelProto:
    """The graph, with dynamic batch, height and width."""
    axes = {"images": {0: "batch", 2: "height", 3: "width"}, "output0": {0: "batch", 2: "cells"}}
    return to_onnx(model, torch.zeros(1, 3, size, size), ("images", "output0"), axes)


def run(graph: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The graph's output for x (n, 3, S, S), computed on the CPU."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": np.ascontiguousarray(x)})[0]


def differences(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> tuple[float, float]:
    """The largest difference in pixels, of boxes and points of cells that detect something, and in score."""
    score = float(np.abs(wanted[:, 4] - got[:, 4]).max())
    hit = np.broadcast_to((wanted[:, 4] > FLOOR)[:, None], wanted.shape)
    apart = np.where(hit, np.abs(wanted - got), 0)
    pixels = np.delete(apart, [4, 7, 10, 13, 16, 19], axis=1)
    return float(pixels.max()), score
