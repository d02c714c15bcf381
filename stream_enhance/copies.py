"""The other streams of a file: sound and subtitles copied packet by packet beside the pictures.

Packets come from the source's ``packets`` and go into the open output as they are.  A stream that the output's kind of
file cannot hold is left out with a warning; so is a packet that the muxer refuses because it is damaged.
"""

from __future__ import annotations

import logging
from io import BytesIO
from typing import Any

import av
import av.container

from .source import Source

log = logging.getLogger(__name__)

_TRANSPORT = {"aac", "mp2", "mp3", "ac3", "eac3", "dts", "truehd", "opus", "dvb_subtitle", "dvb_teletext"}
_TRANSPORT |= {"hdmv_pgs_subtitle"}


class Copies:
    """The streams of ``source`` that ``container`` can hold, added to it.

    Args:
        container: an output to which nothing was written yet.
        source: whose side streams and packets are copied.
        name: the output's, for warnings.
    """

    def __init__(self, container: av.container.OutputContainer, source: Source, name: str) -> None:
        self._container, self._source, self._name = container, source, name
        self._copies: dict[int, Any] = {}
        self._last_dts: dict[int, int] = {}
        self._refused = 0
        for stream in source.side_streams:
            if reason := why_not(container.format.name, stream):
                log.warning("%s: %s", name, reason)
                continue
            copy: Any = container.add_stream_from_template(stream)
            copy.metadata.update(stream.metadata)
            self._copies[stream.index] = copy

    def write(self) -> None:
        """Write every packet that the source has put aside.

        Raises:
            av.FFmpegError: the output cannot be written.
        """
        packets = self._source.packets
        while packets:
            packet = packets.popleft()
            index = packet.stream_index
            copy = self._copies.get(index)
            if copy is None or packet.dts <= self._last_dts.get(index, packet.dts - 1):
                continue
            self._last_dts[index] = packet.dts
            packet.stream = copy
            try:
                self._container.mux(packet)
            except (av.error.InvalidDataError, av.error.ArgumentError):  # of this packet; a full disk is another error
                self._refused += 1

    def tell(self) -> None:
        """Say how much was left out."""
        if self._refused:
            log.warning("%s: %d damaged packets of the other streams were left out", self._name, self._refused)


def why_not(form: str, stream: Any) -> str:
    """Why ``stream`` cannot be copied into a container of the kind ``form``, or an empty string where it can."""
    context = stream.codec_context
    what = f"its {stream.type} stream {stream.index} ({context.name if context else 'unknown codec'})"
    if stream.type == "audio" and context and not context.sample_rate:
        return f"{what} is damaged and was left out"
    if stream.type == "data" or context is None or not _takes(form, stream):
        return f"{what} cannot go into {form}"
    return ""


def _takes(form: str, stream: Any) -> bool:
    """Tried, as FFmpeg's lists of what a muxer takes are not the whole truth; this one takes all, to no use."""
    if form == "mpegts":
        return stream.codec_context.codec.canonical_name in _TRANSPORT
    try:
        with av.open(BytesIO(), "w", format=form) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True
