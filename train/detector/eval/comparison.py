"""Ours against another detector on the same images: differences, with intervals over the same resampled images."""

from dataclasses import replace

import numpy as np

from train.common.bootstrap import resample, spread
from train.detector.eval.metrics import BUCKETS, Pool, figures

ROUNDS = 200


def table(pools: dict[str, Pool], other: str) -> str:
    """By set, input side and face size: what ours has more of AP50 and of recall at 0.1 false alarms an image than
    `other`, and what it errs less by on the points of faces that both find, in eye distances. `pools` is by
    "detector/set/side", as `train.detector.eval.evaluate.evaluate` gives them."""
    lines = [
        f"| set | input | faces | AP50 over {other} | recall over {other} | point error, same faces |",
        "|---|---|---|---|---|---|",
    ]
    for key, held in pools.items():
        detector, name, side = key.split("/")
        theirs = pools.get(f"{other}/{name}/{side}")
        if detector != "ours" or theirs is None:
            continue
        found = difference(held, theirs)
        for bucket in BUCKETS:
            if bucket in found:
                lines.append(f"| {name} | {side} | {bucket} | " + " | ".join(found[bucket]) + " |")
    return "\n".join(lines)


def difference(ours: Pool, theirs: Pool) -> dict[str, list[str]]:
    """Per bucket three cells: AP50, recall, points."""
    both = np.isnan(ours.point_error) | np.isnan(theirs.point_error)
    first, second = (replace(held, point_error=np.where(both, np.nan, held.point_error)) for held in (ours, theirs))
    rng = np.random.default_rng(0)
    weights = [None, *(resample(ours.images, rng) for _ in range(ROUNDS))]
    pairs = [(figures(first, weight, 1), figures(second, weight, 1)) for weight in weights]
    cells = {}
    for bucket in pairs[0][0]:
        row = []
        for what in ("ap50", "recall", "points"):
            gaps = [a[bucket][what] - b[bucket][what] for a, b in pairs if bucket in a and bucket in b]
            low, high = spread(gaps[1:])
            row.append("–" if np.isnan(gaps[0]) else f"{gaps[0]:+.3f} ({low:+.3f} to {high:+.3f})")
        if row[2] != "–":
            mine, other = (pairs[0][i][bucket]["points"] for i in (0, 1))
            row[2] = f"{mine:.3f} against {other:.3f}, {row[2]}"
        cells[bucket] = row
    return cells
