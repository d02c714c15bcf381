"""The one reader of a source's name: a file, a folder of images, a pipe, a webcam or a URL."""

from __future__ import annotations

import http.client
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import SourceError, redact
from ..urls import with_environment
from . import container, web
from .base import Source, SourceOptions
from .camera import CameraSource
from .connection import LiveOptions
from .formats import SCHEMES, VIDEOS
from .image_folder import ImageFolder
from .substream import TwoStreams


def open_source(spec: str, options: SourceOptions | None = None, live: LiveOptions | None = None) -> Source:
    """The source that ``spec`` names.

    Args:
        spec: a file, a folder of images, ``-`` (a pipe, MPEG-TS for one), ``webcam:N`` or /dev/videoN, or a URL; in
            a URL ``{NAME}`` stands for the environment variable NAME.
        options: how to read it.
        live: how to hold on to a camera.

    Raises:
        SourceError: nothing there, nothing in it, or nothing that can be decoded.  A camera is connected to in the
            background: its ``wait_ready`` raises.
    """
    options, live = options or SourceOptions(), live or LiveOptions()
    source = _main(spec, options, live)
    if not live.detect_url:
        return source
    if not source.info.live:
        source.close()
        raise SourceError(f"{redact(spec)}: live.detect_url is for cameras; leave it out")
    return TwoStreams(source, _small(live.detect_url, options, live))


def _small(spec: str, options: SourceOptions, live: LiveOptions) -> Source:
    """A camera's smaller stream; whether it can be reached is no condition.

    Raises:
        SourceError: it is no URL of a camera.
    """
    url, name = with_environment(spec), redact(spec)
    if "://" not in spec or url.split("://", 1)[0].lower() not in SCHEMES:
        raise SourceError(f"live.detect_url: {name} is not a camera's URL; use rtsp://, for example")
    return CameraSource(url, name, live.model_copy(update={"wait": True}), options)


def _main(spec: str, options: SourceOptions, live: LiveOptions) -> Source:
    if "://" in spec:
        return _url(spec, options, live)
    if match := re.fullmatch(r"webcam:(\d+)|/dev/video(\d+)", spec):
        return _webcam(int(match[1] or match[2]), options, live)
    if options.kind == "live":
        raise SourceError(f"{spec}: only a URL or a webcam is live; leave out --live")
    if spec == "-":
        return container.open_pipe(options)
    path = Path(spec)
    try:
        is_folder = path.is_dir()
        path.stat()
    except FileNotFoundError:
        raise SourceError(f"{spec}: no such file") from None
    except (OSError, ValueError) as error:  # a name that no file system takes, too
        reason = error.strerror if isinstance(error, OSError) else "it holds a zero byte"
        raise SourceError(f"{spec}: cannot be opened ({reason})") from None
    return ImageFolder(path, options) if is_folder else container.open_file(path, spec, options)


def _url(spec: str, options: SourceOptions, live: LiveOptions) -> Source:
    url, name = with_environment(spec), redact(spec)
    scheme = url.split("://", 1)[0].lower()
    if scheme not in SCHEMES:
        raise SourceError(f"{name}: unknown scheme {scheme!r}; use one of {', '.join(sorted(SCHEMES))}")
    if scheme in ("http", "https"):
        return _web(url, name, options, live)
    if options.kind == "recorded":  # a recorder's playback
        return container.open_url(url, name, options)
    return CameraSource(url, name, live, options)


def _web(url: str, name: str, options: SourceOptions, live: LiveOptions) -> Source:
    """What is live and what is a recording a web server says by how it answers."""
    answer = web.Answer(url, "unknown", True)
    try:
        answer = web.ask(url, name, min(live.timeout, container.SILENT), options.other_hosts)
    except (OSError, http.client.HTTPException) as error:
        if _has_end(url, options) and not live.wait:
            raise SourceError(f"{name}: {_no_answer(error, live.timeout)}") from None
    kind = options.kind if options.kind != "auto" else answer.kind
    if kind == "recorded" or (kind == "unknown" and _has_end(url, options)):
        return container.open_url(answer.url, name, options, answer.seekable, answer.playlist)
    return CameraSource(url, name, live, options)  # it asks again each time it connects


def _has_end(url: str, options: SourceOptions) -> bool:
    """Whether a URL that gave no answer names a recording, as far as can be said."""
    if options.kind != "auto":
        return options.kind == "recorded"
    return Path(urlsplit(url).path).suffix.lower() in VIDEOS - {".mjpg", ".mjpeg"}


def _no_answer(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {min(seconds, container.SILENT):g} s; can the server be reached from here?"
    reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return f"cannot be opened ({reason}); is it there and readable?"


def _webcam(number: int, options: SourceOptions, live: LiveOptions) -> Source:
    name, form = {
        "linux": (f"/dev/video{number}", "v4l2"),
        "darwin": (str(number), "avfoundation"),
        "win32": (f"video={number}", "dshow"),
    }.get(sys.platform, (f"/dev/video{number}", "v4l2"))
    if form == "v4l2" and not Path(name).exists():
        raise SourceError(f"{name}: no such webcam")
    return CameraSource(name, f"webcam {number}", live, options, form)
