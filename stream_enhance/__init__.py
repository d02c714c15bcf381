"""stream-enhance: finds every face in a camera stream or recording, enhances it and puts it back, in real time."""

__version__ = "0.1.0"
