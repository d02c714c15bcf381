"""Tables, a plot and images of what the detectors find."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from train.common.images import Image
from train.detector.eval.clips import Tally, at
from train.detector.eval.metrics import BUCKETS

Summary = dict[str, Any]  # "detector/set/side" -> {"figures": ..., "interval": ...}


def overall(summary: Summary, name: str) -> str:
    """One set's table: a row per detector and input side."""
    lines = [
        "| detector | input | AP50 | AP50–95 | recall at 0.1 FP/image | point error / eye distance |",
        "|---|---|---|---|---|---|",
    ]
    for key, held in summary.items():
        detector, which, side = key.split("/")
        if which == name:
            cells = [cell(held, "all", what) for what in ("ap50", "ap", "recall", "points")]
            lines.append(f"| {detector} | {side} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def by_size(summary: Summary, name: str, what: str) -> str:
    """One set's table of `what` (ap50, recall, points) by box height: a row per detector and input side."""
    sizes = [bucket for bucket in BUCKETS if bucket != "all"]
    head = "| detector | input | " + " | ".join(f"{s} px" for s in sizes) + " |"
    lines = [head, "|---" * (len(sizes) + 2) + "|"]
    for key, held in summary.items():
        detector, which, side = key.split("/")
        if which == name:
            lines.append(f"| {detector} | {side} | " + " | ".join(cell(held, s, what) for s in sizes) + " |")
    return "\n".join(lines)


def cell(held: dict[str, Any], bucket: str, what: str) -> str:
    """A figure with its interval, or a dash."""
    value = held["figures"].get(bucket, {}).get(what)
    if value is None or np.isnan(value):
        return "–"
    ends = held["interval"].get(bucket, {}).get(what)
    return f"{value:.3f}" + (f" ({ends[0]:.2f}–{ends[1]:.2f})" if ends else "")


def clips_table(rows: Sequence[dict[str, Any]]) -> str:
    """The real clips: one row per clip, input side and detector."""
    lines = [
        "| clip | input | detector | threshold | reference faces | recall | false alarms a frame "
        "| lost frame to frame |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ends = row.get("interval")
        recall = f"{row['recall']:.3f}" + (f" ({ends[0]:.2f}–{ends[1]:.2f})" if ends else "")
        lines.append(
            f"| {row['clip']} | {row['side']} | {row['detector']} | {row['score']:.2f} | {row['faces']:.0f} |"
            f" {recall} | {row['alarms']:.2f} | {row['breaks']:.3f} |"
        )
    return "\n".join(lines)


def tracks_table(
    chains: dict[tuple[int, str], list[dict[str, float]]], bars: dict[str, float], most: float = 100
) -> str:
    """How well the tracker follows reference faces on each detector's detections: a row per input side and detector,
    over the clips that have at most `most` chains."""
    lines = [
        "| input | detector | threshold | faces followed | frames covered | tracks a face | breaks a face |",
        "|---|---|---|---|---|---|---|",
    ]
    for (side, detector), clips in chains.items():
        some = [clip for clip in clips if clip["chains"] <= most]
        count, frames, any_ = (sum(clip[key] for clip in some) for key in ("chains", "frames", "found"))
        covered = sum(clip["covered"] * clip["frames"] for clip in some) / max(frames, 1)
        breaks = sum(clip["breaks"] * clip["chains"] for clip in some) / max(count, 1)
        tracks = sum(clip["tracks"] * clip["found"] for clip in some) / max(any_, 1)
        lines.append(
            f"| {side} | {detector} | {bars[detector]:.2f} | {any_:.0f} of {count:.0f} | {covered:.3f} |"
            f" {tracks:.3f} | {breaks:.3f} |"
        )
    return "\n".join(lines)


def plot_clips(tallies: dict[tuple[int, str], dict[str, list[Tally]]], path: Path, most: int = 1000) -> None:
    """Recall of reference faces over false alarms a frame, as the threshold falls, over the clips with at most `most`
    of them: one panel an input side, one line a detector."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    sides = sorted({side for side, _ in tallies})
    figure, axes = plt.subplots(1, len(sides), figsize=(4.6 * len(sides), 3.6), sharey=True, squeeze=False)
    for axis, side in zip(axes[0], sides, strict=True):
        for (at_side, detector), clips in tallies.items():
            if at_side != side:
                continue
            held = [t for clip in clips.values() if sum(len(t.found) for t in clip) <= most for t in clip]
            points = [at(held, score) for score in np.linspace(0.95, 0.05, 91)]
            axis.plot([max(p["alarms"], 0.003) for p in points], [p["recall"] for p in points], label=detector)
        axis.set_xscale("log")
        axis.set_xlim(0.003, 10)
        axis.set_xlabel("false alarms a frame")
        axis.set_title(f"input {side}")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("recall of reference faces")
    axes[0][-1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot(summary: Summary, path: Path) -> None:
    """Recall at 0.1 false alarms an image by face size, on the made set, at each input side, with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    sizes = [bucket for bucket in BUCKETS if bucket != "all"]
    sides = sorted({key.split("/")[2] for key in summary if "/made/" in key}, key=int)
    figure, axes = plt.subplots(1, len(sides), figsize=(4.2 * len(sides), 3.6), sharey=True, squeeze=False)
    for axis, side in zip(axes[0], sides, strict=True):
        for key, held in summary.items():
            detector, which, at = key.split("/")
            if which != "made" or at != side:
                continue
            y = [held["figures"].get(s, {}).get("recall", np.nan) for s in sizes]
            ends = [held["interval"].get(s, {}).get("recall", (np.nan, np.nan)) for s in sizes]
            low, high = ([max(abs(v - e[i]), 0) for v, e in zip(y, ends, strict=True)] for i in (0, 1))
            axis.errorbar(range(len(sizes)), y, [low, high], label=detector, marker="o", capsize=2, linewidth=1.2)
        axis.set_xticks(range(len(sizes)), sizes)
        axis.set_xlabel("face box height in the image, pixels")
        axis.set_title(f"input {side}")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("recall at 0.1 false alarms an image")
    axes[0][-1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def drawn(image: Image, rows: NDArray[np.float32], score: float, missed: NDArray[np.float32] | None = None) -> Image:
    """`image` with detections above `score` in green with their points, and `missed` boxes in red."""
    canvas = image.copy()
    for row in rows[rows[:, 4] > score]:
        x0, y0, x1, y1 = (round(float(v)) for v in row[:4])
        cv2.rectangle(canvas, (x0, y0), (x1, y1), (0, 255, 0), 1)
        for x, y in row[5:15].reshape(-1, 2):
            cv2.circle(canvas, (round(float(x)), round(float(y))), 1, (255, 220, 0), -1)
    for box in () if missed is None else missed:
        x0, y0, x1, y1 = (round(float(v)) for v in box)
        cv2.rectangle(canvas, (x0 - 1, y0 - 1), (x1 + 1, y1 + 1), (255, 0, 0), 1)
    return canvas


def sheet(images: Sequence[Image], columns: int, side: int) -> Image:
    """Images in rows, each fitted into side x side."""
    cells = []
    for image in images:
        scale = side / max(image.shape[:2])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        cell_ = np.zeros((side, side, 3), np.uint8)
        cell_[: small.shape[0], : small.shape[1]] = small[:side, :side]
        cells.append(cell_)
    while len(cells) % columns:
        cells.append(np.zeros_like(cells[0]))
    return np.concatenate([np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells), columns)])
