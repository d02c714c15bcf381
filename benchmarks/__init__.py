"""What is fast, measured beside what a user would use instead.  Each script prints its conditions."""

import stream_enhance  # noqa: F401 - before onnxruntime, whose telemetry it turns off
