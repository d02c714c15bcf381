"""From an fp32 model file to the 8-bit file beside it, with a card that says what that cost.

The 8-bit file names the fp32 file by its SHA-256, and the product refuses one that was made from another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from stream_enhance.backends.card import Card, file_sha256, read_card, weights_sha256, write_card
from train.common.command import ExportDiffers
from train.common.git import commit
from train.common.images import Image
from train.quantize.graph import ends, layers, prepared, with_bytes
from train.quantize.integers import METHODS, Floats, Method, quantised, ranges, run, session_of
from train.quantize.material import Material
from train.quantize.sensitivity import Error, alone, answers, chosen_floats, to_batch

SEEN = 0.1  # score from which a detector's cell counts
SAME = 1e-3  # how far the prepared graph may be from the source: pixels, levels of 0..1


@dataclass(frozen=True)
class Plan:
    """What is particular to a network."""

    error: Error
    most: float  # of the error, on images that measured no range; layers are taken back to float32 until it is met
    keep_ends: bool  # whether the last layers stay in float32 from the start
    images_out: bool  # whether it gives images


def level_error(exact: Sequence[Floats], others: Sequence[Floats]) -> float:
    """Root mean square difference of patches in 0..1, mean over patches in decibels."""
    squares = [max(float(((a - b) ** 2).mean()), 1e-12) for a, b in zip(exact, others, strict=True)]
    return float(10 ** (np.log10(squares).mean() / 2))


def score_error(exact: Sequence[Floats], others: Sequence[Floats]) -> float:
    """Root mean square difference of the scores of cells that either sees a face in; answers are (1, 20, cells)."""
    pairs = [(a[0, 4], b[0, 4]) for a, b in zip(exact, others, strict=True)]
    apart = np.concatenate([(a - b)[(a > SEEN) | (b > SEEN)] for a, b in pairs])
    return float(np.sqrt((apart**2).mean())) if len(apart) else 0.0


ENHANCER = Plan(level_error, 10 ** (-50 / 20), keep_ends=False, images_out=True)  # 50 dB
DETECTOR = Plan(score_error, 0.03, keep_ends=True, images_out=False)


def make(
    source: Path,
    target: Path,
    material: Material,
    plan: Plan,
    methods: Sequence[Method] = METHODS,
    say: Callable[[str], object] = print,
) -> Card:
    """Write the 8-bit file of `source` to `target`; its card.

    Args:
        material: images to measure ranges on, and others to choose by.
        methods: ways to choose ranges; the one with the least error is taken.
        say: is given a line on each step.

    Raises:
        ExportDiffers: the prepared graph, still in float32, does not give what `source` gives.
    """
    model = prepared(source)
    measured, checked = ([to_batch(image) for image in images] for images in (material.measure, material.check))
    exact = answers(onnx.load(str(source)), checked)
    apart = max(float(np.abs(a - b).max()) for a, b in zip(exact, answers(model, checked), strict=True))
    if not apart <= SAME:
        raise ExportDiffers(f"{source}: the prepared graph differs by {apart:.5f}; not written")
    kept = ends(model.graph) if plan.keep_ends else []
    errors = {}
    for method in methods:
        found = ranges(model, measured, method)
        errors[method] = plan.error(exact, answers(quantised(model, found, kept), checked))
        say(f"{method}: error {errors[method]:.5f}")
    best = min(errors, key=lambda name: errors[name])
    found = ranges(model, measured, best) if best != method else found
    error, floats = errors[best], kept
    if error > plan.most:
        worst = {layer: e for layer, e in alone(model, found, checked, plan.error).items() if layer not in kept}
        more, error = chosen_floats(model, found, checked, plan.error, worst, plan.most, kept)
        floats = [*kept, *more]
        say(f"in float32: {', '.join(floats)}; error {error:.5f}")
    graph = quantised(model, found, floats)
    with_bytes(graph, plan.images_out)
    figures = {
        "ranges": best,
        "errors": {name: round(value, 5) for name, value in errors.items()},
        "error": round(error, 5),
        "layers": len(layers(model.graph)),
        "layers in float32": floats,
        "images measured": len(measured),
        "commit": commit(),
    }
    card = card_of(read_card(source), graph, file_sha256(source), figures)
    write_card(graph, card)
    onnx.checker.check_model(graph)
    same_as_before(graph, plan, material.check[:4], answers(quantised(model, found, floats), checked[:4]))
    onnx.save(graph, str(target))
    return card


def card_of(card: Card, graph: onnx.ModelProto, source: str, figures: dict[str, Any]) -> Card:
    """The fp32 file's card for the 8-bit file."""
    changes = {
        "precision": "int8",
        "input_type": "uint8",
        "source_sha256": source,
        "weights_sha256": weights_sha256(graph),
        "metrics": card.metrics | {"int8": figures},
    }
    return Card.model_validate(card.model_dump() | changes)


def same_as_before(graph: onnx.ModelProto, plan: Plan, images: Sequence[Image], wanted: Sequence[Floats]) -> None:
    """Raise ExportDiffers where `graph`, on bytes, does not give what it gave on floats."""
    session = session_of(graph)
    given = [run(session, image[None]) for image in images]
    if plan.images_out:
        given = [patch.transpose(0, 3, 1, 2).astype(np.float32) / 255 for patch in given]
    most = 1.01 / 255 if plan.images_out else 0.01
    rows = slice(None) if plan.images_out else slice(4, 5)  # of a detector: scores
    apart = max(float(np.abs(a[:, rows] - b[:, rows]).max()) for a, b in zip(given, wanted, strict=True))
    if not apart <= most:
        raise ExportDiffers(f"bytes in the place of floats changed the result by {apart:.4f}; not written")
