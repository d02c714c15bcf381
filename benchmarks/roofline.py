"""The time that a network takes on a card, from what each of its kernels computes and moves: *predicted*, not measured.

    python -m benchmarks.roofline [--card rtx3050] [--layers] [--measure]

A kernel is a convolution with the pointwise operators behind it, as TensorRT fuses them.  It takes the larger of
FLOPs / (peak x EFFICIENT) and bytes / (bandwidth x EFFICIENT), and a launch (Williams et al., Roofline, CACM 2009).
The *floor* has neither losses nor launches.  ``--measure`` runs both networks on this CPU and gives the error of the
same prediction with this CPU's own ceilings, measured by a matrix product and by a copy.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import helper

ENGINES = Path(__file__).parents[1] / "engines"
COMPUTE, MEMORY = 0.5, 0.7  # the shares of peak FLOP/s and of bandwidth that kernels reach
POINTWISE = frozenset(
    ("LeakyRelu", "Relu", "Sigmoid", "Tanh", "Clip", "Sqrt", "Abs", "Mul", "Add", "Sub", "Div", "Cast", "Identity")
)  # batch norms are folded into the convolutions of both files
FREE = frozenset(  # no kernel
    ("Constant", "Shape", "Gather", "Unsqueeze", "Range", "Expand", "ConstantOfShape", "Reshape", "Identity")
)
IN_PLACE = frozenset(("Concat", "Slice"))  # written in place by what comes before


@dataclass(frozen=True)
class Card:
    """What a device can do at most."""

    name: str
    flops: float  # a second: fp16 with fp32 accumulation; fp32 on a CPU
    bandwidth: float  # bytes a second
    launch: float  # seconds a kernel, replayed from a graph
    width: int = 2  # bytes of a value


CARDS = {
    "rtx3050": Card("GeForce RTX 3050 8 GB", 18.2e12, 224e9, 2.5e-6),
    "h100": Card("H100 SXM", 800e12, 3.0e12, 2.0e-6),
}


class Kernel(NamedTuple):
    """One fused kernel of a network, for the whole batch."""

    name: str
    operators: str
    flops: float
    values: float  # read and written, weights included


class Network(NamedTuple):
    """A shipped network and the input it is predicted at."""

    name: str
    file: Path
    batch: int
    height: int
    width: int


NETWORKS = (
    Network("U-Net", ENGINES / "unet.onnx", 8, 256, 256),
    Network("detector 384×640", ENGINES / "yolov8n-face.onnx", 8, 384, 640),
)


def shapes(model: Any, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """{tensor: shape} of every floating-point tensor at a batch of one, found by running ``model`` on zeros."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = {value.name for value in copy.graph.output}
    for node in copy.graph.node:
        for name in node.output:
            if name and name not in kept:
                copy.graph.output.append(helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    source = model.graph.input[0].name
    results = session.run(None, {source: np.zeros((1, 3, height, width), np.float32)})
    named = zip((value.name for value in session.get_outputs()), results, strict=True)
    return {name: a.shape for name, a in named if a.dtype == np.float32} | {source: (1, 3, height, width)}


class Graph:
    """The operators of a network and what they read: weights, or tensors that depend on the image."""

    def __init__(self, path: Path, batch: int, height: int, width: int) -> None:
        self.model = onnx.load(str(path))
        self.batch, self.shapes = batch, shapes(self.model, height, width)
        self.weights = {tensor.name: tuple(tensor.dims) for tensor in self.model.graph.initializer}
        constants = set()
        self.readers: dict[str, list[Any]] = {}
        for node in self.model.graph.node:
            if node.op_type in ("Cast", "Identity") and node.input[0] in self.weights:
                self.weights[node.output[0]] = self.weights[node.input[0]]  # stored as half, used as float
            if node.op_type == "Constant":
                constants.add(node.output[0])
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.data = {n for n, s in self.shapes.items() if len(s) >= 2} - self.weights.keys() - constants

    def size(self, name: str) -> int:
        """Values of a tensor, for the whole batch."""
        return int(np.prod(self.shapes[name])) * self.batch

    def flops(self, node: Any) -> float:
        """Multiplications and additions of a convolution; 0 for everything else, which moves more than it computes."""
        match node.op_type:
            case "Conv":
                return float(2 * math.prod(self.weights[node.input[1]][1:]) * self.size(node.output[0]))
            case "ConvTranspose":
                return float(2 * math.prod(self.weights[node.input[1]][1:]) * self.size(node.input[0]))
        return 0.0

    def fused(self, node: Any, done: set[int]) -> list[Any]:
        """``node`` and the pointwise operators that run in its kernel; they are added to ``done``."""
        chain = [node]
        while True:
            here = chain[-1].output[0]
            readers = [r for r in self.readers.get(here, []) if id(r) not in done]
            if {r.op_type for r in readers} == {"Sigmoid", "Mul"} and len(readers) == 2:  # SiLU
                readers.sort(key=lambda r: r.op_type == "Mul")
            elif not (
                len(readers) == 1
                and readers[0].op_type in POINTWISE
                and readers[0].output[0] in self.data
                and self.size(readers[0].output[0]) == self.size(here)
            ):
                return chain
            done |= {id(reader) for reader in readers}
            chain += readers

    def kernels(self) -> Iterator[Kernel]:
        """The network's kernels in the order in which they run."""
        done: set[int] = set()
        for node in self.model.graph.node:
            if id(node) in done or node.op_type in FREE or node.output[0] not in self.data:
                continue
            chain = self.fused(node, done)
            if node.op_type in IN_PLACE:
                continue
            inside = {n.output[0] for n in chain}
            read = {n for each in chain for n in each.input} - inside
            values = sum(self.size(n) for n in read & self.data) + self.size(chain[-1].output[0])
            values += sum(int(np.prod(self.weights[n])) for n in read & self.weights.keys())
            yield Kernel(node.name, "+".join(each.op_type for each in chain), self.flops(node), values)


def predict(kernels: list[Kernel], card: Card, compute: float = COMPUTE, memory: float = MEMORY) -> float:
    """Seconds of one batch on ``card``."""
    return sum(
        max(k.flops / (compute * card.flops), k.values * card.width / (memory * card.bandwidth)) + card.launch
        for k in kernels
    )


def floor(kernels: list[Kernel], card: Card) -> float:
    """Seconds of one batch on ``card`` if nothing were lost."""
    return predict(kernels, Card(card.name, card.flops, card.bandwidth, 0, card.width), 1, 1)


def cameras(unet: float, detector: float, fps: float = 25, faces: int = 2) -> int:
    """How many cameras' networks a card runs: every frame detected, every face enhanced; seconds each."""
    return int(1 / (fps * (detector + faces * unet)))


def best(run: Callable[[], object], rounds: int = 5) -> float:
    """Seconds of the fastest of ``rounds`` runs after one that does not count."""
    run()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def this_cpu() -> Card:
    """One core of this machine, float32: a matrix product's FLOP/s and a copy's bytes a second (read and written)."""
    import torch

    torch.set_num_threads(1)
    a = torch.rand(768, 768)
    x = torch.rand(2**24)
    y = torch.empty_like(x)
    flops = 2 * 768**3 / best(lambda: a @ a)
    return Card("one core of this CPU", flops, 2 * 4 * 2**24 / best(lambda: y.copy_(x)), 0, 4)


def measured(network: Network, batch: int = 1) -> float:
    """Seconds of one batch on one core of this machine, by onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(network.file), options, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).random((batch, 3, network.height, network.width), dtype=np.float32)
    return best(lambda: session.run(None, {session.get_inputs()[0].name: image}))


def table(card: Card) -> list[str]:
    """Markdown: both networks and the cameras of one card, predicted."""
    rows = [
        f"| {card.name}, *predicted* | kernels | GFLOP an item | MB an item | floor, ms | ms an item |",
        "|---|---|---|---|---|---|",
    ]
    seconds = []
    for network in NETWORKS:
        found = list(Graph(network.file, network.batch, network.height, network.width).kernels())
        flops, moved = sum(k.flops for k in found), card.width * sum(k.values for k in found)
        low, real = (each / network.batch for each in (floor(found, card), predict(found, card)))
        seconds.append(real)
        size = f"{flops / network.batch / 1e9:.2f} | {moved / network.batch / 1e6:.1f}"
        rows.append(
            f"| {network.name}, batch {network.batch} | {len(found)} | {size} | {low * 1e3:.3f} | {real * 1e3:.3f} |"
        )
    count = cameras(seconds[0], seconds[1])
    return [*rows, f"| cameras at 25 fps with two faces, by the networks | | | | | **{count}** |"]


def errors(card: Card) -> list[str]:
    """Markdown: what ``card``, this CPU, takes by the prediction and by the clock."""
    rows = [f"| {card.name}, float32, batch 1 | predicted, ms | measured, ms | error |", "|---|---|---|---|"]
    for network in NETWORKS:
        found = list(Graph(network.file, 1, network.height, network.width).kernels())
        guess, real = predict(found, card, MEMORY, MEMORY) * 1e3, measured(network) * 1e3
        rows.append(f"| {network.name} | {guess:.1f} | {real:.1f} | {guess / real - 1:+.0%} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--card", choices=sorted(CARDS), default="rtx3050")
    parser.add_argument("--layers", action="store_true", help="every kernel too")
    parser.add_argument("--measure", action="store_true", help="the error of the prediction on this CPU")
    given = parser.parse_args()
    card = CARDS[given.card]
    print("\n".join(table(card)))
    if given.layers:
        for network in NETWORKS:
            for kernel in Graph(network.file, network.batch, network.height, network.width).kernels():
                ms = floor([kernel], card) / network.batch * 1e3
                bound = (
                    "compute" if kernel.flops / card.flops > kernel.values * card.width / card.bandwidth else "bytes"
                )
                print(f"{kernel.name[-44:]:45}{kernel.operators[:30]:31}{ms:8.4f} ms  {bound}")
    if given.measure:
        own = this_cpu()
        print(f"\n{own.name}: {own.flops / 1e9:.0f} GFLOP/s, {own.bandwidth / 1e9:.1f} GB/s")
        print("\n".join(errors(own)))


if __name__ == "__main__":
    main()
