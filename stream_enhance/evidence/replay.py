"""Runs the recorded settings again on the recorded source and compares every frame hash, in and out, and decision."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..backends.card import file_sha256
from ..config import Config
from ..errors import EvidenceError
from ..pipeline import Pipeline
from ..run import Run
from ..sinks.target import ImageFolderTarget, ImageTarget, parse_target
from ..sources.open import open_source
from ..types import Enhanced, Frame, Rendered
from .host import program
from .manifest import NAME, FaceEntry, FrameEntry, Header, Line, read
from .pinned import one_thread
from .recorder import FrameRecorder
from .session import ORIGINAL, evidence_folder


@dataclass(slots=True)
class Replayed:
    """How a second run compares with the recorded one."""

    recorded: int = 0  # frames in the manifest, without those that were dropped
    frames: int = 0  # compared
    inputs: int = 0  # decoded frames with another hash
    outputs: int = 0  # finished frames with another hash
    first: int | None = None  # index of the first frame that differs
    faces: int = 0  # frames with other faces or decisions
    box: float = 0.0  # pixels, largest difference of a box
    strength: float = 0.0  # largest difference of a strength
    same_processor: bool = True
    same_libraries: bool = True

    @property
    def equal(self) -> bool:
        """Whether every recorded frame came out the same, bit for bit."""
        return self.frames == self.recorded and self.inputs == self.outputs == 0

    def in_words(self) -> str:
        """One or two lines."""
        if self.equal:
            text = f"equal: all {self.frames} frames came out as recorded, bit for bit"
            return text if self.same_processor else f"{text}, on another type of processor"
        lines = [f"different: {self.outputs} of {self.frames} finished frames, the first is {self.first}"]
        if self.frames < self.recorded:
            lines[0] = f"different: {self.frames} of {self.recorded} recorded frames came; {self.outputs} differ"
        lines.append(
            f"{self.inputs} decoded frames differ; faces or decisions on {self.faces}; boxes by at most {self.box:.2f}"
            f" pixels, strengths by {self.strength:.4f}"
        )
        other = [w for w, s in (("processor", self.same_processor), ("libraries", self.same_libraries)) if not s]
        return "\n".join(lines + ([f"this machine has another {' and other '.join(other)}"] if other else []))


class _Comparer:
    """Takes the lines of the second run in place of a file."""

    def __init__(self, entries: Iterator[FrameEntry], result: Replayed) -> None:
        self._entries, self._result = entries, result
        self.chain = ""

    def add(self, line: Line) -> None:
        if not isinstance(line, FrameEntry):
            return
        recorded = next(self._entries, None)
        while recorded is not None and recorded.dropped:  # what a full camera line dropped was never worked on
            recorded = next(self._entries, None)
        if recorded is None:
            return
        result = self._result
        result.frames += 1
        result.inputs += line.input != recorded.input
        result.outputs += line.output != recorded.output
        if (line.input, line.output) != (recorded.input, recorded.output) and result.first is None:
            result.first = recorded.index
        self._compare(line.faces, recorded.faces)

    def _compare(self, now: tuple[FaceEntry, ...], then: tuple[FaceEntry, ...]) -> None:
        kinds = [[(face.track, face.decision, face.why) for face in faces] for faces in (now, then)]
        self._result.faces += kinds[0] != kinds[1]
        for a, b in zip(now, then, strict=False):
            self._result.box = max(self._result.box, *(abs(x - y) for x, y in zip(a.box, b.box, strict=True)))
            self._result.strength = max(self._result.strength, abs((a.strength or 0) - (b.strength or 0)))

    def close(self) -> None:
        pass


class _Nothing:
    """A sink that keeps nothing."""

    name, takes_side_packets, upright = "replay", False, False

    def __call__(self, items: Iterable[Rendered]) -> Generator[Rendered, None, None]:
        yield from items

    def finish(self) -> None:
        pass

    def outputs(self) -> list[dict[str, Any]] | None:
        return None


class _Recorder:
    """``FrameRecorder`` as a run wants it; it is ended by ``replay``."""

    note = ""

    def __init__(self, frames: FrameRecorder) -> None:
        self.begin, self._frames = frames.begin, frames

    def decoded(self, frame: Frame) -> None:
        self._frames.decoded(frame)

    def drawing(self, item: Enhanced) -> None:
        self._frames.drawing(item)

    def drawn(self, item: Rendered) -> None:
        self._frames.drawn(item)

    def finished(self, part: Path, final: Path) -> None:
        pass

    def end(self, report: object) -> None:
        pass


def replay(path: Path, source: Path | None = None, watch: Callable[[Run], None] = lambda run: None) -> Replayed:
    """Run the recorded settings of ``path`` again.

    Args:
        path: an evidence folder, or the video beside it.
        source: where the source is now; None: where it was, or what was kept of it.
        watch: as for ``Pipeline.run``.

    Raises:
        EvidenceError: there is no manifest, or the source or a network is not the recorded one.
    """
    folder = path if path.is_dir() and (path / NAME).exists() else evidence_folder(path)
    lines = read(folder / NAME)
    header, _ = next(lines)
    assert isinstance(header, Header)
    footage = _source(folder, header, source)
    entries = [line for line, _ in lines if isinstance(line, FrameEntry)]
    result = Replayed(recorded=sum(not entry.dropped for entry in entries))
    here = program()
    result.same_processor = here.processor == header.program.processor
    result.same_libraries = here.libraries == header.program.libraries
    frames = FrameRecorder(_Comparer(iter(entries), result), lambda first: header)
    with one_thread(), Pipeline(_config(header)) as pipeline:
        _check_models(pipeline, header)
        opened = open_source(str(footage), pipeline.config.source)
        images = isinstance(parse_target(header.outputs[0]), (ImageFolderTarget, ImageTarget))
        run = pipeline.new_run(opened, _Nothing(), upright=images, recorder=_Recorder(frames))

        def watched(run: Run) -> None:
            watch(run)
            if run.done >= len(entries):
                run.stop()

        try:
            run.go(watch=watched)
            frames.drain()
        finally:
            if not run.alive:
                opened.close()
    return result


def _source(folder: Path, header: Header, given: Path | None) -> Path:
    """The recorded source, whose content was compared."""
    files = header.source.files
    if header.source.kind != "file" or len(files) != 1:
        raise EvidenceError(f"{header.source.name}: was a {header.source.kind}; only a file can be run again")
    there, kept = folder / files[0].path, folder / ORIGINAL / Path(files[0].path).name
    path = given or (there if there.exists() or not kept.exists() else kept)
    try:
        found = file_sha256(path)
    except OSError as error:
        raise EvidenceError(
            f"{path}: the source cannot be read ({error.strerror}); name where it is now with --source"
        ) from None
    if found != files[0].sha256:
        raise EvidenceError(
            f"{path}: is not the file that was run: its SHA-256 is another; name that one with --source"
        )
    return path


def _config(header: Header) -> Config:
    try:
        return Config.model_validate(header.settings)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise EvidenceError(
            f"the recorded settings hold {key}, which this version does not know; use {header.program.version}"
        ) from None


def _check_models(pipeline: Pipeline, header: Header) -> None:
    for model in header.models:
        found = pipeline.models.get(model.file, {}).get("sha256")
        if found != model.sha256:
            raise EvidenceError(
                f"{model.file}: is not the network that was run: its SHA-256 is another; fetch that one"
            )
