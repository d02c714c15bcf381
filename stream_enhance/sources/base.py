"""What the line asks of a source, and what a source says of itself."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

from pydantic import Field, model_validator

from ..options import Options
from ..types import Frame, StreamInfo

Kind = Literal["auto", "live", "recorded"]
State = Literal["connecting", "live", "stalled", "lost", "unauthorised", "ended"]


class SourceOptions(Options):
    """How a source is read."""

    kind: Kind = Field(
        default="auto",
        description="Whether a URL is a live camera or a recording with an end; auto: as its server answers.",
    )
    rate: float = Field(default=25.0, gt=0, le=1000, description="Frames a second of a folder of images.")
    input_rate: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="Frames a second of a raw stream (H.264 without a container); 0: its own.",
    )
    start: float = Field(default=0.0, ge=0, description="Seconds of a recording to leave out at its beginning.")
    end: float | None = Field(
        default=None, gt=0, description="Second of a recording at which to end, counted from its beginning."
    )
    max_megapixels: float = Field(
        default=64.0, gt=0, le=1024, description="Largest frame that is decoded, million pixels."
    )
    hwaccel: str = Field(
        default="", description='FFmpeg\'s name of a decoding device for recordings, such as cuda; "": the CPU.'
    )
    other_hosts: bool = Field(
        default=False, description="Follow redirects and playlists of a URL to hosts other than its own."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be after start")
        return self

    @property
    def max_pixels(self) -> int:
        """``max_megapixels`` as pixels."""
        return round(self.max_megapixels * 1e6)


class Reading(SourceOptions):
    """``SourceOptions`` and what the line decides."""

    owned: bool = False  # decoded frames stay on the decoding device


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How a source is at this moment."""

    state: State = "live"
    problem: str = ""  # why there is no frame just now
    corrupt: int = 0  # packets that could not be decoded, so far
    reconnects: int = 0
    no_signal_frames: int = 0  # frames that stand in for a camera's own
    states: tuple[tuple[float, State], ...] = field(default=())  # seconds since the start, newest last
    detect_state: str = ""  # of live.detect_url: a State, or "lost" where the main stream is used; "" without one
    detect_offset_ms: float | None = None  # by which it comes later than the main stream, by the camera's clock


class Source(Protocol):
    """Where frames come from.  ``close`` it only when its frames and packets are no longer looked at."""

    started: float  # seconds, time.monotonic(), when it was opened

    @property
    def info(self) -> StreamInfo:
        """What is known of the stream; of a camera, complete once ``wait_ready`` has returned."""
        ...

    def frames(self, side_packets: bool = True) -> Generator[Frame, None, None]:
        """Decoded frames, in order; without ``side_packets`` the other streams are not read."""
        ...

    def wait_ready(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Wait until the first frame can be expected, or ``stopped`` says that nobody wants it any more.

        Raises:
            SourceError: it cannot be used.
        """
        ...

    def status(self) -> SourceStatus:
        """How it is at this moment.  Called from any thread."""
        ...

    def stop(self) -> None:
        """End ``frames`` soon, even where no frame arrives.  Called from any thread."""
        ...

    def close(self) -> None:
        """Release the file or the connection."""
        ...
