"""The untrained detector: ultralytics' YOLOv8-pose with five points, started from a folded YOLOv8's weights or not.

An export has its batch norms folded into the convolutions. They are put back with the mean and variance that each
convolution gives on real images, so that training starts exactly where inference left off.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stream_enhance.errors import ModelError
from train.common.onnx_export import HALF

GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5, "pose": 6.0, "kobj": 0.5}


def build(network: str, gains: dict[str, float] | None = None) -> Any:
    """The PoseModel that ultralytics' yaml `network` describes, with one class and five points; random weights."""
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import PoseModel

    model: Any = PoseModel(network, nc=1, data_kpt_shape=[5, 3], verbose=False)
    model.args = get_cfg(overrides=gains or GAINS)
    model.names = {0: "face"}
    return model


def load_folded(model: nn.Module, path: Path, classes: tuple[int, ...], images: torch.Tensor) -> None:
    """Give `model` the weights of the folded YOLOv8 export at `path`, whose classes `classes` are faces.

    The points' branch keeps its random weights where the export has none. `images` (n, 3, S, S) float 0 to 1 are what
    the batch norms' means and variances are measured on. Raises ModelError where the file does not fit the network.
    """
    import onnx
    from onnx import numpy_helper

    if not path.is_file():
        raise ModelError(f"{path}: no such file to start from; see `start` in the recipe")
    tensors = {
        t.name.removesuffix("_half").removesuffix(HALF): numpy_helper.to_array(t).astype(np.float32)
        for t in onnx.load(str(path)).graph.initializer
        if t.name.startswith("model.")
    }
    points = any(".cv4." in name for name in tensors)
    biases: dict[str, NDArray[np.float32]] = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d) or (".cv4." in name and not points) or ".dfl." in name:
            continue
        weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
        if weight is not None and bias is not None and ".cv3." in name and module.out_channels < len(weight):
            weight, bias = (a[list(classes)].mean(0, keepdims=True) for a in (weight, bias))
        if weight is None or bias is None or weight.shape != tuple(module.weight.shape):
            raise ModelError(f"{path}: does not fit the network at {name}; start from a YOLOv8 of the same size")
        module.weight.data.copy_(torch.from_numpy(weight.copy()))
        if module.bias is not None:
            module.bias.data.copy_(torch.from_numpy(bias.copy()))
        else:
            biases[name] = bias
    restore_norms(model, biases, images)


@torch.no_grad()
def restore_norms(model: nn.Module, biases: dict[str, NDArray[np.float32]], images: torch.Tensor) -> None:
    """Set every batch norm so that convolution and norm together give the convolution plus its folded bias.

    Layer by layer in one pass: the hook on a convolution measures its output, sets the norm behind it, and what flows
    on is already right.
    """
    norms: dict[str, Any] = {name: model.get_submodule(name.removesuffix("conv") + "bn") for name in biases}

    def measure(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
            norm = norms[name]
            mean, var = out.float().mean((0, 2, 3)), out.float().var((0, 2, 3), unbiased=False)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)
            norm.weight.copy_((var + norm.eps).sqrt())
            norm.bias.copy_(mean + torch.from_numpy(biases[name].copy()))

        return hook

    handles = [model.get_submodule(name).register_forward_hook(measure(name)) for name in biases]
    model.eval()
    model(images)
    for handle in handles:
        handle.remove()
