"""The manifest of a run: one JSON object a line, gzipped, each line chained to the one before it.

A header says what was run on what and with which settings; one line a frame says what was decided about each face; an
event says what was dropped, damaged or cut; a footer has the totals.  ``chained`` makes lines, ``read`` checks and
parses them.  docs/reference/manifest.md is the description for readers who do not use this module.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..errors import EvidenceError

VERSION = 1  # of the schema; raised when a reader of the old one would misread the new one
NAME = "manifest.jsonl.gz"
GENESIS = "0" * 64  # what the first line of a run is chained to
_TAIL = len(',"chain":""}') + 64  # characters of a line that its own chain value does not cover
_VERSION_OF = rb'\{"kind":"header","format":"stream-enhance-manifest","version":(\d{1,6}),'
_BLOCK = 1 << 16  # bytes

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Decision = Literal["enhanced", "cached", "left"]
Affine = tuple[tuple[float, float, float], tuple[float, float, float]]


class _Entry(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Entry):
    """A file as it was when the run read or finished it."""

    path: str = Field(description="Relative to the folder of the manifest where that is possible, with /.")
    bytes: int = Field(ge=0, description="Size.")
    sha256: Sha256


class SourceEntry(_Entry):
    """Where the frames came from."""

    name: str = Field(description="As the user wrote it, without credentials.")
    kind: Literal["file", "folder", "camera", "stream"] = Field(
        description="stream: a pipe or a recording behind a URL."
    )
    files: tuple[FileEntry, ...] = Field(default=(), description="Of file and folder: what was read.")
    container: str = Field(default="", description="FFmpeg's name of the format.")
    codec: str = Field(default="", description="FFmpeg's name of the video codec.")
    width: int = Field(ge=0, description="Pixels of a decoded frame, before any rotation.")
    height: int = Field(ge=0)
    pixel_format: str = Field(default="", description="FFmpeg's name, of the decoded frames that were hashed.")
    rotation: int = Field(default=0, description="Degrees counter-clockwise that a player turns a frame by.")
    time_base: str = Field(description="Seconds a tick of pts, as a fraction: 1/90000.")
    rate: str | None = Field(default=None, description="Nominal frames a second, as a fraction; null where unknown.")
    begun: str | None = Field(
        default=None,
        description="Wall-clock time of pts 0, ISO 8601 with its offset: of a camera, when its first frame was"
        " decoded; of a recording, what its metadata say (creation_time); null where unknown.",
    )


class ModelEntry(_Entry):
    """A network's file."""

    file: str
    sha256: Sha256
    provider: str = Field(description="What it ran on.")
    precision: str = Field(default="", description="What it computed in, and why; empty: not known.")


class ProgramEntry(_Entry):
    """What was run, and on what."""

    version: str = Field(description="Of stream-enhance.")
    commit: str | None = Field(default=None, description="Of its checkout, + behind it: with changes; null: a wheel.")
    python: str
    system: str
    processor: str
    cores: int
    libraries: dict[str, str] = Field(description="Name: version; FFmpeg's libraries too.")


class Header(_Entry):
    """The first line of a manifest."""

    kind: Literal["header"] = "header"
    format: Literal["stream-enhance-manifest"] = "stream-enhance-manifest"
    version: int = Field(default=VERSION, description="Of this schema.")
    run: str = Field(description="UUID of the run: alike in all parts of its manifest.")
    part: int = Field(default=1, ge=1, description="A camera's manifest comes in parts, chained to one another.")
    previous: Sha256 = Field(default=GENESIS, description="Chain value of the part before; of the first, zeros.")
    started: str = Field(description="When the run began, ISO 8601, UTC.")
    program: ProgramEntry
    source: SourceEntry
    models: tuple[ModelEntry, ...] = ()
    learned: bool = Field(description="Whether a learned network changed faces.")
    changed_by: str = Field(default="", description="What changed faces, in words; empty: nothing.")
    settings: dict[str, Any] = Field(description="All settings, as `config show` prints them.")
    settings_sha256: Sha256 = Field(description="Of settings as JSON: keys sorted, no spaces, ASCII.")
    outputs: tuple[str, ...] = Field(default=(), description="Where frames went, without credentials.")


class FaceEntry(_Entry):
    """One face of one frame, and what was done with it."""

    track: int = Field(description="Id, the same for as long as the face is followed; -1: none.")
    box: tuple[float, float, float, float] = Field(description="x1, y1, x2, y2, pixels of the decoded frame.")
    points: tuple[tuple[float, float], ...] | None = Field(
        default=None, description="Left eye, right eye, nose tip, left and right corner of the mouth, as seen; pixels."
    )
    score: float = Field(description="Of the detection, 0..1; between detections, of the last one.")
    evidence: float | None = Field(default=None, description="Mean of the track's three best scores, 0..1.")
    coasting: bool = Field(default=False, description="Not detected just now: its place follows the track.")
    decision: Decision = Field(
        description="enhanced: computed on this frame; cached: an earlier result of the track again; left: unchanged."
    )
    why: str | None = Field(default=None, description="Of left: the reason, as in the report's faces_left_alone.")
    affine: Affine | None = Field(default=None, description="2 x 3, patch pixels to frame pixels; null where not cut.")
    strength: float | None = Field(default=None, description="Share of the result that was mixed in, 0..1.")
    consistency: float | None = Field(
        default=None, description="Correlation of the result with its input at low resolution, -1..1."
    )


class FrameEntry(_Entry):
    """One decoded frame."""

    kind: Literal["frame"] = "frame"
    index: int = Field(ge=0, description="Counts decoded frames from 0.")
    pts: int = Field(description="Presentation time, ticks of the source's time_base.")
    wall: float | None = Field(default=None, description="Of a camera: when it was decoded, seconds since the epoch.")
    input: Sha256 | None = Field(description="Of the decoded frame, as FFmpeg's framehash; null: not from the camera.")
    output: Sha256 | None = Field(description="Of the finished frame before encoding; null: it was dropped.")
    dropped: bool = False
    no_signal: bool = Field(default=False, description="Not from the camera: its last frame, greyed.")
    cut: bool = Field(default=False, description="It shows another scene than the frame before: no track goes on.")
    faces: tuple[FaceEntry, ...] = ()


class Event(_Entry):
    """Something that happened between frames."""

    kind: Literal["event"] = "event"
    event: Literal["damaged", "connection", "quality", "segment", "lost"] = Field(
        description="damaged: packets that could not be decoded; connection: a camera's state; quality: a step of load"
        " control; segment: a finished file of a camera; lost: frames that an output did not get."
    )
    frame: int = Field(ge=0, description="Index of the next frame that was decoded or, of lost, of the last one.")
    count: int | None = Field(default=None, ge=0, description="Of damaged and lost: how many.")
    what: str = Field(default="", description="The state, step or output, in words.")
    file: FileEntry | None = Field(default=None, description="Of segment.")


class OutputEntry(_Entry):
    """A finished output."""

    name: str = Field(description="Without credentials.")
    file: FileEntry | None = Field(default=None, description="Null for what is no single file.")
    frames: int | None = None
    lost: int = 0
    problem: str = ""


class Footer(_Entry):
    """The last line of a manifest or of a part."""

    kind: Literal["footer"] = "footer"
    last: bool = Field(default=True, description="False: another part follows.")
    complete: bool = Field(description="The run came to its end, and every output holds what it should.")
    error: str | None = Field(default=None, description="Why not.")
    ended: str = Field(description="ISO 8601, UTC.")
    frames_in: int
    frames_out: int
    frames_dropped: int
    packets_damaged: int = 0
    faces: dict[Decision, int] = Field(description="Faces over all frames, by decision.")
    tracks: int = 0
    outputs: tuple[OutputEntry, ...] = ()


Line = Header | FrameEntry | Event | Footer
_LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])


def chained(previous: str, line: Line) -> tuple[str, bytes]:
    """``line`` as a line of the file, and the chain value that the next one is to follow.

    The chain value is SHA-256 over the 32 bytes of the previous value and the line's JSON without its own value.

    Args:
        previous: 64 hexadecimal digits; ``GENESIS`` for the first line of a run.
    """
    body = line.model_dump_json().encode()
    value = hashlib.sha256(bytes.fromhex(previous) + body).hexdigest()
    return value, body[:-1] + f',"chain":"{value}"}}\n'.encode()


def read(path: Path) -> Iterator[tuple[Line, str]]:
    """Each line of the manifest at ``path`` and its chain value, which was checked.

    Raises:
        EvidenceError: it cannot be read, is damaged, was cut off or changed, or is of a later schema; lines before that
            were yielded.
    """
    previous: str | None = None
    last: Line | None = None
    for number, raw in enumerate(_lines(path), 1):
        line, value = _parsed(raw, path, number, previous)
        if (number == 1) != isinstance(line, Header) or isinstance(last, Footer):
            raise EvidenceError(f"{path}: line {number}: a {line.kind} is out of place; the manifest was changed")
        previous, last = value, line
        yield line, value
    if not isinstance(last, Footer):
        raise EvidenceError(f"{path}: ends without a footer: it was cut off, or its run was killed")


def settings_sha256(settings: dict[str, Any]) -> str:
    """SHA-256 of ``settings`` as JSON with its keys sorted."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _parsed(raw: bytes, path: Path, number: int, previous: str | None) -> tuple[Line, str]:
    where = f"{path}: line {number}"
    body, tail = raw[:-_TAIL] + b"}", raw[-_TAIL:]
    if not (tail.startswith(b',"chain":"') and tail.endswith(b'"}')):
        raise EvidenceError(f"{where}: has no chain value; the manifest was changed or is not one")
    if number == 1 and (found := re.match(_VERSION_OF, body)) and int(found[1]) != VERSION:
        raise EvidenceError(f"{path}: is of schema version {int(found[1])}; use the stream-enhance that wrote it")
    try:
        line = _LINE.validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise EvidenceError(f"{where}: {key}: {first['msg']}; the manifest was changed or is not one") from None
    if previous is None:
        previous = line.previous if isinstance(line, Header) else GENESIS
    value = hashlib.sha256(bytes.fromhex(previous) + body).hexdigest()
    if value.encode() != tail[-66:-2]:
        raise EvidenceError(f"{where}: does not follow from the line before it; the manifest was changed there")
    return line, value


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a gzip file, without their ends."""
    inflate = zlib.decompressobj(wbits=31)
    rest = b""
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                *lines, rest = (rest + inflate.decompress(block)).split(b"\n")
                yield from lines
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read ({error.strerror})") from None
    except zlib.error:
        raise EvidenceError(f"{path}: is damaged: not a whole gzip file; take it from a backup") from None
    if rest or not inflate.eof:
        raise EvidenceError(f"{path}: was cut off: its end is missing")
    if inflate.unused_data:
        raise EvidenceError(f"{path}: holds something behind its end; the manifest was changed")
