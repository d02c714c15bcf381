"""A network run by torch: our ONNX graphs, executed operator by operator on CUDA or on the CPU.

For GPUs that onnxruntime's providers do not serve, and to see on any machine what half precision does to a result: with
``precision="fp16"`` every tensor is rounded to half, and on the CPU convolutions accumulate in float32 as tensor cores
do.  On CUDA the graph of each input shape is captured once and replayed.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .card import Card, file_sha256, parse_card
from .half import to_half
from .preprocessing import Batch
from .torch_operators import OPERATORS, Node, Value

if TYPE_CHECKING:
    import torch

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
        self.precision: str = precision
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
            why = str(error).splitlines()[0].split(". ")[0][:120]
            raise ModelError(f"{device}: torch cannot use it ({why}); install its driver, or use cpu") from None
        self._graph = _Graph(to_half(model) if precision == "fp16" else model, self._device, str(path))
        self._captured: dict[tuple[int, ...], tuple[Any, torch.Tensor, torch.Tensor]] = {}

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """Float32 (n, C, H, W) in, float32 out, rows in the same order."""
        import torch

        return self.from_device(torch.from_numpy(batch))

    def from_device(self, batch: torch.Tensor) -> NDArray[np.float32]:
        """See ``TakesTensors``."""
        import torch

        with torch.inference_mode():
            if self._device.type != "cuda":
                return np.asarray(self._graph(batch.to(self._device)).float().cpu().numpy(), np.float32)
            step = next((n for n in _BATCHES if n >= len(batch)), _BATCHES[-1])
            return np.concatenate([self._replayed(batch[at : at + step], step) for at in range(0, len(batch), step)])

    def on_device(self, batch: torch.Tensor) -> torch.Tensor:
        """The network on a float32 tensor (n, C, H, W) that lies on its device, with no copy and no captured graph."""
        return self._graph(batch)

    def _replayed(self, rows: torch.Tensor, step: int) -> NDArray[np.float32]:
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
        given[: len(rows)].copy_(rows)
        graph.replay()
        out: NDArray[np.float32] = result[: len(rows)].float().cpu().numpy()
        return out

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._captured.clear()


class _Graph:
    """The operators in order, and the weights on the device; integers stay on the CPU, where shapes are worked out."""

    def __init__(self, model: Any, device: torch.device, where: str) -> None:
        import torch
        from onnx import numpy_helper

        self._nodes = _ordered([Node(node) for node in model.graph.node], model)
        unknown = sorted({node.kind for node in self._nodes} - set(OPERATORS))
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
            values[node.output] = OPERATORS[node.kind](node, [values[name] for name in node.inputs])
        result: torch.Tensor = values[self._output]
        return result


def _ordered(nodes: list[Node], model: Any) -> list[Node]:
    """``nodes`` with every one after those whose results it reads, as a converted graph need not be."""
    there = {tensor.name for tensor in model.graph.initializer} | {model.graph.input[0].name, ""}
    ordered: list[Node] = []
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
