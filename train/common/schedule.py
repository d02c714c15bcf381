"""Learning-rate schedules: factors on the rate, as pure functions of how far a run has come."""

import math
import time
from dataclasses import dataclass
from typing import Literal

Shape = Literal["constant", "step", "cosine", "trapezoid"]
LAST = 0.01  # share of the rate at a falling schedule's end


def warmup(step: int, steps: int) -> float:
    """A linear rise over the first `steps` steps, then 1; `step` counts from 0."""
    return min(1.0, (step + 1) / steps) if steps else 1.0


def cosine(done: float, fall: float = 1.0) -> float:
    """1, and over the last share `fall` of the run half a cosine down to LAST; `done` is 0 at its start, 1 at its end.

    `fall` 1 is cosine annealing (Loshchilov and Hutter, ICLR 2017); less is a trapezoid's plateau.
    """
    falling = max(0.0, done - (1 - fall)) / fall
    return LAST + (1 - LAST) * 0.5 * (1 + math.cos(math.pi * min(1.0, falling)))


@dataclass(frozen=True)
class Limit:
    """A run that ends at a time: `until`, seconds of time.monotonic(); the rate falls linearly in the last `fall` s."""

    until: float
    fall: float = 0

    def left(self) -> float:
        """Seconds until the end; negative after it."""
        return self.until - time.monotonic()

    def factor(self) -> float:
        """The factor on the learning rate now, LAST to 1."""
        return min(1.0, max(LAST, self.left() / self.fall)) if self.fall else 1.0
