"""An fp32 model file as a graph that is ready to be quantised, and back again with bytes in and, for faces, out.

`prepared` changes what the graph costs and not what it computes: weights are unfolded, a space-to-depth before a
convolution becomes part of it, and the softmax of YOLOv8's box distribution (DFL) becomes three cheap products.
`with_bytes` makes the quantised graph take the uint8 image itself, whose 256 levels are the first layer's input.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process

from stream_enhance.backends.half import unfolded
from stream_enhance.errors import ModelError

SIDE_OPS = ("Sigmoid", "Mul", "LeakyRelu")  # activations: kept in one precision with their convolution
QUANTISED_OPS = ("Conv", *SIDE_OPS, "Add", "Concat", "MaxPool", "Resize", "Split", "DepthToSpace")
LARGEST_LOGIT = 60.0  # of a box distribution: exp of more would leave float32 for no reason


def prepared(path: Path) -> onnx.ModelProto:
    """The graph of the model file `path` in float32, equal in value, cheaper and with all shapes inferred."""
    model = unfolded(onnx.load(str(path)))
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, f"{folder}/in.onnx")
        quant_pre_process(f"{folder}/in.onnx", f"{folder}/out.onnx", skip_symbolic_shape=True)
        model = onnx.load(f"{folder}/out.onnx")
    graph = model.graph
    for convolution in [node for node in graph.node if node.op_type == "Conv"]:
        fold_space_to_depth(graph, convolution)
    for softmax in [node for node in graph.node if node.op_type == "Softmax"]:
        replace_distribution(graph, softmax)
    used = {name for node in graph.node for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    return model


def constants(graph: onnx.GraphProto) -> dict[str, NDArray[np.generic]]:
    """Every initializer by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def producer(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    """The node that gives the tensor `name`."""
    return next((node for node in graph.node if name in node.output), None)


def consumers(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    """The nodes that take the tensor `name`."""
    return [node for node in graph.node if name in node.input]


def attribute(node: onnx.NodeProto, name: str) -> list[int]:
    """The node's attribute `name`, a list of whole numbers; empty where it has none."""
    return next((list(a.ints) for a in node.attribute if a.name == name), [])


def fold_space_to_depth(graph: onnx.GraphProto, convolution: onnx.NodeProto) -> None:
    """Make Reshape, Transpose, Reshape before a 3 x 3 `convolution` part of it: the same sums, in strides of a block.

    A convolution of the block's pixels as channels is one of the image itself with a kernel `block` times as wide.
    """
    held = constants(graph)
    chain = [convolution]
    for op in ("Reshape", "Transpose", "Reshape"):
        before = producer(graph, chain[-1].input[0])
        if before is None or before.op_type != op:
            return
        chain.append(before)
    weight = held[convolution.input[1]]
    if attribute(chain[2], "perm") != [0, 1, 3, 5, 2, 4] or attribute(convolution, "strides") not in ([], [1, 1]):
        return
    block = int(held[chain[3].input[1]][3])
    rows, channels, height, width = weight.shape
    wide = weight.reshape(rows, channels // block**2, block, block, height, width).transpose(0, 1, 4, 2, 5, 3)
    name = convolution.input[1] + ".wide"
    wide = np.ascontiguousarray(wide.reshape(rows, channels // block**2, height * block, width * block))
    graph.initializer.append(numpy_helper.from_array(wide, name))
    pads = [block * pad for pad in attribute(convolution, "pads")]
    del convolution.attribute[:]
    sizes = {"kernel_shape": list(wide.shape[2:]), "pads": pads, "strides": [block, block], "dilations": [1, 1]}
    convolution.attribute.extend(helper.make_attribute(key, value) for key, value in sizes.items())
    convolution.attribute.append(helper.make_attribute("group", 1))
    convolution.input[0], convolution.input[1] = chain[3].input[0], name
    for node in chain[1:]:
        graph.node.remove(node)


def replace_distribution(graph: onnx.GraphProto, softmax: onnx.NodeProto) -> None:
    """Give what Transpose, `softmax` over 16 bins and a 1 x 1 convolution with 0 ... 15 give, as exp and two sums.

    The expected bin is sum(k e^x) / sum(e^x): one matrix of two rows, instead of a softmax across strided memory.
    """
    before = producer(graph, softmax.input[0])
    after = consumers(graph, softmax.output[0])
    if before is None or before.op_type != "Transpose" or len(after) != 1 or after[0].op_type != "Conv":
        raise ModelError(
            "this graph's box distribution is not YOLOv8's (Transpose, Softmax, Conv); it cannot be quantised"
        )
    # before's input: (n, 4, 16, cells), as the reshape gives it; after's output: (n, 1, 4, cells)
    name, bins = softmax.name or "dfl", constants(graph)[after[0].input[1]].reshape(-1)
    rows = np.stack([bins, np.ones_like(bins)]).astype(np.float32)  # (2, 16)
    added = {
        f"{name}.rows": rows,
        f"{name}.most": np.float32(LARGEST_LOGIT),
        f"{name}.halves": np.array([1, 1], np.int64),
        f"{name}.shape": np.array([0, 1, 4, -1], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), key) for key, value in added.items())
    steps = [
        helper.make_node("Min", [before.input[0], f"{name}.most"], [f"{name}.low"]),
        helper.make_node("Exp", [f"{name}.low"], [f"{name}.exp"]),
        helper.make_node("MatMul", [f"{name}.rows", f"{name}.exp"], [f"{name}.sums"]),  # (n, 4, 2, cells)
        helper.make_node("Split", [f"{name}.sums", f"{name}.halves"], [f"{name}.sum", f"{name}.weight"], axis=2),
        helper.make_node("Div", [f"{name}.sum", f"{name}.weight"], [f"{name}.mean"]),  # (n, 4, 1, cells)
        helper.make_node("Reshape", [f"{name}.mean", f"{name}.shape"], [after[0].output[0]]),
    ]
    for step, op in zip(steps, ("Min", "Exp", "MatMul", "Split", "Div", "Reshape"), strict=True):
        step.name = f"{name}/{op}"
    place = list(graph.node).index(after[0])
    nodes = list(graph.node)
    nodes[place : place + 1] = steps
    del graph.node[:]
    graph.node.extend(node for node in nodes if node.name not in (before.name, softmax.name))


def layers(graph: onnx.GraphProto) -> dict[str, list[str]]:
    """What can be quantised: each convolution's name, with the names of itself and its activation's nodes."""
    return {
        node.name: [node.name, *(one.name for one in activation(graph, node))]
        for node in graph.node
        if node.op_type == "Conv"
    }


def ends(graph: onnx.GraphProto) -> list[str]:
    """The layers after which there is no other: their outputs are the network's answer."""
    return [node.name for node in graph.node if node.op_type == "Conv" and not any(True for _ in reached(graph, node))]


def activation(graph: onnx.GraphProto, convolution: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The nodes that turn the convolution's sums into the next layer's input: LeakyRelu, or Sigmoid and Mul."""
    for node in consumers(graph, convolution.output[0]):
        if node.op_type in SIDE_OPS:
            yield node


def reached(graph: onnx.GraphProto, start: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The convolutions that `start`'s output leads to."""
    waiting, seen = list(start.output), set[str]()
    while waiting:
        name = waiting.pop()
        for node in consumers(graph, name):
            if node.output[0] in seen:
                continue
            seen.add(node.output[0])
            if node.op_type == "Conv":
                yield node
            waiting += node.output


def between(graph: onnx.GraphProto) -> list[str]:
    """Nodes of QUANTISED_OPS with a convolution before and one behind them: what handles features, not images."""
    after: set[str] = set()  # tensors behind a convolution
    for node in graph.node:  # in topological order
        if node.op_type == "Conv" or any(name in after for name in node.input):
            after.update(node.output)
    return [
        node.name
        for node in graph.node
        if node.op_type in QUANTISED_OPS and node.op_type != "Conv"
        if any(name in after for name in node.input) and any(True for _ in reached(graph, node))
    ]


def with_bytes(model: onnx.ModelProto, images_out: bool) -> None:
    """Let `model` take uint8 (n, H, W, 3) instead of float32 (n, 3, H, W) in 0..1; `images_out`: give such too."""
    graph = model.graph
    entry = graph.input[0]
    name, (_, _, height, width) = entry.name, entry.type.tensor_type.shape.dim
    sizes = [entry.type.tensor_type.shape.dim[0].dim_param or "n"]
    sizes += [side.dim_value or side.dim_param for side in (height, width)]
    graph.initializer.append(numpy_helper.from_array(np.array(1 / 255, np.float32), "byte.scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.uint8), "byte.zero"))
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["pixels.planes"], "pixels/planes", perm=[0, 3, 1, 2]),
        helper.make_node("DequantizeLinear", ["pixels.planes", "byte.scale", "byte.zero"], [name], "pixels/scaled"),
    ]
    kept = []
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] == name:  # by 1/255 and 0: see calibration.ranges
            for reader in consumers(graph, node.output[0]):
                reader.input[list(reader.input).index(node.output[0])] = "pixels.planes"
        else:
            kept.append(node)
    if images_out:
        given = graph.output[0].name
        kept.append(helper.make_node("QuantizeLinear", [given, "byte.scale", "byte.zero"], ["levels"], "levels"))
        kept.append(helper.make_node("Transpose", ["levels"], ["enhanced"], "enhanced", perm=[0, 2, 3, 1]))
        shape = [sizes[0], *sizes[1:], 3]
        graph.output[0].CopyFrom(helper.make_tensor_value_info("enhanced", TensorProto.UINT8, shape))
    del graph.node[:]
    graph.node.extend([*nodes, *kept])
    entry.CopyFrom(helper.make_tensor_value_info("pixels", TensorProto.UINT8, [*sizes, 3]))
    del graph.value_info[:]
