"""What a training run writes down: losses.csv, TensorBoard, a line now and then, and grids of samples."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

log = logging.getLogger("train")


class Journal:
    """One run's records in `out`; a resumed run's are appended. Does nothing where not `enabled` (other ranks)."""

    def __init__(self, out: Path, step: int, enabled: bool = True, every: int = 20):
        self.out, self.enabled, self.every = out, enabled, every
        self.rows: Any = None
        if not enabled:
            return
        from torch.utils.tensorboard import SummaryWriter

        (out / "samples").mkdir(parents=True, exist_ok=True)
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
        """Every loss term of one optimiser step, its learning rate, and images a second."""
        if not self.enabled:
            return
        self.write(epoch, step, losses)
        if step % self.every == 0:
            self.board.add_scalar("rate", rate, step)
            text = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
            log.info("epoch %d  step %d  %s  lr %.2e  %.1f images/s", epoch, step, text, rate, speed)

    def validation(self, epoch: int, step: int, scores: Mapping[str, float], shown: Sequence[Tensor]) -> None:
        """An epoch's scores, and samples/epoch_NNNN.png: input | output | target, one row a face."""
        if not self.enabled:
            return
        self.write(epoch, step, scores)
        self.file.flush()
        log.info("epoch %d  %s", epoch, "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        if shown:
            grid = (torch.cat(list(shown), 1).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            path = self.out / "samples" / f"epoch_{epoch:04d}.png"
            _, data = cv2.imencode(".png", np.ascontiguousarray(grid[:, :, ::-1]))
            path.write_bytes(data.tobytes())

    def write(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Each value to the CSV and TensorBoard; the CSV has them exactly."""
        for name, value in values.items():
            self.rows.writerow([epoch, step, name, repr(float(value))])
            self.board.add_scalar(name, value, step)
