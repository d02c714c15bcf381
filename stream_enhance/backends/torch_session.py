"""A network run by torch: our ONNX graphs, executed operator by operator on CUDA or on the CPU.

For GPUs that onnxruntime's providers do not serve, and to see on any machine what half precision does to a result: with
``precision="fp16"`` every tensor is rounded to half, and on the CPU convolutions accumulate in float32 as tensor cores
do.  On CUDA the graph of each input shape is captured once and replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .card import Card, file_sha256, parse_card
from .half import to_half

if TYPE_CHECKING:
    import torch

Value = Any  # a torch tensor, or None for an input that is left out
Operator = Callable[["_Node", list[Value]], Value]
_BATCHES = (1, 2, 4, 8, 16)  # rows of a captured graph; smaller batches are padded, larger ones cut


def open_torch(path: Path, task: str, device: int) -> TorchSession:
    """Half precision on the GPU ``device`` where torch has CUDA, else float32 on the CPU.  Raises ModelError."""
    try:
        import torch
    except ModuleNotFoundError:
        raise ModelError("provider 'torch' needs torch; pip install torch onnx") from None
    if torch.cuda.is_available():
        return TorchSession(path, task, "fp16", f"cuda:{device}")
    return TorchSession(path, task)


class TorchSession:
    """A ``Session`` on torch.

    Args:
        path: the ONNX file.
        task: what its card must say it is for.
        precision: float32, or half where the graph is converted first.
        device: cuda, cuda:1 or cpu.

    Raises:
        ModelError: torch or onnx is not installed, the device is not there, the file cannot be read, or holds an
            operator that is not known here.
    """

    provider = "torch"

    def __init__(self, path: Path, task: str, precision: Literal["fp32", "fp16"] = "fp32", device: str = "cpu") -> None:
        try:
            import onnx
            import torch
        except ModuleNotFoundError as error:
            raise ModelError(f"provider 'torch' needs {error.name}; pip install torch onnx") from None
        if not path.is_file():
            raise ModelError(f"{path}: no such model file")
        try:
            model = onnx.load(str(path))
        except Exception as error:  # protobuf's DecodeError has no stable public home
            raise ModelError(f"{path}: not a readable ONNX file ({type(error).__name__})") from None
        self.path, self.sha256 = path, file_sha256(path)
        self.card: Card = parse_card({entry.key: entry.value for entry in model.metadata_props}, str(path))
        if self.card.task != task:
            raise ModelError(f"{path}: is for {self.card.task}, not for {task}; name another model file")
        shape = [
            d.dim_value if d.HasField("dim_value") else None for d in model.graph.input[0].type.tensor_type.shape.dim
        ]
        self.input_size = (shape[2], shape[3]) if shape[2] and shape[3] else None
        try:
            self._device = torch.device(device)
            torch.zeros(1, device=self._device)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"{device}: torch cannot use it ({str(error).splitlines()[0][:120]})") from None
        self._graph = _Graph(to_half(model) if precision == "fp16" else model, self._device, str(path))
        self._captured: dict[tuple[int, ...], tuple[Any, torch.Tensor, torch.Tensor]] = {}

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Float32 (n, C, H, W) in, float32 out, rows in the same order."""
        import torch

        with torch.inference_mode():
            if self._device.type != "cuda":
                return self._graph(torch.from_numpy(batch).to(self._device)).float().cpu().numpy()
            step = next((n for n in _BATCHES if n >= len(batch)), _BATCHES[-1])
            parts = [self._replayed(batch[start : start + step], step) for start in range(0, len(batch), step)]
            return np.concatenate(parts)

    def on_device(self, batch: torch.Tensor) -> torch.Tensor:
        """The network on a float32 tensor (n, C, H, W) that lies on its device, with no copy and no captured graph."""
        return self._graph(batch)

    def _replayed(self, rows: NDArray[np.float32], step: int) -> NDArray[np.float32]:
        """Up to ``step`` rows through the captured graph of that many, captured at the first of its shape."""
        import torch

        shape = (step, *rows.shape[1:])
        if shape not in self._captured:
            given = torch.zeros(shape, device=self._device)
            aside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            with torch.cuda.stream(aside):
                for _ in range(3):
                    self._graph(given)
            torch.cuda.synchronize(self._device)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = self._graph(given)
            self._captured[shape] = graph, given, result
        graph, given, result = self._captured[shape]
        given[: len(rows)].copy_(torch.from_numpy(rows))
        graph.replay()
        out: NDArray[np.float32] = result[: len(rows)].float().cpu().numpy()
        return out

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._captured.clear()


class _Node:
    """One operator of the graph, its attributes as Python values."""

    def __init__(self, node: Any) -> None:
        from onnx import helper

        self.kind: str = node.op_type
        self.inputs, self.output = list(node.input), node.output[0]
        self.attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)


class _Graph:
    """The operators in order, and the weights on the device; integers stay on the CPU, where shapes are worked out."""

    def __init__(self, model: Any, device: torch.device, where: str) -> None:
        import torch
        from onnx import numpy_helper

        self._nodes = _ordered([_Node(node) for node in model.graph.node], model)
        unknown = sorted({node.kind for node in self._nodes} - set(_OPERATORS))
        if unknown:
            raise ModelError(f"{where}: torch cannot run its operators {', '.join(unknown)}; use another provider")
        self._input, self._output = model.graph.input[0].name, model.graph.output[0].name
        self._weights = {
            tensor.name: _placed(torch.from_numpy(numpy_helper.to_array(tensor).copy()), device)
            for tensor in model.graph.initializer
        }
        for node in self._nodes:
            if node.kind == "Constant":
                self._weights[node.output] = _placed(
                    torch.from_numpy(np.array(numpy_helper.to_array(node.get("value")))), device
                )
        self._nodes = [node for node in self._nodes if node.kind != "Constant"]

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        values: dict[str, Value] = {**self._weights, self._input: batch, "": None}
        for node in self._nodes:
            values[node.output] = _OPERATORS[node.kind](node, [values[name] for name in node.inputs])
        result: torch.Tensor = values[self._output]
        return result


def _ordered(nodes: list[_Node], model: Any) -> list[_Node]:
    """``nodes`` with every one after those whose results it reads, as a converted graph need not be."""
    there = {tensor.name for tensor in model.graph.initializer} | {model.graph.input[0].name, ""}
    ordered: list[_Node] = []
    while nodes:
        ready = [node for node in nodes if there.issuperset(node.inputs)]
        if not ready:
            raise ModelError(f"{nodes[0].kind}: reads what no operator gives; export the model again")
        ordered += ready
        there |= {node.output for node in ready}
        nodes = [node for node in nodes if not there.issuperset((node.output,))]
    return ordered


def _placed(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    return tensor.to(device) if tensor.is_floating_point() else tensor


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    """Half as float32 on the CPU, where half convolutions are slow; on a GPU as it is."""
    return tensor.float() if tensor.device.type == "cpu" else tensor


def _conv(node: _Node, given: list[Value]) -> Value:
    from torch.nn import functional

    image, weight, bias = given[0], given[1], given[2] if len(given) > 2 else None
    padding = node.get("pads", [0, 0, 0, 0])
    options = {"stride": node.get("strides", [1, 1]), "padding": padding[:2], "groups": node.get("group", 1)}
    run = functional.conv2d if node.kind == "Conv" else functional.conv_transpose2d
    if node.kind == "Conv":
        options["dilation"] = node.get("dilations", [1, 1])
    return run(_wide(image), _wide(weight), None if bias is None else _wide(bias), **options).to(image.dtype)


def _batch_norm(node: _Node, given: list[Value]) -> Value:
    from torch.nn import functional

    image, scale, shift, mean, variance = (_wide(t) for t in given)
    return functional.batch_norm(image, mean, variance, scale, shift, eps=node.get("epsilon", 1e-5)).to(given[0].dtype)


def _cast(node: _Node, given: list[Value]) -> Value:
    import torch

    kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16}
    return given[0].to(kinds[node.get("to")])


def _slice(node: _Node, given: list[Value]) -> Value:
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


def _reshape(node: _Node, given: list[Value]) -> Value:
    shape = given[1].tolist()
    return given[0].reshape([given[0].shape[i] if n == 0 else n for i, n in enumerate(shape)])


def _resize(node: _Node, given: list[Value]) -> Value:
    from torch.nn import functional

    if node.get("mode", b"nearest") != b"nearest":
        raise ModelError("torch runs nearest-neighbour Resize only; use another provider")
    image = given[0]
    if len(given) > 3 and given[3] is not None:
        size = given[3].tolist()[2:]
    else:
        size = [round(side * factor) for side, factor in zip(image.shape[2:], given[2].tolist()[2:], strict=True)]
    return functional.interpolate(image, size, mode="nearest")


def _depth_to_space(node: _Node, given: list[Value]) -> Value:
    import torch

    image, block = given[0], node.get("blocksize")
    if node.get("mode", b"DCR") != b"DCR":
        return torch.pixel_shuffle(image, block)
    n, channels, height, width = image.shape
    rest = channels // block**2
    folded = image.reshape(n, block, block, rest, height, width).permute(0, 3, 4, 1, 5, 2)
    return folded.reshape(n, rest, height * block, width * block)


def _unsqueeze(node: _Node, given: list[Value]) -> Value:
    axes = given[1].reshape(-1).tolist() if len(given) > 1 else node.get("axes")
    result = given[0]
    for axis in sorted(axes):
        result = result.unsqueeze(axis)
    return result


def _clip(node: _Node, given: list[Value]) -> Value:
    low, high = (*given[1:], None, None)[:2]
    return given[0].clamp(None if low is None else low.item(), None if high is None else high.item())


def _reduce_mean(node: _Node, given: list[Value]) -> Value:
    axes = tuple(given[1].tolist()) if len(given) > 1 else tuple(node.get("axes"))
    return given[0].float().mean(axes, keepdim=bool(node.get("keepdims", 1))).to(given[0].dtype)


def _gather(node: _Node, given: list[Value]) -> Value:
    import torch

    axis, index = node.get("axis", 0), given[1]
    if index.ndim == 0:
        return given[0].select(axis, int(index))
    return torch.index_select(given[0], axis, index.to(given[0].device))


def _max_pool(node: _Node, given: list[Value]) -> Value:
    from torch.nn import functional

    return functional.max_pool2d(given[0], node.get("kernel_shape"), node.get("strides"), node.get("pads")[:2])


def _divide(node: _Node, given: list[Value]) -> Value:
    import torch

    a, b = given
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _torch(name: str) -> Operator:
    """The function of that name in torch, on the operator's inputs."""

    def run(node: _Node, given: list[Value]) -> Value:
        import torch

        return getattr(torch, name)(*given)

    return run


def _shape(node: _Node, given: list[Value]) -> Value:
    import torch

    return torch.tensor(given[0].shape)


def _constant_of_shape(node: _Node, given: list[Value]) -> Value:
    import torch
    from onnx import numpy_helper

    value = node.get("value")
    filling = torch.from_numpy(numpy_helper.to_array(value).copy()) if value is not None else torch.zeros(1)
    return filling.expand(given[0].tolist())


def _range(node: _Node, given: list[Value]) -> Value:
    import torch

    return torch.arange(*(t.item() for t in given), dtype=given[0].dtype)


def _expand(node: _Node, given: list[Value]) -> Value:
    import torch

    shape = torch.broadcast_shapes(given[0].shape, tuple(given[1].tolist()))  # type: ignore[no-untyped-call]
    return given[0].expand(shape)


def _concat(node: _Node, given: list[Value]) -> Value:
    import torch

    device = next((t.device for t in given if t.device.type != "cpu"), given[0].device)
    return torch.cat([t.to(device) for t in given], node.get("axis"))


def _mixed(name: str) -> Operator:
    """A sum or product whose inputs may lie on the CPU and on the GPU."""

    def run(node: _Node, given: list[Value]) -> Value:
        import torch

        device = next((t.device for t in given if t.device.type != "cpu"), given[0].device)
        return getattr(torch, name)(*(t.to(device) for t in given))

    return run


_OPERATORS: dict[str, Operator] = {
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
