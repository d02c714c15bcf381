"""A checkpoint that is small enough to carry between calls: about a quarter of the trainer's own.

Weights and their running means are kept in half precision. Of Adam, only the mean second moment of each output
channel is kept (Adam-mini, Zhang et al., 2024, shows that one rate a block is enough); the first moment begins at
zero and is back after a few steps.
"""

from typing import Any

import torch
from torch import Tensor


def slim(value: Any) -> Any:
    """A trainer's state (nested dicts and lists of tensors and plain values) at about a quarter of its size."""
    match value:
        case {"exp_avg_sq": Tensor() as second, **rest}:
            rows = second.mean(tuple(range(1, second.ndim)), keepdim=True) if second.ndim else second
            kept = {key: each for key, each in rest.items() if key != "exp_avg"}
            return {**kept, "rows": rows, "shape": list(second.shape)}
        case dict():
            return {key: slim(each) for key, each in value.items()}
        case list() | tuple():
            return [slim(each) for each in value]
        case Tensor() if value.dtype == torch.float32:
            half = value.half()
            return half if bool(half.isfinite().all()) else value
        case _:
            return value


def grow(value: Any) -> Any:
    """A state as the trainer's `restore` takes it, from what `slim` returned."""
    match value:
        case {"rows": Tensor() as rows, "shape": shape, **rest}:
            second = rows.float().expand(shape).clone(memory_format=torch.contiguous_format)
            return {**rest, "exp_avg": torch.zeros_like(second), "exp_avg_sq": second}
        case dict():
            return {key: grow(each) for key, each in value.items()}
        case list() | tuple():
            return [grow(each) for each in value]
        case Tensor() if value.dtype == torch.float16:
            return value.float()
        case _:
            return value
