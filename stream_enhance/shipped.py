"""The model files that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from .errors import ModelError

DETECTOR, UNET = "yolov8n-face.onnx", "unet.onnx"


def default_model(name: str) -> Path:
    """Where the package keeps the model file ``name``: beside its code, or in ``engines/`` of a checkout.

    Raises:
        ModelError: it is in neither place.
    """
    inside = Path(str(resources.files(__package__))) / "engines" / name
    checkout = Path(__file__).resolve().parent.parent / "engines" / name
    for path in (inside, checkout):
        if path.is_file():
            return path
    raise ModelError(f"{name}: not in this installation; name a model file with detector.model or enhancer.model")
