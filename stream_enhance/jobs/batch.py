"""Every video below a folder, enhanced into another folder under the same relative paths.

What is done is kept in a manifest in the output folder, by the content of the source, the settings, the models and the
version; a second run does only the rest.  An entry is begun before its file is written and completed after, so a file
that a crash left half-written is known and done again.  One bad file does not stop the others.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import av
import av.stream

from .. import __version__
from ..backends.card import file_sha256
from ..errors import InputError, SinkError, SourceError
from ..pipeline import Pipeline
from ..report import Report
from ..run import Run
from ..safe_files import Originals, try_lock, write_whole
from ..sinks.muxer import part_of
from ..sinks.target import FORMATS
from ..sources.formats import IMAGES, VIDEOS

log = logging.getLogger(__name__)

MANIFEST = "stream-enhance.json"
_CONTAINERS = (  # FFmpeg's names of those in which a file of an unknown suffix is believed to be a video
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,avi,asf,flv,live_flv,ivf,obu,h264,hevc,m4v,mpegvideo,"
    "mxf,mxf_opatom,nut,ogg,rm,dv,gxf,dhav,wtv,vc1,yuv4mpegpipe,ffm,pva,nsv,nuv"
)
_NO_MATTER = {"detector": {"model"}, "enhancer": {"model"}, "sink": {"threads"}, "threads": True}  # of the settings


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one video."""

    source: Path  # relative to the source folder
    output: Path  # relative to the output folder
    state: Literal["done", "kept", "failed", "stopped"]  # kept: done by an earlier run
    report: Report | None = None
    error: Exception | None = None


def videos_in(folder: Path, outputs: Path | None = None) -> tuple[list[Path], list[Path]]:
    """Every video below ``folder``, and every file that is none, in order.

    A suffix that videos have is believed, a file with any other is looked into.  Hidden files and what lies in
    ``outputs`` are left out.

    Raises:
        SourceError: no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder")
    inside = outputs.resolve() if outputs is not None else None
    if inside is not None and not inside.is_relative_to(folder.resolve()):
        inside = None
    found: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file() or (inside and path.resolve().is_relative_to(inside)):
            continue
        (found if path.suffix.lower() in VIDEOS or _holds_video(path) else others).append(path)
    if not found:
        raise SourceError(f"{folder}: holds no videos{f'; passed over: {_by_suffix(others)}' if others else ''}")
    return found, others


def _holds_video(path: Path) -> bool:
    """Whether a file of an unknown suffix is a container of video; playlists and images are none."""
    if path.suffix.lower() in IMAGES:
        return False
    try:
        with av.open(f"file:{path}", "r", options={"format_whitelist": _CONTAINERS}) as container:
            covers = av.stream.Disposition.attached_pic
            return any(stream.codec_context and not stream.disposition & covers for stream in container.streams.video)
    except (av.FFmpegError, ValueError, OSError):
        return False


def _by_suffix(paths: list[Path]) -> str:
    """How many files there are of each suffix."""
    counts = Counter(path.suffix.lower() or "without a suffix" for path in paths)
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())


def output_name(source: Path) -> Path:
    """Where the enhanced ``source`` goes: its own kind of file, or MP4, which every player takes."""
    return source if source.suffix.lower() in FORMATS else source.with_name(f"{source.name}.mp4")


def enhance_folder(
    pipeline: Pipeline,
    folder: Path,
    outputs: Path,
    *,
    overwrite: bool = False,
    evidence: bool = False,
    watch: Callable[[Run], None] = lambda run: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[Item]:
    """Enhance every video below ``folder`` that is not done yet, one after the other.

    Args:
        pipeline: its networks are shared by all files.
        folder: where the videos are.
        outputs: where they go; made if it is not there.
        overwrite: replace files that no earlier batch has written.
        evidence: keep the evidence of each file beside its output.
        watch: as for ``Pipeline.run``.
        stopping: asked before each file; true ends the batch.

    Raises:
        SourceError: no videos.
        SinkError: the output folder cannot be made, or is the source folder.
    """
    if outputs.resolve() == folder.resolve():
        raise SinkError(f"{outputs}: holds the originals; name another folder")
    sources, others = videos_in(folder, outputs)
    if others:
        log.info("%s: files that hold no video are passed over: %s", folder, _by_suffix(others))
    with Manifest(outputs, Originals.of(*sources)) as manifest:
        yield from _enhance_all(pipeline, folder, outputs, sources, manifest, overwrite, evidence, watch, stopping)


def _enhance_all(
    pipeline: Pipeline,
    folder: Path,
    outputs: Path,
    sources: list[Path],
    manifest: Manifest,
    overwrite: bool,
    evidence: bool,
    watch: Callable[[Run], None],
    stopping: Callable[[], bool],
) -> Iterator[Item]:
    settings = settings_sha256(pipeline)
    originals = {source.resolve() for source in sources}
    taken: set[Path] = set()
    for source in sources:
        if stopping():
            return
        relative = source.relative_to(folder)
        name = output_name(relative)
        try:
            if name in taken:
                raise InputError(f"{source}: another video's output is {name} too; rename one of them")
            taken.add(name)
            if {path.resolve() for path in (outputs / name, part_of(outputs / name))} & originals:
                raise SinkError(f"{outputs / name}: is an original, which is never written over; name another folder")
            key = {"source_sha256": _content(source), "settings_sha256": settings}
            if manifest.holds(relative, name, key) and (not evidence or _has_evidence(outputs / name)):
                yield Item(relative, name, "kept")
                continue
            replace = manifest.begun(relative, name, key, overwrite)
            report = _enhanced(pipeline, source, outputs / name, replace, evidence, watch)
            if report is not None:
                manifest.completed(relative, outputs / name, report)
        except Exception as error:  # whatever it is, it is this file's: the rest goes on
            yield Item(relative, name, "failed", error=error)
            continue
        if report is None:
            yield Item(relative, name, "stopped")
            return
        yield Item(relative, name, "done", report)


def _has_evidence(output: Path) -> bool:
    from ..evidence.seal import SEAL
    from ..evidence.session import evidence_folder

    return (evidence_folder(output) / SEAL).exists()


def _content(source: Path) -> str:
    try:
        return file_sha256(source)
    except OSError as error:
        raise SourceError(f"{source}: cannot be read ({error.strerror})") from None


def _enhanced(
    pipeline: Pipeline, source: Path, output: Path, replace: bool, evidence: bool, watch: Callable[[Run], None]
) -> Report | None:
    """Run one file; None where it was torn down."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{output.parent}: cannot be made ({error.strerror}); name another folder") from None
    torn_down = False

    def watched(run: Run) -> None:
        nonlocal torn_down
        watch(run)
        torn_down = run.line.stopping

    if not evidence:
        report = pipeline.run(str(source), str(output), overwrite=replace, watch=watched)
        return None if torn_down else report
    from ..evidence.pinned import one_thread
    from ..evidence.session import Evidence

    with one_thread():
        recorder = Evidence(pipeline, str(source), [output], replace)
        report = pipeline.run(str(source), str(output), overwrite=replace, recorder=recorder, watch=watched)
    if torn_down:
        return None
    recorder.seal()
    return report


def settings_sha256(pipeline: Pipeline) -> str:
    """SHA-256 over all that decides what an output looks like: settings, models and version."""
    said = {
        "config": pipeline.config.model_dump(exclude=_NO_MATTER),  # type: ignore[arg-type]
        "models": [model["sha256"] for model in pipeline.models.values()],
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


class Manifest:
    """What earlier runs wrote into a folder; on disk after every change.  Locked until its ``with`` block ends.

    Args:
        folder: created where it is not there.
        originals: what is being read.

    Raises:
        SinkError: the folder cannot be created or written, another batch has it, or its manifest is not one.
    """

    def __init__(self, folder: Path, originals: Originals) -> None:
        self._folder, self._path, self._originals = folder, folder / MANIFEST, originals
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / f".{MANIFEST}.lock", flags, 0o666)
        except OSError as error:
            raise SinkError(f"{folder}: cannot be used ({error.strerror}); name another folder") from None
        if not try_lock(self._lock):
            os.close(self._lock)
            raise SinkError(f"{folder}: another batch is writing there; wait until it has ended")
        try:
            self._entries = self._read()
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._lock)  # which unlocks it

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            entries: dict[str, dict[str, Any]] = json.loads(self._path.read_text())["files"]
            if not all(isinstance(entry, dict) for entry in entries.values()):
                raise TypeError
            return entries
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SinkError(f"{self._path}: cannot be read ({error.strerror}); name another folder") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SinkError(f"{self._path}: is not a manifest of this program; move it away") from None

    def holds(self, source: Path, output: Path, key: dict[str, str]) -> bool:
        """Whether ``output`` was completed from just this and is still there as it was written."""
        entry = self._entries.get(str(source), {})
        path = self._folder / output
        return (
            {name: entry.get(name) for name in key} == key
            and entry.get("output") == str(output)
            and path.is_file()
            and path.stat().st_size == entry.get("bytes")
        )

    def begun(self, source: Path, output: Path, key: dict[str, str], overwrite: bool) -> bool:
        """Note that ``output`` is about to be written; whether a file there may be replaced, as it is our own."""
        ours = self._entries.get(str(source), {}).get("output") == str(output)
        replace = overwrite or ours
        if replace or not (self._folder / output).exists():
            self._entries[str(source)] = {**key, "output": str(output)}
            self._save()
        return replace

    def completed(self, source: Path, output: Path, report: Report) -> None:
        """Note that ``output`` is finished."""
        entry = self._entries[str(source)]
        entry |= {"bytes": output.stat().st_size, "frames": report.frames_out, "faces": report.faces_enhanced}
        self._save()

    def _save(self) -> None:
        text = json.dumps({"version": __version__, "files": self._entries}, indent=1) + "\n"
        try:
            write_whole(self._path, text.encode(), self._originals, replace=True)
        except OSError as error:
            raise SinkError(f"{self._path}: cannot be written ({error.strerror})") from None


def table(items: list[Item]) -> str:
    """The summary: a line a file, aligned, and the sum."""
    head = ("file", "state", "frames", "faces", "seconds", "frames/s")
    rows: list[tuple[str, ...]] = []
    for item in items:
        if (done := item.report) is None:
            rows.append((str(item.source), item.state, "", "", "", ""))
            continue
        figures = (str(done.frames_out), str(done.faces_enhanced), f"{done.seconds:.1f}", f"{done.fps:.1f}")
        rows.append((str(item.source), item.state, *figures))
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, tuple("-" * width for width in widths), *rows]
    ]
    counts = {state: sum(item.state == state for item in items) for state in ("done", "kept", "failed", "stopped")}
    lines.append(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    return "\n".join(lines)
