"""The records of a training run: losses.csv, TensorBoard, a log line now and then, and grids of samples.

losses.csv has one value a row: epoch (of a run by stages: the stage), step, name, value.
"""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from train.common.images import write_image

log = logging.getLogger("train")


class Journal:
    """One run's records in `out`; a resumed run's are appended. Does nothing where not `enabled` (other ranks)."""

    def __init__(self, out: Path, step: int, enabled: bool = True, every: int = 20):
        self.out, self.enabled, self.every = out, enabled, every
        self.rows: Any = None
        if not enabled:
            return
        from torch.utils.tensorboard import SummaryWriter

        out.mkdir(parents=True, exist_ok=True)
        self.board = SummaryWriter(str(out / "tensorboard"), purge_step=step or None)
        self.file = open(out / "losses.csv", "a" if step else "w", newline="")  # noqa: SIM115  closed in __exit__
        self.rows = csv.writer(self.file)
        if not step:
            self.rows.writerow(["epoch", "step", "name", "value"])

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.enabled:
            self.file.close()
            self.board.close()

    def step(self, epoch: int, step: int, losses: Mapping[str, float], rate: float, speed: float) -> None:
        """Record every loss term of one optimiser step, its learning rate, and images a second."""
        if not self.enabled:
            return
        self.write(epoch, step, losses)
        if step % self.every == 0:
            self.board.add_scalar("rate", rate, step)
            text = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
            log.info("epoch %d  step %d  %s  lr %.2e  %.1f images/s", epoch, step, text, rate, speed)

    def validation(self, epoch: int, step: int, scores: Mapping[str, float], shown: Sequence[Tensor]) -> None:
        """Record an epoch's scores, and samples/epoch_NNNN.png: input | output | target, one row a face."""
        if not self.enabled:
            return
        self.write(epoch, step, scores)
        self.file.flush()
        log.info("epoch %d  %s", epoch, "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        if shown:
            grid = (torch.cat(list(shown), 1).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            path = self.out / "samples" / f"epoch_{epoch:04d}.png"
            path.parent.mkdir(exist_ok=True)
            write_image(path, grid)

    def write(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Write each value to the CSV, exactly, and to TensorBoard."""
        for name, value in values.items():
            self.rows.writerow([epoch, step, name, repr(float(value))])
            self.board.add_scalar(name, value, step)


def read_losses(path: Path) -> dict[str, list[tuple[int, float]]]:
    """{name: (step, value) in order} of a losses.csv."""
    found: dict[str, list[tuple[int, float]]] = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["name"], []).append((int(row["step"]), float(row["value"])))
    return found
