"""A frozen ONNX network as a torch module, so that gradients flow through it into its input.

It knows the operators that face embedders of the MobileFaceNet family use, and says so of any other.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from stream_enhance.errors import ModelError

Operator = Callable[[list[Tensor], dict[str, Any]], Tensor]


class OnnxNetwork(nn.Module):
    """The network in the file; float32 in and out as the file has it. Raises ModelError for what it cannot run."""

    def __init__(self, path: Path):
        super().__init__()
        try:
            graph = onnx.load(str(path)).graph
        except FileNotFoundError:
            raise ModelError(f"{path}: no such model file") from None
        except Exception as error:  # protobuf's DecodeError has no stable public home
            raise ModelError(f"{path}: not a readable ONNX file ({type(error).__name__})") from None
        self.steps: list[tuple[Operator, list[str], str, dict[str, Any]]] = []
        values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        for node in graph.node:
            settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant":
                values[node.output[0]] = numpy_helper.to_array(settings["value"])
                continue
            if node.op_type not in OPERATORS:
                raise ModelError(f"{path}: its operator {node.op_type} is not one that training can differentiate here")
            self.steps.append((OPERATORS[node.op_type], list(node.input), node.output[0], settings))
        self.names = {name: f"value{k}" for k, name in enumerate(values)}
        for name, value in values.items():
            self.register_buffer(self.names[name], torch.from_numpy(value.copy()))
        self.source, self.result = graph.input[0].name, graph.output[0].name

    def forward(self, x: Tensor) -> Tensor:
        """What the ONNX graph gives for `x`, (n, 3, H, W)."""
        known = {name: getattr(self, slot) for name, slot in self.names.items()} | {self.source: x}
        for operator, inputs, output, settings in self.steps:
            known[output] = operator([known[name] for name in inputs], settings)
        return known[self.result]


def convolve(x: list[Tensor], settings: dict[str, Any]) -> Tensor:
    """ONNX's Conv, of [input, weight, bias]."""
    top, left, bottom, right = settings["pads"]
    padded = x[0] if top == bottom and left == right else F.pad(x[0], (left, right, top, bottom))
    pads = (top, left) if padded is x[0] else (0, 0)
    bias = x[2] if len(x) > 2 else None
    return F.conv2d(padded, x[1], bias, settings["strides"], pads, settings["dilations"], settings["group"])


def prelu(x: list[Tensor], settings: dict[str, Any]) -> Tensor:
    """ONNX's PRelu, of [input, slope]."""
    return F.prelu(x[0], x[1].flatten())


def gemm(x: list[Tensor], settings: dict[str, Any]) -> Tensor:
    """ONNX's Gemm with alpha and beta 1, of [input, weight, bias]."""
    return F.linear(x[0], x[1] if settings.get("transB") else x[1].T, x[2] if len(x) > 2 else None)


def batch_norm(x: list[Tensor], settings: dict[str, Any]) -> Tensor:
    """ONNX's BatchNormalization in inference, of [input, scale, shift, mean, variance]."""
    return F.batch_norm(x[0], x[3], x[4], x[1], x[2], False, 0.0, settings.get("epsilon", 1e-5))


OPERATORS: dict[str, Operator] = {
    "Add": lambda x, _: x[0] + x[1],
    "Sub": lambda x, _: x[0] - x[1],
    "Mul": lambda x, _: x[0] * x[1],
    "Relu": lambda x, _: F.relu(x[0]),
    "Flatten": lambda x, s: x[0].flatten(s.get("axis", 1)),
    "Conv": convolve,
    "PRelu": prelu,
    "Gemm": gemm,
    "BatchNormalization": batch_norm,
}
