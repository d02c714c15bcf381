"""Which encoder is used, and what it is given."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
from av.codec.codec import find_best_pix_fmt_of_list
from pydantic import Field, field_validator

from ..errors import SinkError
from ..imaging.planes import LAYOUTS
from ..options import Options

log = logging.getLogger(__name__)

Codec = Literal["h264", "hevc", "av1"]
Hardware = Literal["auto", "none", "nvenc", "qsv"]
_SOFTWARE = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}


class EncoderOptions(Options):
    """How frames are encoded."""

    codec: Codec = Field(default="h264", description="Video codec of the output.")
    hardware: Hardware = Field(default="auto", description="Encoder of a GPU, where it starts; or none.")
    crf: int = Field(
        default=20, ge=0, le=51, description="Quality, 0 best, 51 worst; mapped to the encoder's own scale."
    )
    preset: str = Field(default="veryfast", description="Preset of libx264 and libx265.")
    threads: int = Field(default=0, ge=0, le=128, description="Threads of the encoder; 0: its own choice.")
    pixel_format: str = Field(
        default="", description="FFmpeg's name of a pixel format; \"\": the source's, where the encoder takes it."
    )

    @field_validator("pixel_format")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            return av.VideoFormat(value).name if value else ""
        except ValueError:
            raise ValueError(f"FFmpeg knows no {value!r}; take one of its pixel formats, such as yuv420p") from None


class Encoding(EncoderOptions):
    """``EncoderOptions`` and what the kind of source and output decide."""

    live: bool = False  # no frames held back
    key_seconds: float = 0.0  # of the stream's time between key frames at most; 0: the encoder's choice
    exact_keys: bool = False  # key frames at just these times, however few frames lie between them: segments end there
    profile: str = ""  # of H.264; "": the encoder's choice


def encoder_names(codec: Codec, hardware: Hardware) -> list[str]:
    """Encoders to try for ``codec``, in order."""
    software = _SOFTWARE[codec]
    match hardware:
        case "none":
            return [software]
        case "nvenc" | "qsv":
            return [f"{codec}_{hardware}"]
        case _:
            found = []
            if Path("/dev/nvidiactl").exists() or sys.platform == "win32":
                found.append(f"{codec}_nvenc")
            if Path("/dev/dri/renderD128").exists() or sys.platform == "win32":
                found.append(f"{codec}_qsv")
            return [*found, software]


@contextmanager
def ordinary_thread() -> Iterator[None]:
    """Keeps this thread's scheduling: SVT-AV1, opened by root, makes the caller real-time, and all it then starts."""
    if sys.platform != "linux":
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, priority)


def opens(name: str) -> bool:
    """Whether the encoder ``name`` is there and starts on this machine."""
    try:
        os.environ.setdefault("SVT_LOG", "1")  # errors only; it prints pages otherwise
        context = av.CodecContext.create(name, "w")
        if name == "libx265":
            context.options = {"x265-params": "log-level=error"}
        context.width, context.height, context.pix_fmt = 320, 240, "yuv420p"  # type: ignore[attr-defined]
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)  # type: ignore[attr-defined]
        with ordinary_thread():
            context.open()
    except (av.FFmpegError, ValueError):
        return False
    return True


def choose_encoder(codec: Codec, hardware: Hardware) -> str:
    """The encoder that will be used.

    Raises:
        SinkError: the named hardware's encoder does not start here.
    """
    os.environ.setdefault("SVT_LOG", "1")  # errors only; it prints pages otherwise
    names = encoder_names(codec, hardware)
    for name in [name for name in names if name != _SOFTWARE[codec]]:
        if opens(name):
            _started.add(name)
            return name
        if hardware in ("nvenc", "qsv") and name not in _started:
            raise SinkError(f"encoder {name} does not start on this machine; use sink.hardware=none")
        warn_of_software(name, _SOFTWARE[codec])
    return _SOFTWARE[codec]


_started: set[str] = set()  # encoders of a GPU that have worked in this process: one that fails later has no room


def software_of(name: str) -> str:
    """The software encoder for the codec of the encoder ``name``; "" where it is one itself."""
    return "" if name in _SOFTWARE.values() else _SOFTWARE[name.partition("_")[0]]


def warn_of_software(name: str, software: str) -> None:
    """Say that ``software`` takes over from the GPU's encoder ``name``."""
    log.warning(
        "%s does not start; this output is encoded by %s on the CPU (a GeForce card takes only so many at once)",
        name,
        software,
    )


def pixel_format(codec: Any, source: str, wanted: str = "") -> str:
    """The format that the encoder ``codec`` is given for frames in ``source``: the same where it takes it."""
    wanted = wanted or source
    offered = [f.name for f in codec.video_formats or []]
    if wanted in offered and LAYOUTS.get(wanted) and LAYOUTS[wanted].kind not in ("rgb", "gbr"):
        return wanted
    if LAYOUTS[source].kind in ("rgb", "gbr") and "yuv420p" in offered:
        return "yuv420p"  # every player shows it
    best = find_best_pix_fmt_of_list([f for f in offered if f in LAYOUTS], wanted)[0]
    return best.name if best else "yuv420p"
