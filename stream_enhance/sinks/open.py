"""What outputs can be written to: files, whole or in segments; HLS; MJPEG; servers to push to."""

from __future__ import annotations

import logging
import os
import re
import time
from contextlib import suppress
from pathlib import Path

import av

from ..errors import SinkError
from .codecs import Encoding
from .dtls import dtls_options
from .fanout import GOP_SECONDS, Opened, Output, SegmentOptions, Tee
from .mjpeg import MjpegServer
from .remote import RemoteMuxer
from .target import FORMATS, file_to_write, part_to_write, push_target

log = logging.getLogger(__name__)

_CODECS = {"whip": {"h264"}, "flv": {"h264", "hevc", "av1"}, "mpegts": {"h264", "hevc"}, "hls": {"h264", "hevc"}}


def open_outputs(
    specs: list[str],
    live: bool,
    encoding: Encoding,
    comment: str,
    segments: SegmentOptions,
    overwrite: bool = False,
    number: bool = False,
) -> Tee:
    """One sink for all of ``specs``.

    Args:
        specs: video files, their names with strftime's ``%`` codes where they are cut into segments; ``.m3u8`` for
            HLS; ``mjpeg://127.0.0.1:port/`` for JPEGs over HTTP; URLs to push to, with ``{NAME}`` for environment
            variables.
        live: of a camera, which never waits for an output.
        overwrite: replace files that are there.
        number: rather give a file another number where one of its name is there.

    Raises:
        SinkError: one of them cannot be written, or cannot hold the codec.
    """
    if any(spec.startswith(("http://", "https://")) for spec in specs):
        # what every browser and WHIP server must take (RFC 7742)
        encoding = encoding.model_copy(update={"profile": "baseline", "pixel_format": "yuv420p"})
    waits = not live
    outputs: list[Output | MjpegServer] = []
    try:
        for spec in specs:
            if spec.startswith("mjpeg://"):
                outputs.append(MjpegServer(spec))
            elif "://" in spec:
                outputs.append(_push(spec, encoding, waits))
            elif spec.endswith(".m3u8"):
                outputs.append(_hls(spec, encoding, waits))
            else:
                outputs.append(_files(spec, encoding, waits, segments, overwrite, number))
    except BaseException:
        for output in outputs:
            if isinstance(output, MjpegServer):
                output.join(0)  # lets its port go
        raise
    return Tee(outputs, encoding, comment)


def _files(
    spec: str, encoding: Encoding, waits: bool, segments: SegmentOptions, overwrite: bool, number: bool
) -> Output:
    cut = is_timed(spec, not waits, segments)
    path = file_to_write(spec, overwrite or cut or number)
    form = FORMATS[path.suffix.lower()]
    _check_codec(form, encoding, spec)
    # of a recording: an error is its end, and it has its name when it is finished
    part = part_to_write(path, overwrite) if waits and not cut else None

    def opened() -> Opened:
        if part is not None:
            name = part
        else:
            name = _unused(path.with_name(time.strftime(path.name)) if cut else path, overwrite and not cut)
        options = {"flush_packets": "1"}
        if form in ("mp4", "mov"):  # playable while it is written
            options |= {"movflags": "+hybrid_fragmented+frag_keyframe", "avoid_negative_ts": "disabled"}
        return av.open(f"file:{name}", "w", format=form, options=options), str(name)

    def tidy() -> None:
        if cut:
            retain(path, segments)

    return Output(spec, opened, waits, segments if cut else None, tidy, part, path)


def is_timed(spec: str, live: bool, segments: SegmentOptions) -> bool:
    """Whether ``%`` in a file's name means the time: of a camera, and where it is to be cut into segments."""
    return "://" not in spec and "%" in Path(spec).name and bool(live or segments.seconds or segments.megabytes)


def _unused(path: Path, overwrite: bool) -> Path:
    """``path``, or where that is taken, the same with a number."""
    number = 1
    while not overwrite and (candidate := path if number == 1 else path.with_stem(f"{path.stem}-{number}")).exists():
        number += 1
    return path if overwrite else candidate


_CODES = {"Y": r"\d{4}", "s": r"\d+"} | dict.fromkeys("mdyHIMSjUWuw", r"\d{1,3}")  # of strftime; others are any text


def retain(path: Path, segments: SegmentOptions) -> None:
    """Delete the oldest files named like ``path``, but never the newest, until the limits of ``segments`` hold."""
    pieces = re.split("%[-_0^#EO]?([a-zA-Z])", path.stem)  # a code at every odd place
    stem = "".join(_CODES.get(p, ".+?") if i % 2 else re.escape(p) for i, p in enumerate(pieces))
    named = re.compile(rf"{stem}(-\d+)?{re.escape(path.suffix)}")
    found = []
    for file in path.parent.iterdir():
        if named.fullmatch(file.name) and file.is_file():
            with suppress(FileNotFoundError):  # another recorder in this folder has just deleted it
                about = file.stat()
                found.append((about.st_mtime, about.st_size, file))
    found.sort()
    total = sum(size for _, size, _ in found)
    for written, size, file in found[:-1]:
        old = segments.keep_hours and time.time() - written > segments.keep_hours * 3600
        much = segments.keep_megabytes and total > segments.keep_megabytes * 1e6
        if not (old or much):
            continue
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s: cannot be deleted (%s), though its time is over", file, error.strerror)
            continue
        log.info("%s: deleted, its time is over", file)
        total -= size


def _hls(spec: str, encoding: Encoding, waits: bool) -> Output:
    path = Path(spec)
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise SinkError(f"{path.parent}: no folder that can be written to; make it first")
    _check_codec("hls", encoding, spec)
    options = {"hls_time": str(GOP_SECONDS), "hls_list_size": "6"}
    options |= {"hls_flags": "delete_segments+independent_segments+temp_file"}
    return Output(spec, lambda: (av.open(spec, "w", format="hls", options=options), spec), waits)


def _push(spec: str, encoding: Encoding, waits: bool) -> Output:
    form, url, name = push_target(spec)
    _check_codec(form, encoding, name)
    options = {"rtsp_transport": "tcp"} if form == "rtsp" else {}
    if form == "mpegts":
        options["omit_video_pes_length"] = "0"
    if form == "whip":
        options |= dtls_options()
    if form in ("rtsp", "flv"):
        options["timeout" if form == "rtsp" else "rw_timeout"] = "5000000"  # µs
    return Output(name, lambda: (RemoteMuxer(url, form, options), name), waits)


def _check_codec(form: str, encoding: Encoding, name: str) -> None:
    if encoding.codec not in _CODECS.get(form, {encoding.codec}):
        known = ", ".join(sorted(_CODECS[form]))
        raise SinkError(f"{name}: {form} cannot hold {encoding.codec}; set sink.codec to one of {known}")
