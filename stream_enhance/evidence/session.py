"""The evidence of one run: its folder, manifest, signatures and seal, as a recorder of the line."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ..errors import EvidenceError, SinkError, redact, redact_output
from ..pipeline import Pipeline
from ..report import Report
from ..safe_files import Originals, create, publish, shortened, write_whole
from ..sinks.target import FileTarget, ImageFolderTarget, ImageTarget, SegmentsTarget, Target, parse_target
from ..sources.base import Source
from ..types import Enhanced, Frame, Rendered
from .credentials import EMBEDDED, Claim, sign
from .host import program
from .keys import Identity, identity
from .manifest import NAME, Event, FileEntry, Header, ModelEntry, OutputEntry, SourceEntry, settings_sha256
from .pinned import recorded
from .recorder import FrameRecorder
from .seal import SEAL, entry_of, entry_path, write_seal
from .writer import ManifestWriter

log = logging.getLogger(__name__)

ORIGINAL = "original"  # folder of what was kept of the source


def evidence_folder(output: Path) -> Path:
    """Where the evidence of a run is whose output is ``output``."""
    return output.with_name(shortened("", output.name, ".evidence"))


class Evidence:
    """Records a run: give it to ``Pipeline.run`` as ``recorder``, then call ``seal``.

    Args:
        pipeline: what runs, with the settings of ``pinned``.
        source: its name.
        outputs: where frames go; the folder stands beside the first that is on disk.
        overwrite: replace the evidence of an earlier run.

    Raises:
        EvidenceError: no output, or no original that is to be kept, is on disk, or the key cannot sign.
        SinkError: the folder cannot be made, or is there.
    """

    def __init__(self, pipeline: Pipeline, source: str, outputs: Sequence[str | Path], overwrite: bool = False) -> None:
        config = pipeline.config
        self._pipeline, self._config, self._replace = pipeline, config, overwrite
        self.run = str(uuid.uuid4())
        self.note = f"evidence run {self.run}"
        self._started = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._specs = [os.fspath(output) for output in outputs]
        on_disk = Path(source).exists()
        if config.evidence.keep_original and not on_disk:
            raise EvidenceError(f"{redact(source)}: is no file or folder; leave --keep-original out")
        self._targets = self._parsed(live=not on_disk)
        self._names = tuple(redact_output(os.fspath(output)) for output in outputs)
        self._originals = Originals.of(source)
        self.identity: Identity = identity(config.evidence.certificate, config.evidence.key)
        self.folder = evidence_folder(_beside(self._targets))
        _make(self.folder, overwrite, self._originals)
        self._files: dict[Path, FileEntry] = {}  # of finished videos, and of what was kept of the source
        self._sidecars: list[Path] = []
        self._problems: list[str] = []
        self._lock = threading.Lock()
        self._sources: tuple[FileEntry, ...] = ()
        self._recorder: FrameRecorder | None = None
        self._writer: ManifestWriter | None = None
        self._live = False

    def begin(self, source: Source) -> None:
        """Hash what the source reads, keep it where that is wanted, and begin the manifest."""
        self._live, self._name = source.info.live, source.info.name
        self._targets = self._parsed(self._live)
        path = Path(self._name)
        if not source.info.live and path.exists():
            files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
            self._sources = tuple(entry_of(file, self.folder) for file in files)
            if self._config.evidence.keep_original:
                self._keep(files)
        try:
            writer = ManifestWriter(self.folder / NAME, self._originals, self._replace)
        except OSError as error:
            raise SinkError(f"{self.folder / NAME}: cannot be written ({error.strerror})") from None
        self._writer, self._recorder = writer, FrameRecorder(writer, self._header)
        self._recorder.begin(source)

    def decoded(self, frame: Frame) -> None:
        """See ``FrameRecorder``, as for the next two."""
        assert self._recorder is not None
        self._recorder.decoded(frame)

    def drawing(self, item: Enhanced) -> None:
        """``item`` is about to be drawn."""
        assert self._recorder is not None
        self._recorder.drawing(item)

    def drawn(self, item: Rendered) -> None:
        """``item`` is finished.

        Raises:
            SinkError: the manifest cannot be written.
        """
        assert self._recorder is not None
        try:
            self._recorder.drawn(item)
        except OSError as error:
            raise SinkError(f"{self.folder / NAME}: cannot be written ({error.strerror})") from None

    def finished(self, part: Path, final: Path) -> None:
        """Sign a finished video before it has its name.

        Raises:
            OSError, EvidenceError: a recording's cannot be signed.
        """
        assert self._recorder is not None
        live = self._live
        try:
            if not live:
                self._recorder.drain()  # so that the chain holds every frame
            self._sign(part, final, self._recorder.writer.chain)
        except (OSError, EvidenceError) as error:
            if not live:
                raise
            log.error("%s: is recorded and not signed (%s)", final, error)  # the recording goes on
            with self._lock:
                self._problems.append(f"{final.name} is not signed")
        with self._lock:
            entry = self._files[final] = entry_of(part, self.folder).model_copy(
                update={"path": entry_path(final, self.folder)}
            )
        if live:
            self._recorder.segment(entry)

    def end(self, report: Report) -> None:
        """Complete the manifest.

        Raises:
            SinkError: it cannot be written.
        """
        recorder = self._recorder
        if recorder is None:
            return
        outputs = tuple(self._outputs(report))
        lost = tuple(
            Event(event="lost", frame=max(0, recorder.frames_in - 1), count=output.lost, what=output.name)
            for output in outputs
            if output.lost
        )
        whole = [t for t in self._targets if isinstance(t, FileTarget)] if not self._live else []
        unfinished = "; ".join(f"{target.name} was not finished" for target in whole if target.path not in self._files)
        error = report.error or "; ".join(self._problems) or unfinished or self._changed() or None
        report = report.model_copy(update={"error": error})
        try:
            recorder.end(report, error is None and not lost, outputs, lost)
        except OSError as failure:
            raise SinkError(f"{self.folder / NAME}: cannot be written ({failure.strerror})") from None

    def seal(self, others: Iterable[Path] = ()) -> Path:
        """Seal the folder with its manifest, outputs and ``others``, such as a report and shots.

        Returns:
            The path of ``seal.json``.

        Raises:
            EvidenceError: it cannot be written, or there is no timestamp.
        """
        assert self._writer is not None
        assert self._recorder is not None
        writer = self._writer
        if not self._recorder.frames_in:
            raise EvidenceError(f"{self.folder}: holds no manifest, as no frame was decoded; nothing is sealed")
        files = {writer.path, *self._sidecars, *others}
        files |= {path for path in self._files if path.exists()}
        files |= {path for target in self._targets for path in _images(target)}
        evidence = self._config.evidence
        return write_seal(
            self.folder,
            files,
            [(writer.path, writer.chain)],
            self.identity,
            tsa=evidence.tsa,
            replace=self._replace,
            known=self._files,
        )

    def _parsed(self, live: bool) -> list[Target]:
        return [parse_target(spec, live, self._config.segments) for spec in self._specs]

    def _keep(self, files: Sequence[Path]) -> None:
        """Copy the files of the source as they are."""
        folder = self.folder / ORIGINAL
        try:
            folder.mkdir(exist_ok=True)
            for file in files:
                copy = create(folder / file.name, self._originals, self._replace)
                with file.open("rb") as read:
                    try:
                        shutil.copyfileobj(read, copy, 1 << 20)
                    finally:
                        copy.close()
                self._files[folder / file.name] = entry_of(folder / file.name, self.folder)
        except OSError as error:
            raise SinkError(f"{folder}: the original cannot be kept there ({error.strerror})") from None

    def _changed(self) -> str:
        """Whether a file of the source is another than the one that was hashed, as far as its size says."""
        for entry in self._sources:
            path = self.folder / entry.path
            if not path.exists() or path.stat().st_size != entry.bytes:
                return f"{path.name} was changed while it was read"
        return ""

    def _header(self, first: Frame) -> Header:
        settings = recorded(self._config)
        return Header(
            run=self.run,
            started=self._started,
            program=program(),
            source=self._about_source(first),
            models=tuple(ModelEntry(file=name, **about) for name, about in self._pipeline.models.items()),
            learned=self._learned,
            changed_by=self._pipeline.enhancement.changed_by,
            settings=settings,
            settings_sha256=settings_sha256(settings),
            outputs=self._names,
        )

    @property
    def _learned(self) -> bool:
        return "face-enhancement" in self._pipeline.sessions

    def _about_source(self, first: Frame) -> SourceEntry:
        info, image = first.stream, first.image
        live, path = info.live, Path(info.name)
        stream = info.streams[info.video_index] if info.streams else None
        context = getattr(stream, "codec_context", None)
        begun = info.metadata.get("creation_time")
        if live:
            begun = datetime.fromtimestamp(first.wall_time - first.seconds, UTC).isoformat(timespec="milliseconds")
        return SourceEntry(
            name=info.name,
            kind="camera" if live else "folder" if path.is_dir() else "file" if path.is_file() else "stream",
            files=self._sources,
            container=info.format,
            codec=context.name if context else "",
            width=image.width,
            height=image.height,
            pixel_format=image.format.name,
            rotation=first.rotation,
            time_base=f"{first.time_base.numerator}/{first.time_base.denominator}",
            rate=str(info.rate) if info.rate else None,
            begun=begun,
        )

    def _sign(self, part: Path, final: Path, chain: str) -> None:
        claim = Claim(
            original=self._sources[0] if len(self._sources) == 1 else None,
            source=self._name,
            learned=self._learned,
            changed_by=self._pipeline.enhancement.changed_by,
            models=tuple((name, about["sha256"]) for name, about in self._pipeline.models.items()),
            manifest=f"{self.folder.name}/{NAME}",
            chain=chain,
            steps=tuple(_steps(self._pipeline)),
        )
        if final.suffix.lower() not in EMBEDDED:
            sidecar = self.folder / shortened("", final.name, ".c2pa")
            data = sign(part, None, final.name, claim, self.identity)
            write_whole(sidecar, data, self._originals, self._replace or sidecar in self._sidecars)
            with self._lock:
                self._sidecars.append(sidecar)
            return
        signed = part.with_name(shortened(".", final.stem, f".signed.part{final.suffix}"))
        create(signed, self._originals, replace=True).close()  # left by a run that was killed
        try:
            with signed.open("r+b") as write:
                sign(part, write, final.name, claim, self.identity)
            publish(signed, part, self._originals, replace=True)
        except BaseException:
            signed.unlink(missing_ok=True)
            raise

    def _outputs(self, report: Report) -> Iterable[OutputEntry]:
        counted = report.outputs or [{} for _ in self._targets]
        for target, name, count in zip(self._targets, self._names, counted, strict=False):
            path = getattr(target, "path", None)
            yield OutputEntry(
                name=name,
                file=self._files.get(path) if isinstance(target, FileTarget) and path is not None else None,
                frames=count.get("packets", report.frames_out),
                lost=count.get("lost", 0),
                problem=redact(str(count.get("problem", ""))),
            )


def _beside(targets: Sequence[Target]) -> Path:
    """The output that names the evidence folder."""
    for target in targets:
        match target:
            case FileTarget(path=path) | ImageTarget(path=path):
                return path
            case ImageFolderTarget(path=path):
                return Path(os.path.normpath(path))
            case SegmentsTarget(path=path):  # one folder a run, named by its begin
                return path.with_name(time.strftime(path.name))
    raise EvidenceError("--evidence: no output is a video file, segments or images; name one of these with -o")


def _make(folder: Path, replace: bool, originals: Originals) -> None:
    if not replace and any(os.path.lexists(folder / name) for name in (SEAL, NAME)):  # NAME alone: of a failed run
        raise SinkError(f"{folder}: already exists; use --overwrite to replace it")
    originals.refuse(folder)
    try:
        folder.mkdir(exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "no permission to write there")
    except OSError as error:
        raise SinkError(f"{folder}: evidence cannot be kept there ({error.strerror})") from None


def _images(target: Target) -> Iterable[Path]:
    match target:
        case ImageTarget(path=path) if path.is_file():
            return [path]
        case ImageFolderTarget(path=path) if path.is_dir():
            return [file for file in path.iterdir() if file.is_file()]
    return []


def _steps(pipeline: Pipeline) -> Iterable[str]:
    config = pipeline.config
    yield f"faces found and followed by the networks and settings of the manifest ({', '.join(pipeline.models)})"
    if pipeline.enhancement.changed_by:
        by = pipeline.enhancement.changed_by
        yield f"faces changed by {by}, in the places and with the strength that the manifest says"
    yield f"shown {config.overlay.mode}, encoded again as {config.sink.codec}"
