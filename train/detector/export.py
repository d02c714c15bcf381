"""The trained detector as an ONNX file with its card, checked against the network it came from.

Batch, height and width are dynamic; non-maximum suppression stays outside. Weights are stored as float16 where the
detections stay the same, and cast to float32 by the graph, so every provider computes in float32.
"""

import copy
import io
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

from stream_enhance.backends.card import Card, weights_sha256, write_card
from stream_enhance.errors import StreamEnhanceError

OPSET = 17
PIXELS, SCORE = 0.5, 0.01  # how far ONNX and torch may differ
FLOOR = 0.05  # cells that score less are no detections, and are not compared in pixels


def export(model: nn.Module, target: Path, card: Card, images: NDArray[np.uint8]) -> Card:
    """Write `model` to `target`; the card as written, with the weights' digest.

    `images` (n, S, S, 3) uint8 RGB are what torch and ONNX are compared on. Raises StreamEnhanceError, and writes
    nothing, where they differ by more than half a pixel or a hundredth of score.
    """
    fused = to_export(model)
    exact = trace(fused, card.size)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        wanted = fused(x.contiguous()).numpy()
    small = half_stored(exact)
    lost = differences(wanted, run(small, x.numpy()))
    graph = small if lost[0] <= PIXELS / 2 and lost[1] <= SCORE / 2 else exact
    pixels, score = differences(wanted, run(graph, x.numpy()))
    if not (pixels <= PIXELS and score <= SCORE):
        raise StreamEnhanceError(
            f"{target}: ONNX and torch differ by {pixels:.3f} px and {score:.4f} in score; not written"
        )
    stored = graph is small
    metrics = card.metrics | {"parity": {"pixels": pixels, "score": score, "float16_storage": stored}}
    card = card.model_copy(update={"weights_sha256": weights_sha256(graph), "metrics": metrics})
    write_card(graph, card)
    onnx.checker.check_model(graph)
    target.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(graph, str(target))
    return card


def to_export(model: nn.Module) -> nn.Module:
    """A copy of `model` with batch norms folded and a head that gives (n, 20, cells)."""
    fused = copy.deepcopy(model).float().cpu().eval().fuse(verbose=False)
    head = fused.model[-1]
    head.export, head.dynamic, head.format = True, True, "onnx"
    return fused


def trace(model: nn.Module, size: int) -> onnx.ModelProto:
    """The graph, with dynamic batch, height and width."""
    memory = io.BytesIO()
    axes = {"images": {0: "batch", 2: "height", 3: "width"}, "output0": {0: "batch", 2: "cells"}}
    torch.onnx.export(
        model,
        (torch.zeros(1, 3, size, size),),
        memory,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["output0"],
        dynamic_axes=axes,
        dynamo=False,
    )
    return onnx.load_from_string(memory.getvalue())


def half_stored(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose larger float32 weights are float16 with a Cast behind each; runtimes fold it when they load."""
    half = copy.deepcopy(graph)
    casts = []
    for tensor in half.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.size > 512:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), f"{name}_half"))
            casts.append(helper.make_node("Cast", [f"{name}_half"], [name], f"{name}_cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *half.graph.node]
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    return half


def run(graph: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The graph's output for x (n, 3, S, S), computed on the CPU."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": np.ascontiguousarray(x)})[0]


def differences(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> tuple[float, float]:
    """The largest difference in pixels, of boxes and points of cells that detect something, and in score."""
    score = float(np.abs(wanted[:, 4] - got[:, 4]).max())
    hit = np.broadcast_to((wanted[:, 4] > FLOOR)[:, None], wanted.shape)
    apart = np.where(hit, np.abs(wanted - got), 0)
    pixels = np.delete(apart, [4, 7, 10, 13, 16, 19], axis=1)
    return float(pixels.max()), score
