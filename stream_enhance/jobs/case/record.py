"""What a case folder holds, as data: ``case.json``, which the page, the PDF and ``export`` are made from."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import InputError

NAME = "case.json"


class _Entry(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class ShotEntry(_Entry):
    """A track's best moment by one or more criteria."""

    criteria: tuple[str, ...] = Field(description="What it is best at: largest, sharpest, most frontal.")
    frame: int = Field(description="Counts the video's frames from 0.")
    seconds: float = Field(description="Footage time of the frame, from the first one.")
    box: tuple[float, float, float, float] = Field(description="x1, y1, x2, y2, pixels of the upright frame.")
    height: float = Field(description="Of the box, pixels.")
    score: float = Field(description="Of the detection, 0..1.")
    yaw: float | None = Field(description="How far it is turned: 0 frontal, about 0.5 in profile; null: unknown.")
    sharpness: float = Field(description="Standard deviation of the Laplacian at the camera's resolution, grey levels.")
    strength: float = Field(description="Share of the network's result in the learned rendering; 0: there is none.")
    added: float = Field(description="Mean grey levels in the face that the recording does not explain.")
    left_alone: str = Field(description="Why the network leaves the face alone; empty where it does not.")
    images: dict[str, str] = Field(description="Rendering: file, relative to the case folder.")


class TrackEntry(_Entry):
    """One followed face.  A person who leaves the frame and comes back has several."""

    id: int
    first: float = Field(description="Footage time at which it is first seen, seconds from the first frame.")
    last: float
    frames: int
    enhanced: int = Field(description="Frames on which the enhanced video shows it changed.")
    small: int = Field(description="Height of its smallest box, pixels.")
    large: int
    score: float = Field(description="Its best detection, 0..1.")
    shots: tuple[ShotEntry, ...]


class VideoEntry(_Entry):
    """One piece of footage."""

    name: str = Field(description="Of the source's file.")
    sha256: str = Field(description="Of the source, which the copy in the case equals.")
    bytes: int
    copy_: str = Field(alias="copy", description="The unchanged copy, relative to the case folder.")
    original: str = Field(description="What the page plays: the copy, or one that browsers can play.")
    enhanced: str
    enhanced_sha256: str
    boxes: str = Field(description="Where each track is on each frame.")
    width: int = Field(description="Of the upright frame, pixels.")
    height: int
    frames: int
    duration: float = Field(description="Seconds.")
    times: float | tuple[int, ...] = Field(description="Frames a second; or each frame's time, milliseconds.")
    begun: str | None = Field(description="When the footage says it was recorded, ISO 8601; null where it does not.")
    changed_by: str = Field(description="What changed faces in the enhanced video; empty: nothing.")
    notes: tuple[str, ...] = Field(default=(), description="What of the source the enhanced video lacks.")
    tracks: tuple[TrackEntry, ...]


class Mark(_Entry):
    """A moment that the investigator marked."""

    video: str
    frame: int = Field(description="Counts the video's frames from 0.")
    seconds: float = Field(description="Footage time of the frame, from the first one.")
    track: int | None = Field(description="The track that was chosen; null: none.")
    text: str


class Notes(_Entry):
    """The investigator's notes, as the page saves them."""

    text: str
    marks: tuple[Mark, ...]
    offsets: dict[str, float] = Field(description="Video: seconds that it begins later than its clock says.")


class Case(_Entry):
    """A case folder."""

    format: str = "stream-enhance-case"
    version: int = 1
    id: str = Field(description="UUID.")
    title: str
    made: str = Field(description="ISO 8601, UTC.")
    program: str
    settings: dict[str, object] = Field(description="As `config show` prints them.")
    models: dict[str, dict[str, str]] = Field(
        description="File: its sha256, what it ran on, and what its card says: data, weaknesses."
    )
    learned_video: bool = Field(description="Whether a learned network changed faces in the enhanced videos.")
    videos: tuple[VideoEntry, ...]
    notes: Notes | None = None


def read_case(folder: Path) -> Case:
    """The case in ``folder``.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    path = folder / NAME
    try:
        return Case.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{folder}: no case folder; `stream-enhance case FOOTAGE -o {folder}` makes one") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(f"{path}: not a case of this version ({where}: {error.errors()[0]['msg']})") from None
