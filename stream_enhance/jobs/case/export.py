"""Stills and clips out of a case, before and after, with faces covered where that is asked for, and a manifest."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np

from ...config import Config
from ...errors import InputError, SinkError
from ...imaging.frames import copy_of, native
from ...pipeline import Pipeline
from ...sinks.codecs import Encoding
from ...sinks.open import open_sink
from ...stages.detect import Detector, DetectorOptions
from ...stages.enhance import EnhancerOptions
from ...types import Frame, Rendered
from . import redact
from .files import make_folder, png, sha256_of, write, write_sums
from .footage import read_upright, unchanged
from .record import Case, VideoEntry

_DETECTED = 0.12  # score from which a detection is covered: rather one shelf too many than one face too few


def export(case: Case, folder: Path, name: str, first: int, last: int, redacted: str, out: Path) -> None:
    """Write frames ``first`` to ``last`` of the video ``name``, as recorded and enhanced, to the new folder ``out``.

    One frame makes a pair of PNGs, more make a pair of videos.

    Args:
        case, folder: the case and where it is.
        redacted: "": no face is covered; "all"; "others", which keeps the tracks behind it: "others:3,7"; or the tracks
            to cover: "3,7".

    Raises:
        InputError: no such video, frames or tracks.
        SinkError: ``out`` is in the case, holds something, or cannot be written.
    """
    video = _video(case, name)
    if last < first:
        raise InputError(f"--from-frame {first} is after --to-frame {last}; name them the other way round")
    if not 0 <= first <= last < video.frames:
        raise InputError(f"{name}: has frames 0 to {video.frames - 1}; name some of them")
    if out.resolve().is_relative_to(folder.resolve()):
        raise SinkError(f"{out}: is in the case, whose seal would no longer hold; name a folder outside it")
    hidden = _hidden(redacted, video)
    make_folder(out)
    boxes = _covers(folder, video, hidden, first, last) if hidden is not None else None
    files = {}
    for kind, source in (("original", video.copy_), ("enhanced", video.enhanced)):
        made = f"{kind}.png" if first == last else f"{kind}.mp4"
        frames = _covered(folder / source, first, last, boxes)
        if first == last:
            with closing(frames):
                write(out / made, png(next(frames).to_rgb()))
        else:
            _write_clip(frames, out / made, kind, redacted, folder / source)
        files[made] = {"from": source, "sha256": sha256_of(out / made)}
    about = {
        "case": case.id,
        "video": video.name,
        "source_sha256": video.sha256,
        "frames": [first, last],
        "changed_by": video.changed_by,
        "redacted": redacted or "nobody",
        "program": case.program,
        "files": files,
    }
    write(out / "manifest.json", (json.dumps(about, indent=2) + "\n").encode())
    write_sums(out)


def _video(case: Case, name: str) -> VideoEntry:
    for video in case.videos:
        if video.name == name:
            return video
    raise InputError(f"{name}: no such video; the case has {', '.join(video.name for video in case.videos)}")


def _hidden(redacted: str, video: VideoEntry) -> set[int] | None:
    """The tracks to cover; None where none is to be."""
    if not redacted:
        return None
    every = {track.id for track in video.tracks}
    names = redacted.removeprefix("others:")
    if redacted == "all":
        return every
    if not re.fullmatch(r"\d+(,\d+)*", names):
        raise InputError(f"{redacted}: not who is to be covered; write all, others:3,7 or 3,7, with tracks' numbers")
    named = {int(number) for number in names.split(",")}
    if unknown := named - every:
        raise InputError(f"{video.name}: has no track {min(unknown)}; the page shows which there are")
    return named if names == redacted else every - named


def _covers(folder: Path, video: VideoEntry, hidden: set[int], first: int, last: int) -> list[list[redact.Box]]:
    """What to cover on each of the frames from ``first`` to ``last``."""
    rate = video.times if isinstance(video.times, float) else (video.frames - 1) / max(video.duration, 1e-3)
    paths = _paths(folder / video.boxes)
    kept = {track.id for track in video.tracks} - hidden
    margin = int(np.ceil(rate))  # a face found a moment later was there before
    detections: list[list[redact.Box]] = [[] for _ in range(video.frames)]
    begin, end = max(0, first - margin), min(video.frames, last + margin + 1)
    with Pipeline(Config(enhancer=EnhancerOptions(kind="none"))) as pipeline:
        detector = Detector(pipeline.sessions["face-detection"], DetectorOptions(score=_DETECTED, every=1))
        with closing(read_upright(folder / video.copy_)) as frames:
            for number, frame in enumerate(islice(frames, begin, end), begin):
                xyxy = detector.find(frame).xyxy
                detections[number] = [(float(a), float(b), float(c), float(d)) for a, b, c, d in xyxy]
    return redact.covers(video.frames, rate, paths, kept, detections)[first : last + 1]


def _paths(boxes: Path) -> dict[int, redact.Path]:
    """Tracks as ``build`` wrote them for the page.

    Raises:
        InputError: they cannot be read.
    """
    try:
        found = json.loads(re.sub(r"^CASE\.boxes\(\d+, |\);\s*$", "", boxes.read_text()))
    except (OSError, ValueError):
        raise InputError(f"{boxes}: cannot be read; the case is damaged") from None
    paths = {}
    for number, (frames, flat) in found.items():
        xywh = np.array(flat, np.float32).reshape(-1, 4)
        xywh[:, 2:] += xywh[:, :2]
        paths[int(number)] = redact.Path(frames, xywh)
    return paths


def _covered(
    path: Path, first: int, last: int, boxes: list[list[redact.Box]] | None
) -> Generator[Rendered, None, None]:
    with closing(read_upright(path)) as frames:
        for number, frame in enumerate(islice(frames, first, last + 1)):
            yield unchanged(frame) if boxes is None else _hide(frame, boxes[number])


def _hide(frame: Frame, boxes: list[redact.Box]) -> Rendered:
    image = copy_of(native(frame.image))
    redact.cover(image, boxes)
    return unchanged(frame, image)


def _write_clip(frames: Iterable[Rendered], path: Path, kind: str, redacted: str, source: Path) -> None:
    covered = f"faces covered: {redacted}" if redacted else "no face covered"
    sink = open_sink(path, Encoding(crf=14), f"part of a case, {kind}; {covered}", source=str(source))
    for _ in sink(frames):
        pass
    sink.finish()
