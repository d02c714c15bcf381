"""stream-enhance: finds every face in a camera stream or recording, enhances it and puts it back, in real time.

>>> from stream_enhance import Pipeline, Config
>>> with Pipeline(Config()) as pipeline:
...     for frame in pipeline.frames("visit.mp4"):
...         rgb = frame.image.to_ndarray(format="rgb24")  # (H, W, 3) uint8
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# onnxruntime 1.29 and later gather telemetry for Microsoft, with an identifier of the machine, unless they are told not
# to before their import. What watches cameras reports to nobody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.2.0"
__all__ = ["Config", "Pipeline", "__version__"]

if TYPE_CHECKING:
    from .config import Config
    from .pipeline import Pipeline


def __getattr__(name: str) -> Any:  # training imports crop and card without paying for the rest
    if name == "Pipeline":
        from .pipeline import Pipeline

        return Pipeline
    if name == "Config":
        from .config import Config

        return Config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
