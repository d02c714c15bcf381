"""Checkpoints: written whole or not at all, read without running anything that is in them."""

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stream_enhance.backends.card import read_card
from stream_enhance.errors import InputError, ModelError
from train.enhancer.losses import load_weights
from train.enhancer.models import build


def save(state: dict[str, Any], path: Path) -> None:
    """Write `state` to `path` by way of a neighbour: a full disk leaves the previous file as it was.

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


def read(path: Path) -> dict[str, Any]:
    """The checkpoint in `path` (weights-only: tensors and plain values). Raises ModelError."""
    state = load_weights(path)
    if not isinstance(state, dict) or "recipe" not in state:
        raise ModelError(f"{path}: not a training checkpoint; it carries no recipe")
    recipe = state["recipe"] if isinstance(state["recipe"], dict) else {}
    if missing := [key for key in ("name", "model", "data") if key not in recipe]:
        raise ModelError(
            f"{path}: its recipe lacks {missing[0]}; give a checkpoint that `python -m train.enhancer.train` wrote"
        )
    return state


def network_of(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The trained generator in eval mode (its averaged weights where there are some) and the checkpoint's recipe.

    An exported `unet_fast` (.onnx) will do as well: its weights say what it is.
    """
    if path.suffix == ".onnx":
        return network_of_onnx(path)
    state = read(path)
    network = build(state["recipe"]["model"])
    fill(network, state["ema"] or state["generator"], path)
    return network.eval(), state["recipe"]


def network_of_onnx(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """As `network_of`, from what `train.enhancer.export` made of a `unet_fast`. ModelError for any other."""
    import onnx
    from onnx import numpy_helper

    card = read_card(path)
    weights = {}
    graph = onnx.load(str(path)).graph
    for tensor in graph.initializer:
        name = tensor.name.removeprefix("network.").removesuffix(".half")
        weights[name] = torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
    stages = sorted(int(name.split(".")[1]) for name in weights if name.startswith("encode.") and ".0.first.w" in name)
    if not stages or "head.weight" not in weights:
        raise ModelError(f"{path}: not an exported unet_fast; give the training checkpoint instead")
    model = {
        "name": "unet_fast",
        "channels": [weights[f"encode.{k}.0.first.weight"].shape[0] for k in stages],
        "blocks": [sum(n.startswith(f"encode.{k}.") and n.endswith("first.weight") for n in weights) for k in stages],
        "size": card.size,
        "fold": round((weights["head.weight"].shape[0] / 3) ** 0.5),
        "levelled": any(node.op_type == "Sqrt" for node in graph.node),
        "keep_grey": any(node.op_type == "Abs" for node in graph.node),
    }
    network = build(model)
    own = network.state_dict()
    fill(network, {name: value for name, value in weights.items() if name in own}, path)
    return network.eval(), {"name": card.name, "model": model, "data": {"size": card.size, "heatmaps": False}}


def fill(network: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Put `weights` into `network`. Raises ModelError, naming the first difference, where they are not for it."""
    own = network.state_dict()
    for name in [*own, *weights]:
        if name not in weights or name not in own:
            where = "the checkpoint" if name not in weights else "this network"
            raise ModelError(
                f"{path}: another architecture: {where} has no {name}; take the recipe that it was made with"
            )
        if own[name].shape != weights[name].shape:
            raise ModelError(
                f"{path}: another architecture: {name} is {list(weights[name].shape)} there and "
                f"{list(own[name].shape)} here; take the recipe that it was made with"
            )
    network.load_state_dict(weights)


def start_from(network: nn.Module, path: Path) -> None:
    """Transfer learning: fill `network` from a checkpoint, a .safetensors file or an exported `unet_fast` (.onnx).

    A refinement may stay as it is.
    """
    if path.suffix == ".onnx":
        fill(network, network_of_onnx(path)[0].state_dict(), path)
        return
    state = load_weights(path)
    weights = (state.get("ema") or state["generator"]) if "recipe" in state else state
    if any(name.startswith("refine.") for name in network.state_dict()):
        own = {name: value for name, value in network.state_dict().items() if name.startswith("refine.")}
        weights = own | weights
    fill(network, weights, path)


def random_state() -> dict[str, Any]:
    """Where Python's, NumPy's and torch's generators stand, as tensors and plain values."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # type: ignore[misc]
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
    """Put the generators where `random_state` found them."""
    version, inner, following = state["python"]
    random.setstate((version, tuple(inner), following))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
