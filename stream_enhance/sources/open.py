"""The one reader of a source's name: a file, a folder of images, a pipe, a webcam or a URL."""

from __future__ import annotations

import re
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import SourceError, redact
from ..urls import with_environment
from .base import Source, SourceOptions
from .camera import CameraSource
from .connection import LiveOptions
from .file import VideoSource
from .formats import SCHEMES, VIDEOS
from .image_folder import ImageFolder

_SILENT = 30.0  # seconds without a byte from a web server until it is given up


def open_source(spec: str, options: SourceOptions | None = None, live: LiveOptions | None = None) -> Source:
    """The source that ``spec`` names.

    Args:
        spec: a file, a folder of images, ``-`` (a pipe, MPEG-TS for one), ``webcam:N`` or /dev/videoN, or a URL; in
            a URL ``{NAME}`` stands for the environment variable NAME.
        options: how to read a recording.
        live: how to hold on to a camera.

    Raises:
        SourceError: nothing there, nothing in it, or nothing that can be decoded.  A camera is connected to in the
            background: its ``ready`` raises.
    """
    options = options or SourceOptions()
    if spec == "-":
        return VideoSource("pipe:0", name="standard input")
    if "://" in spec:
        url = with_environment(spec)
        scheme = url.split("://", 1)[0].lower()
        if scheme not in SCHEMES:
            raise SourceError(f"{redact(spec)}: unknown scheme {scheme!r}; use one of {', '.join(sorted(SCHEMES))}")
        if scheme in ("http", "https") and Path(urlsplit(url).path).suffix.lower() in VIDEOS - {".mjpg", ".mjpeg"}:
            return _recording(url, redact(spec))
        return CameraSource(url, redact(spec), live)
    if match := re.fullmatch(r"webcam:(\d+)|/dev/video(\d+)", spec):
        return _webcam(int(match[1] or match[2]), live)
    path = Path(spec)
    if path.is_dir():
        return ImageFolder(path, options.rate)
    if not path.exists():
        raise SourceError(f"{spec}: no such file")
    return VideoSource(f"file:{path}", name=spec)


def _recording(url: str, name: str) -> VideoSource:
    """Opened in another thread: FFmpeg in the main thread would keep signals from being heard."""
    opened: Future[VideoSource] = Future()

    def open_it() -> None:
        try:
            opened.set_result(VideoSource(url, name, _SILENT))
        except BaseException as error:
            opened.set_exception(error)

    threading.Thread(target=open_it, name="opening", daemon=True).start()
    return opened.result()


def _webcam(number: int, live: LiveOptions | None) -> Source:
    name, form = {
        "linux": (f"/dev/video{number}", "v4l2"),
        "darwin": (str(number), "avfoundation"),
        "win32": (f"video={number}", "dshow"),
    }.get(sys.platform, (f"/dev/video{number}", "v4l2"))
    if form == "v4l2" and not Path(name).exists():
        raise SourceError(f"{name}: no such webcam")
    return CameraSource(name, f"webcam {number}", live, form)
