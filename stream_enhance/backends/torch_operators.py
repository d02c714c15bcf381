"""ONNX operators as torch functions: those of the shipped networks and of the Pix2Pix generator.

Shapes are worked out on the CPU, as integers; images and weights lie where the session put them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ModelError

if TYPE_CHECKING:
    import torch

Value = Any  # a torch tensor, or None for an input that is left out


class Node:
    """One operator of the graph, its attributes as Python values."""

    def __init__(self, node: Any) -> None:
        from onnx import helper

        self.kind: str = node.op_type
        self.inputs, self.output = list(node.input), node.output[0]
        self.attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def get(self, name: str, default: Any = None) -> Any:
        """The attribute ``name``, or ``default`` where the operator has none."""
        return self.attributes.get(name, default)


Operator = Callable[[Node, list[Value]], Value]


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    """Half as float32 on the CPU, where half convolutions are slow; on a GPU as it is."""
    return tensor.float() if tensor.device.type == "cpu" else tensor


def _conv(node: Node, given: list[Value]) -> Value:
    from torch.nn import functional

    image, weight, bias = given[0], given[1], given[2] if len(given) > 2 else None
    padding = node.get("pads", [0, 0, 0, 0])
    options = {"stride": node.get("strides", [1, 1]), "padding": padding[:2], "groups": node.get("group", 1)}
    run = functional.conv2d if node.kind == "Conv" else functional.conv_transpose2d
    if node.kind == "Conv":
        options["dilation"] = node.get("dilations", [1, 1])
    return run(_wide(image), _wide(weight), None if bias is None else _wide(bias), **options).to(image.dtype)


def _batch_norm(node: Node, given: list[Value]) -> Value:
    from torch.nn import functional

    image, scale, shift, mean, variance = (_wide(t) for t in given)
    return functional.batch_norm(image, mean, variance, scale, shift, eps=node.get("epsilon", 1e-5)).to(given[0].dtype)


def _cast(node: Node, given: list[Value]) -> Value:
    import torch

    kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16}
    return given[0].to(kinds[node.get("to")])


def _slice(node: Node, given: list[Value]) -> Value:
    result, starts, ends = given[0], given[1].tolist(), given[2].tolist()
    axes = given[3].tolist() if len(given) > 3 and given[3] is not None else range(len(starts))
    steps = given[4].tolist() if len(given) > 4 and given[4] is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        length = result.shape[axis]
        low, high = (min(max(v + length if v < 0 else v, 0), length) for v in (start, end))
        where = [slice(None)] * result.ndim
        where[axis] = slice(low, high, step)
        result = result[tuple(where)]
    return result


def _reshape(node: Node, given: list[Value]) -> Value:
    shape = given[1].tolist()
    return given[0].reshape([given[0].shape[i] if n == 0 else n for i, n in enumerate(shape)])


def _resize(node: Node, given: list[Value]) -> Value:
    from torch.nn import functional

    if node.get("mode", b"nearest") != b"nearest":
        raise ModelError("torch runs nearest-neighbour Resize only; use another provider")
    image = given[0]
    if len(given) > 3 and given[3] is not None:
        size = given[3].tolist()[2:]
    else:
        size = [round(side * factor) for side, factor in zip(image.shape[2:], given[2].tolist()[2:], strict=True)]
    return functional.interpolate(image, size, mode="nearest")


def _depth_to_space(node: Node, given: list[Value]) -> Value:
    import torch

    image, block = given[0], node.get("blocksize")
    if node.get("mode", b"DCR") != b"DCR":
        return torch.pixel_shuffle(image, block)
    n, channels, height, width = image.shape
    rest = channels // block**2
    folded = image.reshape(n, block, block, rest, height, width).permute(0, 3, 4, 1, 5, 2)
    return folded.reshape(n, rest, height * block, width * block)


def _unsqueeze(node: Node, given: list[Value]) -> Value:
    axes = given[1].reshape(-1).tolist() if len(given) > 1 else node.get("axes")
    result = given[0]
    for axis in sorted(axes):
        result = result.unsqueeze(axis)
    return result


def _clip(node: Node, given: list[Value]) -> Value:
    low, high = (*given[1:], None, None)[:2]
    return given[0].clamp(None if low is None else low.item(), None if high is None else high.item())


def _reduce_mean(node: Node, given: list[Value]) -> Value:
    axes = tuple(given[1].tolist()) if len(given) > 1 else tuple(node.get("axes"))
    return given[0].float().mean(axes, keepdim=bool(node.get("keepdims", 1))).to(given[0].dtype)


def _gather(node: Node, given: list[Value]) -> Value:
    import torch

    axis, index = node.get("axis", 0), given[1]
    if index.ndim == 0:
        return given[0].select(axis, int(index))
    return torch.index_select(given[0], axis, index.to(given[0].device))


def _max_pool(node: Node, given: list[Value]) -> Value:
    from torch.nn import functional

    return functional.max_pool2d(given[0], node.get("kernel_shape"), node.get("strides"), node.get("pads")[:2])


def _divide(node: Node, given: list[Value]) -> Value:
    import torch

    a, b = given
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _torch(name: str) -> Operator:
    """The function of that name in torch, on the operator's inputs."""

    def run(node: Node, given: list[Value]) -> Value:
        import torch

        return getattr(torch, name)(*given)

    return run


def _shape(node: Node, given: list[Value]) -> Value:
    import torch

    return torch.tensor(given[0].shape)


def _constant_of_shape(node: Node, given: list[Value]) -> Value:
    import torch
    from onnx import numpy_helper

    value = node.get("value")
    filling = torch.from_numpy(numpy_helper.to_array(value).copy()) if value is not None else torch.zeros(1)
    return filling.expand(given[0].tolist())


def _range(node: Node, given: list[Value]) -> Value:
    import torch

    return torch.arange(*(t.item() for t in given), dtype=given[0].dtype)


def _expand(node: Node, given: list[Value]) -> Value:
    import torch

    shape = torch.broadcast_shapes(given[0].shape, tuple(given[1].tolist()))  # type: ignore[no-untyped-call]
    return given[0].expand(shape)


def _concat(node: Node, given: list[Value]) -> Value:
    import torch

    device = next((t.device for t in given if t.device.type != "cpu"), given[0].device)
    return torch.cat([t.to(device) for t in given], node.get("axis"))


def _mixed(name: str) -> Operator:
    """A sum or product whose inputs may lie on the CPU and on the GPU."""

    def run(node: Node, given: list[Value]) -> Value:
        import torch

        device = next((t.device for t in given if t.device.type != "cpu"), given[0].device)
        return getattr(torch, name)(*(t.to(device) for t in given))

    return run


OPERATORS: dict[str, Operator] = {
    "Abs": _torch("abs"),
    "Add": _mixed("add"),
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": lambda node, given: None,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "ConvTranspose": _conv,
    "DepthToSpace": _depth_to_space,
    "Div": _divide,
    "Expand": _expand,
    "Gather": _gather,
    "Identity": lambda node, given: given[0],
    "LeakyRelu": lambda node, given: _leaky_relu(given[0], node.get("alpha", 0.01)),
    "MaxPool": _max_pool,
    "Mul": _mixed("mul"),
    "Range": _range,
    "ReduceMean": _reduce_mean,
    "Relu": _torch("relu"),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": _torch("sigmoid"),
    "Slice": _slice,
    "Softmax": lambda node, given: given[0].softmax(node.get("axis", -1)),
    "Sqrt": _torch("sqrt"),
    "Sub": _mixed("sub"),
    "Tanh": _torch("tanh"),
    "Transpose": lambda node, given: given[0].permute(node.get("perm")),
    "Unsqueeze": _unsqueeze,
}


def _leaky_relu(tensor: Value, slope: float) -> Value:
    from torch.nn import functional

    return functional.leaky_relu(tensor, slope)
