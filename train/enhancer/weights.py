"""The enhancer's weights: load a network from a checkpoint or an exported file, or start training from one."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stream_enhance.backends.card import read_card
from stream_enhance.errors import ModelError
from train.common import checkpoints
from train.common.onnx_export import HALF
from train.enhancer.models import build

NEEDS = ("name", "model", "data")  # keys of the recipe in a checkpoint


def network_of(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The trained generator in eval mode (its averaged weights where there are some) and the checkpoint's recipe.

    Also takes an exported `unet_fast` (.onnx), whose architecture is read from its weights.
    """
    if path.suffix == ".onnx":
        return network_of_onnx(path)
    state = checkpoints.read(path, NEEDS)
    network = build(state["recipe"]["model"])
    checkpoints.fill(network, state["ema"] or state["generator"], path)
    return network.eval(), state["recipe"]


def network_of_onnx(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """As `network_of`, from an exported `unet_fast`. ModelError for any other."""
    import onnx
    from onnx import numpy_helper

    card = read_card(path)
    weights = {}
    graph = onnx.load(str(path)).graph
    for tensor in graph.initializer:
        name = tensor.name.removeprefix("network.").removesuffix(HALF)
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
    }
    if "past.weight" in weights:
        model["name"] = "unet_several"
    else:
        model["levelled"] = any(node.op_type == "Sqrt" for node in graph.node)
        model["keep_grey"] = any(node.op_type == "Abs" for node in graph.node)
    network = build(model)
    own = network.state_dict()
    checkpoints.fill(network, {name: value for name, value in weights.items() if name in own}, path)
    return network.eval(), {"name": card.name, "model": model, "data": {"size": card.size, "heatmaps": False}}


def start_from(network: nn.Module, path: Path) -> None:
    """Transfer learning: fill `network` from a checkpoint, a .safetensors file or an exported `unet_fast` (.onnx).

    A refinement that the file lacks keeps its own weights.
    """
    if path.suffix == ".onnx":
        checkpoints.fill(network, network_of_onnx(path)[0].state_dict(), path)
        return
    state = checkpoints.load_weights(path)
    weights = (state.get("ema") or state["generator"]) if "recipe" in state else state
    if any(name.startswith("refine.") for name in network.state_dict()):
        own = {name: value for name, value in network.state_dict().items() if name.startswith("refine.")}
        weights = own | weights
    checkpoints.fill(network, weights, path)
