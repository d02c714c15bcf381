"""Where an output goes: what a file is called while it is written and after, what URLs can be pushed to, and that it is
never the original."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import SinkError, redact
from ..urls import with_environment

_PUSHES = {"rtsp": "rtsp", "rtmp": "flv", "rtmps": "flv", "udp": "mpegts", "srt": "mpegts", "http": "whip"}
_PUSHES |= {"https": "whip"}
FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".ts": "mpegts", ".m2ts": "mpegts"}


def part_of(path: Path) -> Path:
    """What the file ``path`` is called while it is written."""
    return path.with_name(f"{path.stem}.part{path.suffix}")


def part_to_write(path: Path, overwrite: bool) -> Path:
    """The same, after a look at whether it is there.

    Raises:
        SinkError: it is, and may hold what a run that was cut off has written.
    """
    part = part_of(path)
    if part.exists() and not overwrite:
        raise SinkError(f"{part}: is there already, of a run that was cut off; move it, or --overwrite it")
    return part


def refuse_overwriting_source(original: str, *outputs: str) -> None:
    """Look that none of ``outputs`` is the file ``original``, the folder, or a file in it.

    Raises:
        SinkError: one is.
    """
    kept = Path(original)
    for spec in outputs:
        for path in (Path(spec), part_of(Path(spec))) if Path(spec).name else (Path(spec),):
            if not (path.exists() and kept.exists()):
                continue
            if path.samefile(kept) or (path.is_file() and path.resolve().is_relative_to(kept.resolve())):
                raise SinkError(f"{path}: is the original, which is never written over; name another output")


def file_to_write(spec: str, overwrite: bool) -> Path:
    """The video file that ``spec`` names, after a look at whether it can be written.

    Raises:
        SinkError: unknown kind of file, it is there already, or its folder cannot be written.
    """
    path = Path(spec)
    if path.suffix.lower() not in FORMATS:
        known = ", ".join(sorted(FORMATS))
        raise SinkError(
            f"{spec}: unknown kind of output; use one of {known}, a folder (with a / at its end), - or a URL"
        )
    if path.exists() and not overwrite:
        raise SinkError(f"{spec}: is there already; use --overwrite to replace it")
    if not path.parent.is_dir():
        raise SinkError(f"{path.parent}: no such folder; make it first")
    if not os.access(path.parent, os.W_OK):
        raise SinkError(f"{path.parent}: no permission to write there; name another folder")
    return path


def push_target(spec: str) -> tuple[str, str, str]:
    """FFmpeg's form of the URL ``spec``, the URL with its ``{NAME}`` filled in, and its name, fit to be shown.

    Raises:
        SinkError: an unknown scheme.
        SourceError: an environment variable is not set.
    """
    name, scheme = redact(spec), spec.split("://", 1)[0].lower()
    if scheme not in _PUSHES:
        raise SinkError(f"{name}: cannot be pushed to; use one of {', '.join(sorted(_PUSHES))}")
    return _PUSHES[scheme], with_environment(spec), name
