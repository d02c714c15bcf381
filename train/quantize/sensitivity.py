"""Which layers stay in float32: each is measured alone in 8 bits, and the worst are taken back until a mark is met."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnxruntime.quantization.calibrate import TensorsData

from train.common.images import Image
from train.quantize.graph import layers
from train.quantize.integers import Floats, quantised, run, session_of, with_quantised

Error = Callable[[Sequence[Floats], Sequence[Floats]], float]  # of fp32 answers and others; 0: equal


def to_batch(image: Image) -> Floats:
    """(H, W, 3) uint8 as float32 (1, 3, H, W) in 0..1."""
    planes: Floats = image.transpose(2, 0, 1)[None].astype(np.float32, order="C") / np.float32(255)
    return planes


def answers(model: onnx.ModelProto, batches: Sequence[Floats]) -> list[Floats]:
    """The network's answer to each batch."""
    session = session_of(model)
    return [run(session, batch) for batch in batches]


def alone(model: onnx.ModelProto, found: TensorsData, batches: Sequence[Floats], error: Error) -> dict[str, float]:
    """The error of `model` with one layer in 8 bits, for each layer, worst first."""
    exact = answers(model, batches)
    errors = {
        layer: error(exact, answers(with_quantised(model, found, names), batches))
        for layer, names in layers(model.graph).items()
    }
    return dict(sorted(errors.items(), key=lambda item: -item[1]))


def chosen_floats(
    model: onnx.ModelProto,
    found: TensorsData,
    batches: Sequence[Floats],
    error: Error,
    worst_first: Mapping[str, float],
    most: float,
    kept: Sequence[str] = (),
    step: int = 2,
) -> tuple[list[str], float]:
    """The layers to keep in float32 beside `kept`, and the error: as few of `worst_first` as bring it to `most`."""
    exact, order = answers(model, batches), list(worst_first)
    for count in range(0, len(order) + 1, step):
        reached = error(exact, answers(quantised(model, found, [*kept, *order[:count]]), batches))
        if reached <= most:
            return order[:count], reached
    raise AssertionError("all layers in float32 and still an error")
