"""stream-enhance: finds every face in a camera stream or recording, enhances it and puts it back, in real time.

>>> from stream_enhance import Config, Pipeline
>>> with Pipeline(Config()) as pipeline:
...     for frame in pipeline.frames("visit.mp4"):
...         rgb = frame.to_rgb()  # (H, W, 3) uint8
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# onnxruntime 1.29 and later sends telemetry to Microsoft, with an identifier of the machine, unless this is set before
# its import.  What watches cameras reports to nobody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.2.0"
__all__ = [
    "ClassicalOptions",
    "Config",
    "ConfigError",
    "DetectorOptions",
    "EncoderOptions",
    "Enhanced",
    "EnhancedImage",
    "EnhancerOptions",
    "Faces",
    "Frame",
    "InputError",
    "LineError",
    "LiveOptions",
    "ModelError",
    "OutputError",
    "OverlayOptions",
    "Pipeline",
    "Rendered",
    "Report",
    "Run",
    "Scene",
    "SegmentOptions",
    "SinkError",
    "SourceError",
    "SourceOptions",
    "StreamEnhanceError",
    "TrackerOptions",
    "__version__",
]

if TYPE_CHECKING:
    from .config import (
        ClassicalOptions,
        Config,
        DetectorOptions,
        EncoderOptions,
        EnhancerOptions,
        LiveOptions,
        OverlayOptions,
        SegmentOptions,
        SourceOptions,
        TrackerOptions,
    )
    from .errors import (
        ConfigError,
        InputError,
        LineError,
        ModelError,
        OutputError,
        SinkError,
        SourceError,
        StreamEnhanceError,
    )
    from .pipeline import Pipeline
    from .report import Report
    from .run import Run
    from .types import Enhanced, EnhancedImage, Faces, Frame, Rendered, Scene

_HOME = {  # imported when first used: nothing here needs av, onnxruntime or torch before that
    "EnhancedImage": "types",
    "Pipeline": "pipeline",
    "Report": "report",
    "Run": "run",
    **dict.fromkeys(("Config", *(name for name in __all__ if name.endswith("Options"))), "config"),
    **dict.fromkeys(("Enhanced", "Faces", "Frame", "Rendered", "Scene"), "types"),
    **dict.fromkeys((name for name in __all__ if name.endswith("Error")), "errors"),
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
