"""Ranges of a network's tensors, measured once, and its graph with any choice of layers in 8-bit integers.

The quantisation is onnxruntime's: static, QDQ, uint8 activations, int8 weights with a scale a channel.
"""

import io
import tempfile
from collections.abc import Collection, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, create_calibrator
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from train.quantize.graph import QUANTISED_OPS, activation, between, layers

Floats = NDArray[np.float32]
Method = Literal["minmax", "percentile", "entropy"]
METHODS: tuple[Method, ...] = get_args(Method)
WIDER = 1.25  # of a normalised image's measured range
DEAD = -8.0  # SiLU of less is within 0.003 of 0, so a convolution before one need not tell such sums apart
_KINDS = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "percentile": (CalibrationMethod.Percentile, {"percentile": 99.999, "symmetric": False}),
    "entropy": (CalibrationMethod.Entropy, {}),
}


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Batches for onnxruntime's calibrators."""

    def __init__(self, name: str, batches: Sequence[Floats]) -> None:
        self._rest = iter([{name: batch} for batch in batches])

    def get_next(self) -> Any:
        """The next input, or None."""
        return next(self._rest, None)


def ranges(model: onnx.ModelProto, batches: Sequence[Floats], method: Method) -> TensorsData:
    """What range each tensor of `model` takes over `batches`, float32 (n, 3, H, W) in 0..1 each."""
    kind, options = _KINDS[method]
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # its calibrators print
        path = Path(folder) / "model.onnx"
        onnx.save(model, str(path))
        tensors = list(QUANTISED_OPS)
        calibrator = create_calibrator(path, tensors, f"{folder}/augmented.onnx", kind, extra_options=options)
        for batch in batches:  # one by one: a histogram keeps all tensors of what it is given
            calibrator.collect_data(_Reader(model.graph.input[0].name, [batch]))
        found: TensorsData = calibrator.compute_data()
    entry = model.graph.input[0].name
    found.data[entry] = _between(0, 1)  # a byte's 256 levels, exactly
    first = next(node for node in model.graph.node if node.op_type == "Conv").input[0]
    if first != entry:  # normalised by the image's own contrast, which may be more than any that was measured
        low, high = found[first].range_value
        found.data[first] = _between(WIDER * float(np.min(low)), WIDER * float(np.max(high)))
    for node in model.graph.node:
        if node.op_type == "Conv" and any(one.op_type == "Sigmoid" for one in activation(model.graph, node)):
            low, high = found[node.output[0]].range_value
            found.data[node.output[0]] = _between(max(float(np.min(low)), DEAD), float(np.max(high)))
    return found


def _between(low: float, high: float) -> TensorData:
    return TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))


def quantised(model: onnx.ModelProto, found: TensorsData, floats: Collection[str] = ()) -> onnx.ModelProto:
    """`model` in 8-bit integers but for the layers named `floats`; what lies between layers stays in integers too."""
    everything = layers(model.graph)
    in_float = {name for layer in floats for name in everything[layer]}
    names = [name for layer in everything.values() for name in layer] + between(model.graph)
    return with_quantised(model, found, [name for name in dict.fromkeys(names) if name not in in_float])


def with_quantised(model: onnx.ModelProto, found: TensorsData, nodes: list[str]) -> onnx.ModelProto:
    """`model` with `nodes` in 8-bit integers and the rest in float32."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    quantizer = QDQQuantizer(
        onnx.shape_inference.infer_shapes(copy),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=found,
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=list(QUANTISED_OPS),
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    return quantizer.model.model


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """`model` on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, batch: NDArray[Any]) -> NDArray[Any]:
    """The network's answer."""
    return session.run(None, {session.get_inputs()[0].name: batch})[0]
