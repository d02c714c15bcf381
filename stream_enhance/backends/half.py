"""A model file as a graph that computes in half precision, with float32 inputs and outputs.

The shipped files store half-precision weights and cast each to float32, so that the CPU computes in float32.  A
strongly typed compiler such as TensorRT for RTX takes that literally and builds a float32 engine.  ``to_half`` folds
those casts and turns the whole graph, so that every convolution's weights, input and output are half.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from ..safe_files import Originals, write_whole
from .card import file_sha256

if TYPE_CHECKING:
    import onnx

_CONVOLUTIONS = ("Conv", "ConvTranspose")


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` computing in float16 between float32 inputs and outputs; its metadata, the card among it, is kept.

    Needs the ``onnx`` package.  The conversion itself is onnxruntime's.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    metadata = [(entry.key, entry.value) for entry in model.metadata_props]
    blocked = [op for op in DEFAULT_OP_BLOCK_LIST if op not in ("Resize", "Upsample")]  # both compute in half on a GPU
    half: onnx.ModelProto = convert_float_to_float16(unfolded(model), keep_io_types=True, op_block_list=blocked)
    del half.metadata_props[:]
    for key, value in metadata:
        entry = half.metadata_props.add()
        entry.key, entry.value = key, value
    return half


def unfolded(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` in which weights stored as half and cast to float32 are float32 weights."""
    import onnx
    from onnx import TensorProto, numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    stored = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    kept: list[Any] = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in stored:
            weights = numpy_helper.to_array(stored[node.input[0]]).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(weights, node.output[0]))
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:]
    graph.node.extend(kept)
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    return copy


def is_half(model: onnx.ModelProto) -> bool:
    """Whether every convolution's weights are half where the convolution reads them."""
    from onnx import TensorProto

    half = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    weights = [node.input[1] for node in model.graph.node if node.op_type in _CONVOLUTIONS]
    return bool(weights) and all(name in half for name in weights)


def half_file(path: Path, folder: Path) -> Path:
    """The half-precision graph of the model file ``path``: ``path`` itself where it is one, else a file in ``folder``.

    Raises:
        ModelError: the model cannot be read, ``onnx`` is not installed, or ``folder`` cannot be written.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise ModelError("half precision needs the onnx package: pip install onnx") from None
    try:
        target = folder / f"{path.stem}.{file_sha256(path)[:16]}.fp16.onnx"
        if target.exists():
            return target
        model = onnx.load(str(path))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model file") from None
    except Exception as error:  # protobuf's DecodeError has no stable public home
        raise ModelError(f"{path}: not a readable ONNX file ({type(error).__name__})") from None
    if is_half(model):
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(target, to_half(model).SerializeToString(), Originals(), replace=True)
    except OSError as error:
        raise ModelError(
            f"{folder}: cannot be written ({error.strerror}); set engine_cache to another folder"
        ) from None
    return target
