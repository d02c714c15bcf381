"""What a run did, as data: counts, times and provenance.  ``--report`` writes it as JSON."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from . import __version__


class Report(BaseModel):
    """What a run did.  ``frames_in = frames_out + frames_dropped`` holds exactly, however the run ended."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="Name of the source, without credentials.")
    error: str | None = Field(default=None, description="Why the run failed; absent where it did not.")
    frames_in: int = Field(default=0, description="Frames decoded.")
    frames_out: int = Field(default=0, description="Frames that left the last stage.")
    frames_dropped: int = Field(default=0, description="Frames decoded that did not leave the last stage.")
    packets_corrupt: int = Field(default=0, description="Damaged packets that were skipped.")
    faces_detected: int = Field(
        default=0,
        description="Detections of at least detector.score, on the frames that the detector ran on (every"
        " detector.every-th); faces followed in between are not counted here.",
    )
    faces_enhanced: int = Field(default=0, description="Faces changed, over all frames: computed, or from the cache.")
    faces_from_cache: int = Field(default=0, description="Those of faces_enhanced whose result came from the cache.")
    faces_left_alone: dict[str, int] = Field(
        default_factory=dict,
        description="Faces not enhanced, over all frames, by reason: too_small (below enhancer.min_face), sharp_enough"
        " (too sharp for their size to gain), over_budget (more than enhancer.max_faces in the frame),"
        " not_enough_evidence (perhaps none: score below enhancer.min_score, track below enhancer.min_evidence, or no"
        " detection just now), turned_away (beyond enhancer.max_yaw), partly_outside (less than enhancer.min_visible in"
        " the frame), dark_and_flat (nothing visible), inconsistent (the result disagrees with the camera's image by"
        " more than enhancer.min_consistency allows).",
    )
    tracks: int = Field(default=0, description="Tracks begun: one a face for as long as it is followed.")
    seconds: float = Field(default=0.0, description="Duration of the run, wall clock.")
    fps: float = Field(default=0.0, description="Frames written per second of the run.")
    first_frame_s: float | None = Field(
        default=None, description="Seconds from the start to the first frame written; null where there was none."
    )
    latency_ms: dict[str, float] = Field(
        default_factory=dict, description="Milliseconds from decoded to written: percentiles p50, p95 and p99."
    )
    stages: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="Of each stage: items passed on, busy_s (seconds of its own work), queue_max (longest queue in"
        " front of it).",
    )
    models: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="Of each network's file: its sha256, the provider that it ran on, and the precision,"
        " with the reason for it.",
    )
    version: str = Field(default=__version__, description="Version of stream-enhance.")
    outputs: list[dict[str, Any]] | None = Field(
        default=None,
        description="Of each output, where they are counted one by one: name, packets written, packets lost, times"
        " opened, and the last problem.",
    )
    age_ms: dict[str, float] | None = Field(
        default=None, description="Cameras: age of a frame when it was written, since it was decoded: p50, p95, p99."
    )
    frames_no_signal: int | None = Field(
        default=None, description="Cameras: NO SIGNAL frames; they count in frames_in and frames_out too."
    )
    reconnects: int | None = Field(default=None, description="Cameras: connections after the first.")
    states: list[list[Any]] | None = Field(
        default=None, description="Cameras: [seconds since the start, state] at each change of the connection's state."
    )
    quality: list[list[Any]] | None = Field(
        default=None, description="Cameras: [seconds since the start, step] at each change of the quality step."
    )

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON types; those that do not apply are left out."""
        return {key: value for key, value in self if value is not None or key == "first_frame_s"}
