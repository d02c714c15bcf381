"""From a torch network to an ONNX graph, and its weights stored at half the size."""

import io
import warnings
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from stream_enhance.errors import ModelError

OPSET = 17
HALF = ".half"  # suffix of a weight's name where it is stored as float16


def to_onnx(
    network: nn.Module, example: Tensor, names: tuple[str, str], axes: Mapping[str, Mapping[int, str]]
) -> onnx.ModelProto:
    """The graph of `network`, traced on `example`; `names` are its input's and output's, `axes` their free sizes."""
    memory = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter announces its age; the newer one wants onnxscript
        torch.onnx.export(
            network,
            (example,),
            memory,  # type: ignore[arg-type]  # the tracing exporter takes a file object
            opset_version=OPSET,
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes={name: dict(each) for name, each in axes.items()},
            dynamo=False,
        )
    return onnx.load_from_string(memory.getvalue())


def store_half(model: onnx.ModelProto, smallest: int = 1) -> onnx.ModelProto:
    """A copy that stores every float32 weight of at least `smallest` values as float16 with a Cast behind it.

    Runtimes fold the cast when they load, so nothing gets slower. Raises ModelError where float16 cannot hold a value.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    casts = []
    for tensor in half.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < smallest:
            continue
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            raise ModelError(f"{tensor.name}: holds values that float16 cannot; export as fp32")
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + HALF))
        casts.append(helper.make_node("Cast", [name + HALF], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *half.graph.node]
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    return half
