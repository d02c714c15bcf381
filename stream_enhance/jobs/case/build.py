"""Makes a case folder: each piece of footage copied, enhanced and searched for faces, then the page, PDF and sums."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from ... import __version__
from ...config import Config
from ...errors import EvidenceError, InputError, SinkError, SourceError, redact
from ...evidence.keys import identity, require_extra
from ...evidence.pinned import one_thread, pinned, recorded
from ...evidence.seal import SEAL, SIGNATURE, TIMESTAMP, VERIFIED, read_seal, write_seal
from ...evidence.session import Evidence
from ...evidence.verify import in_words, verify
from ...pipeline import Pipeline
from ...run import Run
from ...sources.base import Source
from ...sources.open import open_source
from ...stages.networks import Enhancement, Network
from .files import make_folder, png, sha256_of, write, write_sums
from .footage import copy_unchanged, is_playable, write_viewing_copy
from .page import page
from .pdf import write_pdf
from .record import NAME, Case, Notes, ShotEntry, TrackEntry, VideoEntry
from .shots import shot_of
from .tracks import CRITERIA, Collector, Moment, Track


@dataclass(frozen=True, slots=True)
class _Footage:
    """One source, and what it is called in the case."""

    source: Path
    name: str  # of the source's file; with a number where another has it
    number: int  # from 1


def build_case(
    sources: Sequence[str | Path],
    folder: Path,
    config: Config,
    *,
    title: str = "",
    watch: Callable[[Run], None] = lambda run: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Case:
    """Make the case of ``sources`` in ``folder``.

    Args:
        sources: recordings; the page shows them in this order.
        folder: made if it is not there, and empty.
        config: of the enhanced videos; see ``evidence.pinned`` for what is held fast.
        title: of the page; "": the folder's name.
        watch: see ``Pipeline.run``.
        stopped: asked between the sources; true ends it.

    Raises:
        InputError: no source, one that is named twice, or settings that begin within the footage.
        SourceError: a source is no recording that can be read, or has changed meanwhile.
        SinkError: the folder holds something, or cannot be written.
        EvidenceError: it cannot be signed.
    """
    require_extra()
    if config.source.start:
        raise InputError("source.start: the page shows frames beside the original's; leave it out")
    footage = named([Path(source) for source in sources])
    for each in footage:
        if not each.source.is_file():
            raise SourceError(f"{redact(str(each.source))}: no such file; a case is made of recordings")
    make_folder(folder, "video", "shots", "data")
    overlay = config.overlay.model_copy(update={"mode": "inplace", "scale": 1})
    evidence = config.evidence.model_copy(update={"keep_original": False})  # the case itself holds it
    config = pinned(config).model_copy(update={"overlay": overlay, "evidence": evidence})
    with Pipeline(config) as pipeline, _Learned(pipeline) as learned, one_thread():
        videos = []
        for each in footage:
            videos.append(_video(each, folder, pipeline, learned.enhancement, watch))
            if stopped():
                raise SinkError(f"{folder}: interrupted; the case is incomplete, delete it and begin again")
        models = _models(pipeline)
        learned_video = config.enhancer.kind == "unet"
    case = Case(
        id=str(uuid.uuid4()),
        title=title or folder.resolve().name,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        program=f"stream-enhance {__version__}",
        settings=recorded(config),
        models=models | learned.models,
        learned_video=learned_video,
        videos=tuple(videos),
    )
    write_case(folder, case, config)
    return case


def write_case(folder: Path, case: Case, config: Config) -> None:
    """Write what is made of ``case``'s data, in place of what is there, and seal the folder.

    Raises:
        SinkError: it cannot be written.
        EvidenceError: it cannot be signed.
    """
    text = case.model_dump_json(by_alias=True, indent=1) + "\n"
    write(folder / NAME, text.encode())
    write(folder / "index.html", page(case).encode())
    write_pdf(case, folder)
    write_sums(folder)
    _seal(folder, config)


def _seal(folder: Path, config: Config) -> None:
    """Sign a list of every file in ``folder``, and write what ``verify`` then says of it."""
    signer = identity(config.evidence.certificate, config.evidence.key)
    heads = []
    for inner in sorted((folder / "video").glob(f"*/{SEAL}")):
        seal, _ = read_seal(inner.parent)
        heads += [(inner.parent / head.path, head.chain) for head in seal.manifests]
    own = {SEAL, SIGNATURE, TIMESTAMP, VERIFIED}
    files = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).as_posix() not in own]
    write_seal(folder, files, heads, signer, tsa=config.evidence.tsa, replace=True)
    write(folder / VERIFIED, (in_words(verify(folder)) + "\n").encode())


def add_notes(folder: Path, case: Case, notes: Path, config: Config) -> Case:
    """``case`` with the notes that its page saved, written to ``folder``.

    Raises:
        InputError: they are no such notes.
        EvidenceError: the case has changed since it was sealed: a new seal would vouch for that.
        SinkError: the folder cannot be written.
    """
    try:
        found = Notes.model_validate_json(notes.read_bytes())
    except OSError as error:
        raise InputError(f"{notes}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "JSON"
        raise InputError(f"{notes}: no notes ({where}); give the notes.json that the case's page saved") from None
    if wrong := next((check for check in verify(folder) if check.holds is False), None):
        raise EvidenceError(f"{folder}: has changed since it was sealed ({wrong.text}); take it from a backup")
    noted = case.model_copy(update={"notes": found})
    write(folder / "notes.json", (found.model_dump_json(indent=2) + "\n").encode())
    write_case(folder, noted, config)
    return noted


def named(sources: Sequence[Path]) -> list[_Footage]:
    """Each source with a name that no other has.

    Raises:
        InputError: there is none, or one is named twice.
    """
    if not sources:
        raise InputError("no footage; name one or more recordings")
    found: list[_Footage] = []
    seen: set[Path] = set()
    for number, source in enumerate(sources, 1):
        if source.resolve() in seen:
            raise InputError(f"{source}: is named twice")
        seen.add(source.resolve())
        taken = {each.name for each in found}
        others = (f"{source.stem}-{n}{source.suffix}" for n in count(number))
        found.append(_Footage(source, next(n for n in chain([source.name], others) if n not in taken), number))
    return found


class _Learned:
    """The learned network for the renderings, opened apart where the videos are enhanced by something else."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._apart: Pipeline | None = None
        if pipeline.config.enhancer.kind == "unet":
            self.enhancement = pipeline.enhancement
        else:
            config = pipeline.config
            enhancer = config.enhancer.model_copy(update={"kind": "unet"})
            self._apart = Pipeline(config.model_copy(update={"enhancer": enhancer}))
            self.enhancement = self._apart.enhancement
        self.models = _models(self._apart) if self._apart else {}

    def __enter__(self) -> _Learned:
        return self

    def __exit__(self, *error: object) -> None:
        if self._apart:
            self._apart.close()


def _models(pipeline: Pipeline) -> dict[str, dict[str, str]]:
    """Each network's sha256 and provider, and what its card says of it."""
    cards = {session.sha256: session.card for session in pipeline.sessions.values()}
    return {
        name: {**about, "data": cards[about["sha256"]].data, "weaknesses": cards[about["sha256"]].weaknesses}
        for name, about in pipeline.models.items()
    }


def _video(
    footage: _Footage, folder: Path, pipeline: Pipeline, learned: Enhancement, watch: Callable[[Run], None]
) -> VideoEntry:
    """Copy and enhance one piece of footage, and write its shots and boxes."""
    videos = folder / "video"
    copy = videos / footage.name
    digest = copy_unchanged(footage.source, copy)
    shown = copy
    if not is_playable(copy):
        shown = videos / f"{footage.name}.view.mp4"
        write_viewing_copy(copy, shown)
    enhanced = videos / f"{footage.name}.enhanced.mp4"
    writer = _ShotWriter(folder, footage.number, learned.network, pipeline.config.enhancer.strength)
    collector = Collector(writer, learned.size)
    source = open_source(str(copy), pipeline.config.source, pipeline.config.live)
    evidence = Evidence(pipeline, str(copy), [enhanced])
    report = pipeline.run(source, enhanced, observers=[collector], recorder=evidence, upright=True, watch=watch)
    if report.frames_out != report.frames_in:
        raise SinkError(f"{enhanced}: holds {report.frames_out} of {report.frames_in} frames; begin again")
    if sha256_of(footage.source) != digest:
        raise SourceError(f"{footage.source}: changed while it was read; begin again once nobody writes it")
    evidence.seal()
    entries = tuple(_track_entry(track, writer.shots.get(track.number, ())) for track in collector.tracks.values())
    boxes = f"data/boxes_{footage.number}.js"
    write(folder / boxes, _boxes(footage.number - 1, collector.tracks.values()).encode())
    width, height = collector.size_of_frame
    return VideoEntry(
        name=footage.name,
        sha256=digest,
        bytes=copy.stat().st_size,
        copy=f"video/{copy.name}",
        original=f"video/{shown.name}",
        enhanced=f"video/{enhanced.name}",
        enhanced_sha256=sha256_of(enhanced),
        boxes=boxes,
        width=width,
        height=height,
        frames=len(collector.times),
        duration=round(collector.duration, 4),
        times=_times(collector.times),
        begun=_begun(source),
        changed_by=pipeline.enhancement.changed_by,
        notes=source.info.notes,
        tracks=entries,
    )


def _begun(source: Source) -> str | None:
    """When the footage says that it was recorded, ISO 8601 with an offset."""
    text = source.info.metadata.get("creation_time", "")
    try:
        begun = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (begun if begun.tzinfo else begun.replace(tzinfo=UTC)).isoformat()


def _times(times: Sequence[float]) -> float | tuple[int, ...]:
    """Frames a second where they are even, else every time in milliseconds."""
    if len(times) < 2:
        return 25.0
    rate = (len(times) - 1) / max(times[-1] - times[0], 1e-6)
    even = np.arange(len(times)) / rate
    if np.abs(np.array(times) - even).max() < 0.002:
        return round(rate, 6)
    return tuple(round(1000 * t) for t in times)


def _boxes(video: int, tracks: Iterable[Track]) -> str:
    """A script that gives the page where each track is on each frame: x, y, width and height in whole pixels."""
    found = {}
    for track in tracks:
        flat = [round(v) for x1, y1, x2, y2 in track.boxes for v in (x1, y1, x2 - x1, y2 - y1)]
        found[track.number] = [track.frames, flat]
    return f"CASE.boxes({video}, {json.dumps(found, separators=(',', ':'))});\n"


def _track_entry(track: Track, shots: Sequence[ShotEntry]) -> TrackEntry:
    small, large = track.heights
    return TrackEntry(
        id=track.number,
        first=round(track.first, 4),
        last=round(track.last, 4),
        frames=len(track.frames),
        enhanced=track.enhanced,
        small=round(small),
        large=round(large),
        score=round(track.best_score, 4),
        shots=tuple(shots),
    )


class _ShotWriter:
    """Renders the moments of each track that ends, and writes them."""

    def __init__(self, folder: Path, video: int, network: Network | None, strength: float | None) -> None:
        self._folder, self._video, self._network, self._strength = folder, video, network, strength
        self.shots: dict[int, tuple[ShotEntry, ...]] = {}

    def __call__(self, track: Track) -> None:
        moments: dict[int, tuple[Moment, list[str]]] = {}
        for criterion in CRITERIA:
            if (moment := track.moments.get(criterion)) is not None:
                moments.setdefault(moment.frame, (moment, []))[1].append(criterion)
        if moments:
            self.shots[track.number] = tuple(self._shot(moment, names) for moment, names in moments.values())

    def _shot(self, moment: Moment, criteria: Sequence[str]) -> ShotEntry:
        shot = shot_of(moment, self._network, self._strength)
        images = {}
        for kind, image in shot.images().items():
            name = f"shots/video{self._video}_track{moment.track:05d}_frame{moment.frame:06d}_{kind}.png"
            write(self._folder / name, png(image))
            images[kind] = name
        return ShotEntry(
            criteria=tuple(criteria),
            frame=moment.frame,
            seconds=round(moment.seconds, 4),
            box=moment.box,
            height=round(moment.height, 1),
            score=round(moment.score, 4),
            yaw=None if moment.yaw is None else round(moment.yaw, 3),
            sharpness=round(moment.sharpness, 1),
            strength=round(shot.strength, 3),
            added=round(shot.added, 2),
            left_alone=shot.left_alone,
            images=images,
        )
