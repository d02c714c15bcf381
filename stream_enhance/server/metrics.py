"""Metrics for Prometheus, in its text format 0.0.4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..backends.batching import BatchingSession
from ..memory import resident
from ..runtime import BUCKETS
from . import gpu
from .camera import BUCKETS_MS, Camera
from .supervisor import Supervisor

STATES = ("starting", "connecting", "live", "stalled", "lost", "unauthorised", "ended", "paused", "failed")


def text(cameras: Supervisor) -> str:
    """All metrics of this process and its cameras."""
    every = list(cameras)
    lines: list[str] = []

    def family(name: str, kind: str, help_text: str, samples: Iterator[str]) -> None:
        lines.append(f"# HELP stream_enhance_{name} {help_text}")
        lines.append(f"# TYPE stream_enhance_{name} {kind}")
        lines.extend(f"stream_enhance_{sample}" for sample in samples)

    counts = {camera.name: camera.counts() for camera in every}
    family("frames_total", "counter", "Frames in, out, dropped for age, and NO SIGNAL frames.", _frames(counts))
    for key, text_of in (
        ("reconnects", "Times a camera came back."),
        ("faces", "Faces enhanced."),
        ("tracks", "Faces followed."),
    ):
        family(f"{key}_total", "counter", text_of, (f'{key}_total{{camera="{n}"}} {c[key]}' for n, c in counts.items()))
    family("restarts_total", "counter", "Times a line failed and was restarted.", (
        f'restarts_total{{camera="{c.name}"}} {c.restarts}' for c in every
    ))  # fmt: skip
    family("gallery_errors_total", "counter", "Times best shots could not be written.", (
        f'gallery_errors_total{{camera="{c.name}"}} {c.gallery_errors}' for c in every
    ))  # fmt: skip
    family("state", "gauge", "1 for the state that the camera is in.", (
        f'state{{camera="{c.name}",state="{s}"}} {int(c.state == s)}' for c in every for s in STATES
    ))  # fmt: skip
    family("quality_step", "gauge", "Steps of quality given up to keep up.", (
        f'quality_step{{camera="{c.name}"}} {c.quality_step}' for c in every
    ))  # fmt: skip
    statuses = {c.name: c.source_status for c in every}
    family("detect_stream_up", "gauge", "1 while a camera's smaller stream is detected in.", (
        f'detect_stream_up{{camera="{name}"}} {int(s.detect_state == "live")}'
        for name, s in statuses.items() if s.detect_state
    ))  # fmt: skip
    family("detect_offset_seconds", "gauge", "How much later it comes than the main stream, by the camera's clock.", (
        f'detect_offset_seconds{{camera="{name}"}} {s.detect_offset_ms / 1000:.4f}'
        for name, s in statuses.items() if s.detect_offset_ms is not None
    ))  # fmt: skip
    family("viewers", "gauge", "Browsers that watch.", (
        f'viewers{{camera="{c.name}"}} {c.view.viewers}' for c in every
    ))  # fmt: skip
    family("age_seconds", "histogram", "Age of a frame when it left the line.", _ages(every))
    family("stage_seconds", "histogram", "Time that a stage works on a frame.", _stages(every))
    family("batches_total", "counter", "Batches run by rows.", _batches(cameras))
    family("resident_memory_bytes", "gauge", "Memory of this process.", iter([f"resident_memory_bytes {resident()}"]))
    family("notices_total", "counter", "Notices of new tracks.", iter(
        [f'notices_total{{what="sent"}} {cameras.notices.sent}', f'notices_total{{what="lost"}} {cameras.notices.lost}']
    ))  # fmt: skip
    family("gpu_memory_bytes", "gauge", "Memory of each NVIDIA GPU, by all processes.", (
        f'gpu_memory_bytes{{gpu="{i}",what="{what}"}} {value}'
        for i, pair in enumerate(gpu.memory()) for what, value in zip(("used", "total"), pair, strict=True)
    ))  # fmt: skip
    return "\n".join(lines) + "\n"


def _frames(counts: dict[str, dict[str, int]]) -> Iterator[str]:
    for name, count in counts.items():
        for what in ("in", "out", "dropped", "no_signal"):
            yield f'frames_total{{camera="{name}",what="{what}"}} {count[what]}'


def _ages(cameras: list[Camera]) -> Iterator[str]:
    for camera in cameras:
        limits = [b / 1000 for b in BUCKETS_MS]
        yield from _histogram("age_seconds", f'camera="{camera.name}"', limits, list(camera.ages), camera.age_sum)


def _stages(cameras: list[Camera]) -> Iterator[str]:
    for camera in cameras:
        for name, (took, busy) in camera.stages().items():
            yield from _histogram("stage_seconds", f'camera="{camera.name}",stage="{name}"', BUCKETS, took, busy)


def _histogram(name: str, labels: str, limits: Sequence[float], counts: list[int], total: float) -> Iterator[str]:
    below = 0
    for limit, count in zip((*limits, "+Inf"), counts, strict=True):
        below += count
        yield f'{name}_bucket{{{labels},le="{limit}"}} {below}'
    yield f"{name}_sum{{{labels}}} {total:.3f}"
    yield f"{name}_count{{{labels}}} {below}"


def _batches(cameras: Supervisor) -> Iterator[str]:
    for task, session in cameras.pipeline.sessions.items():
        if isinstance(session, BatchingSession):
            for rows, count in sorted(session.sizes.copy().items()):
                yield f'batches_total{{network="{task}",rows="{rows}"}} {count}'
