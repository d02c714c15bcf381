"""What a detector's score is worth: Platt's sigmoid on the score's logit, fitted on clips labelled by eye.

One function for float32, float16 and int8 files alike: each is fitted on its own detections. The error that is given is
of clips that the fit has not seen.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_enhance.backends import open_session
from stream_enhance.backends.card import Card, file_sha256, probability, read_card, write_card
from stream_enhance.errors import InputError
from train.detector.eval.labelled import read_all
from train.detector.eval.line import FrameResult, on_frames
from train.detector.eval.on_clips import detections
from train.detector.eval.track_measure import find

BINS = 10
LEAST = 0.2  # score from which the product uses a detection: the error is given from there on


def fit(score: NDArray[np.float32], right: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset of the most likely sigmoid, by Newton's method. Raises InputError where all are alike."""
    if not 0 < right.sum() < len(right):
        raise InputError("all detections are right, or all wrong: nothing to calibrate by; add labelled clips")
    kept = np.clip(score.astype(np.float64), 1e-4, 1 - 1e-4)
    design = np.stack([np.log(kept / (1 - kept)), np.ones(len(kept))], 1)  # (n, 2)
    weights = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ weights))
        curve = (design * (p * (1 - p))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(curve, design.T @ (right - p))
        weights = weights + step
        if np.abs(step).max() < 1e-8:
            break
    return float(weights[0]), float(weights[1])


def calibration_error(p: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """Expected calibration error over ten equal bins (Guo et al., ICML 2017); NaN where there is nothing."""
    if not len(p):
        return float("nan")
    at = np.minimum((p * BINS).astype(int), BINS - 1)
    apart = [abs(float(p[at == b].sum()) - float(right[at == b].sum())) for b in range(BINS)]
    return sum(apart) / len(p)


def held_out(results: Sequence[FrameResult], card: Card) -> list[NDArray[np.float32]]:
    """The probabilities of each clip's detections by a fit to all other clips."""
    out = []
    for number, one in enumerate(results):
        others = [r for i, r in enumerate(results) if i != number]
        sigmoid = fit(np.concatenate([r.score for r in others]), np.concatenate([r.right for r in others]))
        found = probability(card.model_copy(update={"calibration": sigmoid}), one.score)
        assert found is not None
        out.append(found)
    return out


def calibrate_file(model: Path, folders: Sequence[Path], labels: Path, size: int, out: Path) -> str:
    """Fit the model's scores on all labelled clips and write them into its card; what was found, in one line."""
    card = read_card(model)
    clips = read_all(labels)
    session = open_session(model, "face-detection", "cpu", threads=1)
    results = [
        on_frames(clip, detections(out / "detections", find(clip.name, folders), model.stem, size, lambda: session))
        for clip in clips
    ]
    score, right = np.concatenate([r.score for r in results]), np.concatenate([r.right for r in results])
    slope, offset = fit(score, right)
    unseen, used = np.concatenate(held_out(results, card)), score >= LEAST
    rewrite(model, {"calibration": (round(slope, 3), round(offset, 3))})
    return (
        f"{model}: slope {slope:.3f}, offset {offset:.3f} from {len(score)} detections of {len(clips)} clips;"
        f" calibration error from score {LEAST} on, on clips left out:"
        f" {calibration_error(unseen[used], right[used]):.3f}"
        f" (scores as they are: {calibration_error(score[used], right[used]):.3f})"
    )


def rewrite(model: Path, changes: dict[str, object]) -> None:
    """Change the card of the model file; an 8-bit file beside it that was made from it stays its own."""
    import onnx

    before = file_sha256(model)
    graph = onnx.load(str(model))
    write_card(graph, read_card(model).model_copy(update=changes))
    onnx.save(graph, str(model))
    reduced = model.with_name(f"{model.stem}.int8.onnx")
    if reduced.is_file() and read_card(reduced).source_sha256 == before:
        rewrite(reduced, {"source_sha256": file_sha256(model)})
