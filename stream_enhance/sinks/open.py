"""From targets to sinks: the one place in which an output's kind is chosen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import SinkError
from ..safe_files import Originals
from .base import Sink
from .codecs import Encoding
from .dtls import dtls_options
from .encoder import Encoder
from .fanout import Fanout, MuxedOutput, Output
from .hls import MARKER, HlsMuxer
from .image_folder import ImageFolderSink, ImageSink
from .mjpeg import MjpegServer
from .muxer import FileMuxer, Finished, Muxer, PipeMuxer, part_of
from .remote import RemoteMuxer
from .segments import KEY_SECONDS, SegmentOptions, SegmentsMuxer
from .target import (
    FileTarget,
    HlsTarget,
    ImageFolderTarget,
    ImageTarget,
    MjpegTarget,
    PushTarget,
    SegmentsTarget,
    StdoutTarget,
    Target,
    parse_target,
)

_CODECS = {"whip": {"h264"}, "flv": {"h264", "hevc", "av1"}, "mpegts": {"h264", "hevc"}, "hls": {"h264", "hevc"}}


def open_sink(
    specs: str | Path | Sequence[str | Path],
    encoding: Encoding,
    comment: str,
    *,
    live: bool = False,
    segments: SegmentOptions = SegmentOptions(),
    overwrite: bool = False,
    number: bool = False,
    source: str = "",
    finished: Finished | None = None,
) -> Sink:
    """One sink for all of ``specs``.

    Args:
        specs: see ``target.parse_target``; several are encoded once.
        encoding: how to encode.
        comment: container metadata that says what was changed.
        live: of a camera, which never waits for an output.
        segments: how outputs are cut whose name holds the time.
        overwrite: replace files that are there.
        number: rather give a file another number where one of its name is there.
        source: the source's name: what it reads is never written over.
        finished: called with each video file before it has its name.

    Raises:
        SinkError: one of them cannot be written, or cannot hold the codec.
    """
    targets = [parse_target(s, live, segments) for s in ([specs] if isinstance(specs, (str, Path)) else specs)]
    originals = Originals.of(source)
    for target in targets:
        _check(target, encoding, originals, overwrite=overwrite, number=number, live=live)
    if segments.seconds and not any(isinstance(target, SegmentsTarget) for target in targets):
        raise SinkError(f"{targets[0].name}: segments need a name with the time in it, such as %Y%m%d-%H%M%S.mp4")
    match targets:
        case [ImageFolderTarget(path=path)]:
            return ImageFolderSink(path, overwrite, comment, originals)
        case [ImageTarget(path=path)]:
            return ImageSink(path, overwrite, comment, originals)
    outputs: list[Output] = []
    encoder = Encoder(_encoding_for(targets, encoding, segments), comment)
    fanout_of = _Opener(live, segments, originals, overwrite, number, finished, alone=len(targets) == 1)
    try:
        for target in targets:
            outputs.append(fanout_of(target))
    except BaseException:
        for output in outputs:
            output.join(0)  # lets its port go
        raise
    return Fanout(encoder, outputs)


def _encoding_for(targets: Sequence[Target], encoding: Encoding, segments: SegmentOptions) -> Encoding:
    """``encoding`` as it suits all of ``targets``."""
    changed: dict[str, object] = {}
    if any(isinstance(target, PushTarget) and target.form == "whip" for target in targets):
        changed |= {"profile": "baseline", "pixel_format": "yuv420p"}  # what every browser must take (RFC 7742)
    if any(isinstance(target, (SegmentsTarget, HlsTarget)) for target in targets):
        changed |= {"exact_keys": True, "key_seconds": segments.key_seconds}
    elif encoding.live or len(targets) > 1 or _cut_at_keys(targets[0]):
        changed |= {"key_seconds": KEY_SECONDS}
    return encoding.model_copy(update=changed)


def _cut_at_keys(target: Target) -> bool:
    """Whether its container is written in fragments: cut elsewhere, FFmpeg's edit list may lose the last one."""
    return isinstance(target, PushTarget) or (isinstance(target, FileTarget) and target.form in ("mp4", "mov"))


class _Opener:
    """Makes outputs of targets.

    Args:
        alone: there is no other output: a file of a camera is waited for, too.
    """

    def __init__(
        self,
        live: bool,
        segments: SegmentOptions,
        originals: Originals,
        overwrite: bool,
        number: bool,
        finished: Finished | None,
        alone: bool,
    ) -> None:
        self._live, self._segments, self._originals = live, segments, originals
        self._overwrite, self._number, self._alone, self._finished = overwrite, number, alone, finished

    def __call__(self, target: Target) -> Output:
        whole = not self._live
        originals = self._originals
        muxer: Muxer
        match target:
            case MjpegTarget():
                return MjpegServer(target)
            case FileTarget(path=path, form=form) if whole or (self._alone and not self._number):
                muxer, whole = FileMuxer(path, form, originals, self._overwrite, self._finished), True
            case FileTarget(path=path, form=form):  # opened again after a fault, under another number
                muxer = SegmentsMuxer(path, form, SegmentOptions(), originals, self._finished, whole=False, timed=False)
            case SegmentsTarget(path=path, form=form):
                muxer = SegmentsMuxer(path, form, self._segments, originals, self._finished, whole=whole)
            case HlsTarget(path=path):
                muxer = HlsMuxer(path, originals, whole=whole, replace=self._overwrite)
            case PushTarget(form=form, url=url):
                muxer = RemoteMuxer(url, form, _push_options(form))
            case StdoutTarget():
                muxer, whole = PipeMuxer(), whole or self._alone
            case ImageFolderTarget() | ImageTarget():
                raise SinkError(f"{target.name}: images are written alone; name no other output beside them")
        return MuxedOutput(target.name, muxer, whole)


def _push_options(form: str) -> dict[str, str]:
    """FFmpeg's, for sending in that format; its limits are shorter than those of ``RemoteMuxer``."""
    match form:
        case "rtsp":
            return {"rtsp_transport": "tcp", "timeout": "5000000"}  # µs
        case "flv":
            return {"rw_timeout": "5000000"}
        case "mpegts":
            return {"omit_video_pes_length": "0"}
        case "whip":
            return dtls_options()
    return {}


def _check(
    target: Target, encoding: Encoding, originals: Originals, *, overwrite: bool, number: bool, live: bool
) -> None:
    """Check, before any work, that ``target`` can be written.

    Raises:
        SinkError: it cannot.
    """
    form = getattr(target, "form", "")
    if encoding.codec not in _CODECS.get(form, {encoding.codec}):
        known = ", ".join(sorted(_CODECS[form]))
        raise SinkError(f"{target.name}: {form} cannot hold {encoding.codec}; set sink.codec to one of {known}")
    match target:
        case PushTarget() | MjpegTarget() | StdoutTarget():
            return
        case ImageFolderTarget(path=path):
            originals.refuse(path)
            return
        case FileTarget(path=path):
            originals.refuse(path, part_of(path))
            _free(path, overwrite or number)
            _free_part(part_of(path), overwrite or (live and number))
        case ImageTarget(path=path):
            originals.refuse(path)
            _free(path, overwrite)
        case HlsTarget(path=path):
            originals.refuse(path, part_of(path))
            _free(path, overwrite or (live and _is_own_playlist(path)))
            _free_part(part_of(path), overwrite or live)
        case SegmentsTarget():
            pass
    folder = target.path.parent
    if not folder.is_dir():
        raise SinkError(f"{folder}: no such folder; create it first")
    if not os.access(folder, os.W_OK):
        raise SinkError(f"{folder}: no permission to write there; name another folder")


def _free(path: Path, replace: bool) -> None:
    if os.path.lexists(path) and not replace:
        raise SinkError(f"{path}: already exists; use --overwrite to replace it")


def _free_part(part: Path, replace: bool) -> None:
    if os.path.lexists(part) and not replace:
        raise SinkError(f"{part}: already exists, left by an interrupted run; move it, or replace it with --overwrite")


def _is_own_playlist(path: Path) -> bool:
    try:
        with path.open(errors="replace") as file:
            return MARKER in (file.readline() + file.readline())
    except OSError:
        return False
