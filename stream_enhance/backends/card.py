"""The card every model file carries: what it takes, what it gives, where it comes from.

The card is one JSON document under the key ``card`` of the ONNX file's metadata.  Pre-processing is read from it and
set nowhere else, so a network and the frames it is shown cannot disagree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ModelError

if TYPE_CHECKING:
    import onnx

KEY = "card"
PLANES = {"frame": 3, "past": 1, "image": 3, "log_error": 1}  # channels of each part


class Card(BaseModel):
    """What a model file says of itself.  Network input is ``(rgb / scale - mean) / std``, float32 (n, 3, H, W), or,
    where ``input_type`` is uint8, the RGB image itself, (n, H, W, 3); an enhancer then gives such an image too."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    name: str
    task: Literal["face-detection", "face-enhancement"]
    size: int = Field(gt=0)  # pixels: the side of the square input; the default side where dynamic
    dynamic: bool = False  # takes any side that is a multiple of 32
    color: Literal["RGB"] = "RGB"
    scale: float = Field(default=255.0, gt=0)
    input_type: Literal["float32", "uint8"] = "float32"  # uint8: (n, H, W, 3) images as they are, scaled in the graph
    precision: Literal["fp32", "int8"] = "fp32"
    source_sha256: str = ""  # of the fp32 file that a quantised file was made from
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    alignment: Literal["five-points", "box", "none"] = "none"
    points: int = 0
    inputs: tuple[Literal["frame", "past"], ...] = ("frame",)  # along the channels; `past` as stages/past.py packs it
    outputs: tuple[Literal["image", "log_error"], ...] = ("image",)
    license: str
    data: str
    recipe: str
    commit: str
    weights_sha256: str
    weaknesses: str = ""
    calibration: tuple[float, float] | None = None  # of a detector's scores; see `probability`
    metrics: dict[str, Any] = Field(default_factory=dict)

    @property
    def channels(self) -> tuple[int, int]:
        """How many the input has, and the output of an enhancer."""
        return sum(PLANES[part] for part in self.inputs), sum(PLANES[part] for part in self.outputs)


def probability(card: Card, score: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """How often detections of these scores are faces: 0.7 is right seven times in ten on surveillance video.

    Platt's sigmoid (1999) of the score's logit, fitted by ``python -m train.detector calibrate-scores``.

    Args:
        card: the detector's card.
        score: (n,) float32, 0..1, as the network gives them.

    Returns:
        (n,) float32, 0..1, in the order of the scores; None where the card holds no calibration.
    """
    if card.calibration is None:
        return None
    slope, offset = card.calibration
    kept = np.clip(score, 1e-4, 1 - 1e-4)
    return np.asarray(1 / (1 + np.exp(-(slope * np.log(kept / (1 - kept)) + offset))), np.float32)


def parse_card(metadata: Mapping[str, str], where: str) -> Card:
    """The card in an ONNX file's metadata.

    Raises:
        ModelError: there is none, or it does not hold what a card must.
    """
    if KEY not in metadata:
        raise ModelError(f"{where}: no card in the model's metadata; export it with `python -m train.enhancer export`")
    try:
        return Card.model_validate_json(metadata[KEY])
    except ValidationError as error:
        first = error.errors()[0]
        key = "".join(f"{part}: " for part in first["loc"])
        raise ModelError(
            f"{where}: the card in its metadata is damaged ({key}{first['msg']}); export it again"
        ) from None


def read_card(path: str | Path) -> Card:
    """The card of the ONNX file at ``path``, read without building a session (needs the ``onnx`` package).

    Raises:
        ModelError: no such file, not an ONNX file, or no valid card.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model file") from None
    except Exception as error:  # protobuf's DecodeError has no stable public home
        raise ModelError(f"{path}: not a readable ONNX file ({type(error).__name__})") from None
    return parse_card({p.key: p.value for p in model.metadata_props}, str(path))


def write_card(model: onnx.ModelProto, card: Card) -> None:
    """Put ``card`` into ``model``'s metadata, in place of any it had."""
    kept = [(p.key, p.value) for p in model.metadata_props if p.key != KEY]
    del model.metadata_props[:]
    for key, value in [*kept, (KEY, card.model_dump_json())]:
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def weights_sha256(model: onnx.ModelProto) -> str:
    """SHA-256 over the names, shapes and raw values of the model's initializers, in name order."""
    from onnx import numpy_helper

    digest = hashlib.sha256()
    for tensor in sorted(model.graph.initializer, key=lambda t: t.name):
        array = numpy_helper.to_array(tensor)
        digest.update(f"{tensor.name}|{array.dtype}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def file_sha256(path: str | Path) -> str:
    """SHA-256 of the file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
