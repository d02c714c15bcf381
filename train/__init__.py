"""Training and evaluation of the project's networks; needs the `train` extra."""

import stream_enhance  # noqa: F401 - before onnxruntime, whose telemetry it turns off
