"""Checkpoints: written whole or not at all, read without running anything that is in them."""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stream_enhance.errors import InputError, ModelError


def save(state: dict[str, Any], path: Path) -> None:
    """Write `state` to `path` through a neighbouring file, synced and renamed: a full disk leaves the previous file.

    Raises InputError where it cannot be written.
    """
    beside = path.with_suffix(".part")
    try:
        with open(beside, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:  # torch turns a failed write into a RuntimeError
        beside.unlink(missing_ok=True)
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        kept = "; the previous one is untouched" if path.exists() else ""
        raise InputError(f"{path}: the checkpoint could not be written: {why}{kept}; free some space") from None


def read(path: Path, needs: Sequence[str] = ()) -> dict[str, Any]:
    """The checkpoint in `path` (weights-only: tensors and plain values); its `recipe` is a dict with the keys `needs`.

    Raises InputError where there is none, and ModelError where it is not a checkpoint of this network.
    """
    if not path.is_file():
        raise InputError(f"{path}: no checkpoint; train first, or name the run's last.pt")
    state: dict[str, Any] = load_weights(path)
    if not isinstance(state, dict) or "recipe" not in state:
        raise ModelError(f"{path}: not a training checkpoint; it carries no recipe")
    if isinstance(state["recipe"], str):  # as the detector's were written before 0.2
        state = {**state, "recipe": json.loads(state["recipe"])}
    recipe = state["recipe"] if isinstance(state["recipe"], dict) else {}
    if missing := [key for key in needs if key not in recipe]:
        raise ModelError(f"{path}: its recipe lacks {missing[0]}; give a checkpoint that this network's `train` wrote")
    return state


def load_weights(path: Path) -> dict[str, Any]:
    """The tensors in a .safetensors or weights-only .pth file: nothing that can run code is read.

    Raises ModelError where the file is missing or is neither.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return found
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file of weights") from None
    except Exception as error:  # safetensors, pickle and zip each have their own
        raise ModelError(f"{path}: not a file of weights that can be read safely ({type(error).__name__})") from None


def fill(network: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Put `weights` into `network`. Raises ModelError, naming the first difference, where they do not fit."""
    own = network.state_dict()
    for name in [*own, *weights]:
        if name not in weights or name not in own:
            where = "the checkpoint" if name not in weights else "this network"
            raise ModelError(
                f"{path}: another architecture: {where} has no {name}; use the recipe that it was made with"
            )
        if own[name].shape != weights[name].shape:
            raise ModelError(
                f"{path}: another architecture: {name} is {list(weights[name].shape)} there and "
                f"{list(own[name].shape)} here; use the recipe that it was made with"
            )
    network.load_state_dict(weights)


def random_state() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's random generators, as tensors and plain values."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, inner, following = random.getstate()
    state: dict[str, Any] = {
        "python": [version, list(inner), following],
        "numpy": [kind, torch.from_numpy(np.asarray(keys, np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the generators to what `random_state` returned."""
    version, inner, following = state["python"]
    random.setstate((version, tuple(inner), following))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
