"""Where an output goes: the one place in which its name is read.

``parse_target`` turns what a user wrote into one of a few plain values; ``open`` makes outputs of them.  Neither the
disk nor the network is touched, but to see whether a name is that of a folder.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import SinkError, redact, redact_output
from ..safe_files import refuse_long_name
from ..urls import is_loopback, with_environment
from .image_folder import IMAGES
from .segments import SegmentOptions

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".ts": "mpegts", ".m2ts": "mpegts"}
_PUSHES = {"rtsp": "rtsp", "rtmp": "flv", "rtmps": "flv", "udp": "mpegts", "srt": "mpegts", "http": "whip"}
_PUSHES |= {"https": "whip"}


@dataclass(frozen=True, slots=True)
class FileTarget:
    """One video file."""

    name: str  # fit to be shown
    path: Path
    form: str  # FFmpeg's name of the container's format


@dataclass(frozen=True, slots=True)
class SegmentsTarget:
    """Video files one after the other, whose name holds strftime's codes for the time at which each begins."""

    name: str
    path: Path
    form: str


@dataclass(frozen=True, slots=True)
class HlsTarget:
    """A playlist and its segments."""

    name: str
    path: Path
    form: str = "hls"


@dataclass(frozen=True, slots=True)
class PushTarget:
    """A server that is sent to."""

    name: str
    form: str
    url: str = field(repr=False)  # secrets and all


@dataclass(frozen=True, slots=True)
class MjpegTarget:
    """JPEGs over HTTP, served on this machine."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ImageFolderTarget:
    """Each frame as an image in a folder."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class ImageTarget:
    """One image file."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class StdoutTarget:
    """MPEG-TS on standard output."""

    name: str = "standard output"
    form: str = "mpegts"


Target = (
    FileTarget | SegmentsTarget | HlsTarget | PushTarget | MjpegTarget | ImageFolderTarget | ImageTarget | StdoutTarget
)


def identity_of(target: Target) -> str:
    """Where ``target`` goes, alike for alike places; with a URL's secrets."""
    match target:
        case PushTarget():
            return target.url
        case MjpegTarget():
            return f"mjpeg://{target.host.lower().replace('localhost', '127.0.0.1')}:{target.port}"
        case StdoutTarget():
            return "-"
    return os.path.realpath(target.path)


def parse_target(
    spec: str | os.PathLike[str], live: bool = False, segments: SegmentOptions = SegmentOptions()
) -> Target:
    """What ``spec`` names: a video file, a folder for images (ends in / or is there already), one image, ``.m3u8`` for
    HLS, ``-`` for standard output, ``mjpeg://127.0.0.1:port/``, or a URL to push to, in which ``{NAME}`` stands for
    an environment variable.

    Args:
        live: of a camera: ``%`` in a file's name is the time.
        segments: as it is with these, where they cut.

    Raises:
        SinkError: it names nothing that can be written.
        SourceError: an environment variable is not set.
    """
    spec = os.fspath(spec)
    scheme, separator, _ = spec.partition("://")
    path, cut = Path(spec), live or segments.seconds or segments.megabytes
    match scheme.lower() if separator else "", path.suffix.lower():
        case "mjpeg", _:
            return _mjpeg(spec)
        case scheme, _ if scheme:
            return _push(spec, scheme)
        case _ if spec == "-":
            return StdoutTarget()
        case _ if spec.endswith(("/", os.sep)) or _is_folder(path):
            return ImageFolderTarget(spec, path)
        case _, ".m3u8":
            return HlsTarget(spec, path)
        case _, suffix if suffix in FORMATS and "%" in path.name and cut:
            if os.sep in time.strftime(path.name):
                raise SinkError(f"{spec}: its time codes give a /, as %D does; use others, such as %Y%m%d-%H%M%S")
            return SegmentsTarget(spec, path, FORMATS[suffix])
        case _, suffix if suffix in FORMATS:
            return FileTarget(spec, path, FORMATS[suffix])
        case _, suffix if suffix in IMAGES:
            return ImageTarget(spec, path)
    known = ", ".join([*sorted(FORMATS), ".m3u8"])
    raise SinkError(f"{spec}: unknown kind of output; use one of {known}, an image, a folder (ends in /), - or a URL")


def _is_folder(path: Path) -> bool:
    refuse_long_name(path)
    return path.is_dir()


def _mjpeg(spec: str) -> MjpegTarget:
    try:
        host, port = urlsplit(spec).hostname or "", urlsplit(spec).port
    except ValueError:
        host, port = "", None
    if port is None or not is_loopback(host):
        raise SinkError(f"{redact(spec)}: write mjpeg://127.0.0.1:8090/; it shows frames to this machine only")
    return MjpegTarget(redact(spec), host, port)


def _push(spec: str, scheme: str) -> PushTarget:
    if scheme not in _PUSHES:
        raise SinkError(f"{redact(spec)}: cannot be pushed to; use one of {', '.join(sorted(_PUSHES))}")
    return PushTarget(redact_output(spec), _PUSHES[scheme], with_environment(spec))
