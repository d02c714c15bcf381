"""Decoding devices: which there are, and what is wrong with one that cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import av
from av.codec.codec import Codec
from av.codec.hwaccel import HWAccel, hwdevices_available

from ..errors import SourceError
from .base import Reading, SourceOptions

_CURE = "leave hwaccel empty to decode on the CPU"


@contextmanager
def decoding_on(device: str, name: str, options: SourceOptions) -> Iterator[HWAccel | None]:
    """What ``av.open`` is given as ``hwaccel``; None for the CPU.

    Args:
        device: FFmpeg's name of the decoding device; "" for the CPU.
        name: of the source, fit to be shown.
        options: whether decoded frames stay on it.

    Raises:
        SourceError: FFmpeg has no such device, it does not start, or it decodes no stream of what is opened.
    """
    if not device:
        yield None
        return
    try:
        yield _accelerator(device, isinstance(options, Reading) and options.owned)
    except (RuntimeError, NotImplementedError):  # PyAV's own
        raise SourceError(f"{name}: hwaccel={device} decodes no stream of this kind; {_CURE}") from None


def _accelerator(device: str, owned: bool) -> HWAccel:
    known = hwdevices_available()
    if device not in known:
        raise SourceError(f"hwaccel={device}: this PyAV's FFmpeg has {', '.join(known)}; use one of them, or {_CURE}")
    accelerator = HWAccel(device, allow_software_fallback=False, is_hw_owned=owned)
    try:
        accelerator.create(Codec("h264", "r"))
    except av.FFmpegError as error:
        raise SourceError(
            f"hwaccel={device}: the device does not start ({error.strerror}); check its driver, or {_CURE}"
        ) from None
    except NotImplementedError:  # H.264 is what every device decodes
        raise SourceError(f"hwaccel={device}: FFmpeg's decoders do not use it; {_CURE}") from None
    return accelerator
