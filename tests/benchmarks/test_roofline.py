"""The roofline counts what a graph computes and moves, and adds up."""

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from benchmarks import roofline  # noqa: E402
from benchmarks.roofline import CARDS, Card, Graph, Kernel, cameras, floor, predict  # noqa: E402


def write(path: Path) -> Path:
    """A 3 x 3 convolution of 3 to 4 channels with SiLU behind it, and a second one of one cell that halves."""
    weights = {"w": (4, 3, 3, 3), "v": (2, 4, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Mul", ["a", "s"], ["b"]),
        helper.make_node("Conv", ["b", "v"], ["y"], strides=[2, 2]),
    ]
    stored = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])
    graph = helper.make_graph(
        nodes, "tiny", [source], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], stored
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def test_kernels_are_fused_and_counted(tmp_path: Path) -> None:
    first, second = Graph(write(tmp_path / "tiny.onnx"), 2, 8, 8).kernels()
    assert first.operators == "Conv+Sigmoid+Mul"
    assert first.flops == 2 * 27 * 4 * 64 * 2
    assert first.values == 2 * 3 * 64 + 2 * 4 * 64 + 108  # what is between the fused operators moves nowhere
    assert second.operators == "Conv"
    assert second.flops == 2 * 4 * 2 * 16 * 2
    assert second.values == 2 * 4 * 64 + 2 * 2 * 16 + 8


def test_a_kernel_takes_the_longer_of_computing_and_moving() -> None:
    card = Card("toy", flops=100, bandwidth=10, launch=1, width=2)
    computes, moves = Kernel("a", "Conv", 200, 1), Kernel("b", "Add", 0, 50)
    assert floor([computes, moves], card) == 2 + 10
    assert predict([computes, moves], card, 0.5, 0.5) == (4 + 1) + (20 + 1)


def test_predictions_of_the_rtx_3050_are_what_the_report_says() -> None:
    card = CARDS["rtx3050"]
    unet, detector = (
        predict(list(Graph(n.file, n.batch, n.height, n.width).kernels()), card) / n.batch for n in roofline.NETWORKS
    )
    assert unet <= 0.35e-3
    assert detector <= 1e-3
    assert cameras(unet, detector) >= 32
    text = "\n".join(roofline.table(card))
    assert "*predicted*" in text
    assert f"**{cameras(unet, detector)}**" in text
