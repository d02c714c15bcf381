"""Opening a recording's container, with what may read it bounded, and saying what is wrong with one that cannot be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import av
import av.container

from ..errors import SourceError
from . import web
from .base import SourceOptions
from .file import VideoSource
from .formats import FILE_DEMUXERS, TEXT_OPTIONS, URL_DEMUXERS
from .hardware import decoding_on

T = TypeVar("T")

_NO_PARTS = "its index may be at its end, and the server gives no parts of files (byte ranges): download it first"
SILENT = 30.0  # seconds without a byte from a web server until it is given up


def open_file(path: Path, name: str, options: SourceOptions) -> VideoSource:
    """The recording at ``path``.

    Raises:
        SourceError: it cannot be opened or holds no video.
    """
    try:
        container = _open(name, f"file:{path}", FILE_DEMUXERS, options, {"protocol_whitelist": "file"})
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, av.error.InvalidDataError) and _lacks_index(path):
            raise SourceError(
                f"{name}: the index is missing: the recording was cut off; repair it with a tool such as untrunc"
            ) from None
        raise _refused(name, error) from None
    return VideoSource(container, name, options)


def open_pipe(options: SourceOptions) -> VideoSource:
    """The recording on standard input.

    Raises:
        SourceError: it cannot be opened or holds no video.
    """
    name = "standard input"
    try:
        container = _open(name, "pipe:0", FILE_DEMUXERS, options, {"protocol_whitelist": "pipe"})
    except (av.FFmpegError, ValueError) as error:
        raise _refused(name, error) from None
    return VideoSource(container, name, options)


def open_url(url: str, name: str, options: SourceOptions, seekable: bool = True, playlist: bool = False) -> VideoSource:
    """The recording that a server holds.

    Args:
        url: with the secrets in it.
        name: fit to be shown.
        options: how to read it.
        seekable: whether the server gives parts of it.
        playlist: whether it is one of HLS.

    Raises:
        SourceError: it cannot be opened or holds no video.
    """
    return _in_thread(lambda: _open_url(url, name, options, web.Answer(url, "recorded", seekable, playlist)))


def _open_url(url: str, name: str, options: SourceOptions, answer: web.Answer) -> VideoSource:
    given = {"rw_timeout": f"{SILENT * 1e6:.0f}"}
    kept: dict[str, Any] = {}
    seekable = answer.seekable
    if url.lower().startswith("http") and not options.other_hosts:
        more, kept = web.on_its_host(answer, name, SILENT)  # ``web.ask`` has followed what is allowed
        given |= more
    try:
        container = _open(name, url, URL_DEMUXERS, options, given, kept)
    except av.error.TimeoutError:
        raise SourceError(f"{name}: no answer within {SILENT:g} s; can the server be reached from here?") from None
    except (av.FFmpegError, ValueError) as error:  # str(error) would show the URL, password and all
        if isinstance(error, av.error.InvalidDataError) and not seekable:
            raise SourceError(f"{name}: cannot be opened; {_NO_PARTS}") from None
        raise _refused(name, error) from None
    return VideoSource(container, name, options, "is the file complete?" if seekable else _NO_PARTS)


def _open(
    name: str,
    url: str,
    demuxers: str,
    options: SourceOptions,
    given: dict[str, str],
    kept: dict[str, Any] | None = None,
) -> av.container.InputContainer:
    limits = {"format_whitelist": demuxers, "max_pixels": str(options.max_pixels), "pattern_type": "none"}
    with decoding_on(options.hwaccel, name, options) as hwaccel:
        container: av.container.InputContainer = av.open(
            url, "r", options={**limits, **given}, hwaccel=hwaccel, **TEXT_OPTIONS, **(kept or {})
        )
    return container


def _refused(name: str, error: Exception) -> SourceError:
    match error:
        case av.error.InvalidDataError():
            cure = "is it a video?"
        case av.error.ArgumentError():  # what FFmpeg says of a demuxer that is not on the list
            return SourceError(f"{name}: cannot be opened: not a video of a kind that is read here")
        case _:
            cure = "is it there and readable?"
    reason = error.strerror if isinstance(error, av.FFmpegError) else type(error).__name__
    return SourceError(f"{name}: cannot be opened ({reason}); {cure}")


def _lacks_index(path: Path) -> bool:
    """Whether the file at ``path`` is an MP4 or MOV without its ``moov`` box."""
    boxes: list[bytes] = []
    try:
        with path.open("rb") as file:
            at, size = 0, path.stat().st_size
            while at + 8 <= size and len(boxes) < 1000:
                file.seek(at)
                head = file.read(16)
                length, kind = int.from_bytes(head[:4], "big"), head[4:8]
                boxes.append(kind)
                if length == 1:
                    length = int.from_bytes(head[8:16], "big")
                if length < 8:  # to the end of the file, or not a box
                    break
                at += length
    except OSError:
        return False
    return bool(boxes) and boxes[0] in (b"ftyp", b"mdat", b"wide", b"free") and b"moov" not in boxes


def _in_thread(work: Callable[[], T]) -> T:
    """``work`` done in another thread: FFmpeg in the main thread would keep signals from being heard."""
    done: Future[T] = Future()

    def do() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=do, name="opening", daemon=True).start()
    return done.result()
