"""stream-enhance: finds every face in a camera stream or recording, enhances it and puts it back, in real time.

>>> from stream_enhance import Pipeline, Config
>>> with Pipeline(Config()) as pipeline:
...     for picture in pipeline.frames("visit.mp4"):
...         rgb = picture.image.to_ndarray(format="rgb24")  # (H, W, 3) uint8
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
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
