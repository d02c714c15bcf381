"""The rest of a file: sound, subtitles and data copied packet by packet beside the frames, and its chapters.

Packets come with the frames that they belong before and go into the open output as they are.  Sound that the output's
kind of file cannot hold (a camera's G.711 in MP4, say) is encoded as AAC, with a warning; any other such stream is
left out with one.  So is a packet that the muxer refuses because it is damaged.  A track of data that only repeats the
chapters, as MP4 has it, is made again by the muxer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import av.container

from ..types import StreamInfo

log = logging.getLogger(__name__)

_TRANSPORT = {"aac", "mp2", "mp3", "ac3", "eac3", "dts", "truehd", "opus", "dvb_subtitle", "dvb_teletext"}
_TRANSPORT |= {"hdmv_pgs_subtitle", "klv", "timed_id3"}
_NONE = Fraction(0)
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}  # channels: AAC's own; others are mixed down to stereo


class Passthrough:
    """The side streams of ``info`` that ``container`` can hold, added to it.

    Args:
        container: an output to which nothing was written yet.
        info: whose side streams are copied.
        name: the output's, for warnings.
    """

    def __init__(self, container: av.container.OutputContainer, info: StreamInfo, name: str) -> None:
        self._container, self._name = container, name
        self._copies: dict[int, Any] = {}
        self._encoded: dict[int, _Encoded] = {}
        self._last_dts: dict[int, int] = {}
        self._refused = 0
        if info.chapters:
            container.set_chapters(list(info.chapters))
        for stream in info.side_streams:
            if info.chapters and is_chapter_track(stream):
                continue
            if reason := why_not(container.format.name, stream):
                if _encodable(stream):
                    self._encoded[stream.index] = _Encoded(container, stream)
                log.warning("%s: %s", name, reason)
                continue
            copy: Any = container.add_stream_from_template(stream)
            copy.metadata.update(stream.metadata)
            copy.disposition = stream.disposition
            self._copies[stream.index] = copy

    def write(self, packets: Iterable[av.Packet[Any]], earlier: Fraction = _NONE) -> None:
        """Write ``packets`` of the side streams, ``earlier`` by so many seconds.  They are changed by it.

        Raises:
            av.FFmpegError, OSError: the output cannot be written.
        """
        for packet in packets:
            index = packet.stream_index
            if earlier:
                shift = round(earlier / packet.time_base)
                packet.pts = None if packet.pts is None else packet.pts - shift
                packet.dts = None if packet.dts is None else packet.dts - shift
            if encoded := self._encoded.get(index):
                self._container.mux(encoded(packet))
                continue
            copy = self._copies.get(index)
            if copy is None or packet.dts is None:
                continue
            least = self._last_dts.get(index, packet.dts - 1) + (copy.type == "audio")  # two cues may begin together
            if packet.dts < least:
                self._refused += 1
                continue
            if copy.type == "data" and not packet.duration:  # the last one would lie behind the end of MOV's edit list
                packet.duration = max(1, packet.dts - self._last_dts.get(index, packet.dts))
            self._last_dts[index] = packet.dts
            packet.stream = copy
            try:
                self._container.mux(packet)
            except (av.error.InvalidDataError, av.error.ArgumentError, av.error.PatchWelcomeError):
                self._refused += 1

    def end(self) -> None:
        """Write what encoders still hold, and say how much was left out.

        Raises:
            av.FFmpegError: the output cannot be written.
        """
        for encoded in self._encoded.values():
            self._container.mux(encoded.rest())
            self._refused += encoded.refused
        if self._refused:
            log.warning("%s: %d damaged packets of the other streams were left out", self._name, self._refused)


class _Encoded:
    """One sound stream decoded and encoded again as AAC."""

    def __init__(self, container: av.container.OutputContainer, stream: Any) -> None:
        context = stream.codec_context
        layout = _LAYOUTS.get(context.channels, "stereo")  # many files name no layout at all
        self._out: Any = container.add_stream("aac", rate=context.sample_rate, layout=layout)
        self._out.metadata.update(stream.metadata)
        self._out.disposition = stream.disposition
        self._decoder, self.refused = _decoder(context, layout), 0
        self._resampler = av.AudioResampler("fltp", layout, context.sample_rate)

    def __call__(self, packet: av.Packet[Any]) -> list[Any]:
        try:
            frames = self._decoder.decode(packet)
        except av.FFmpegError:
            self.refused += 1
            return []
        return [out for frame in frames for part in self._resampler.resample(frame) for out in self._out.encode(part)]

    def rest(self) -> list[Any]:
        parts = self._resampler.resample(None)
        return [*(out for part in parts for out in self._out.encode(part)), *self._out.encode(None)]


def copied(packet: av.Packet[Any]) -> av.Packet[Any]:
    """A packet of its own for another output: writing one changes it."""
    copy: av.Packet[Any] = av.Packet(packet)  # type: ignore[arg-type]  # any buffer
    copy.pts, copy.dts, copy.duration, copy.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    copy.is_keyframe, copy.stream = packet.is_keyframe, packet.stream
    for extra in packet.iter_sidedata():
        copy.set_sidedata(extra)
    return copy


def _decoder(context: Any, layout: str) -> Any:
    """A decoder like the source's, which other outputs may be using."""
    decoder: Any = av.CodecContext.create(context.codec.name, "r")
    decoder.sample_rate, decoder.layout = context.sample_rate, context.layout if context.channels else layout
    if context.format:
        decoder.format = context.format
    decoder.extradata = context.extradata
    return decoder


def why_not(form: str, stream: Any) -> str:
    """Why ``stream`` is not copied into a container of the kind ``form``, or an empty string where it is."""
    context = stream.codec_context
    what = f"its {stream.type} stream {stream.index} ({_codec(stream)})"
    if stream.type == "audio" and context and not context.sample_rate:
        return f"{what} is damaged and was left out"
    if not _takes(form, stream):
        return f"{what} cannot go into {form}{' as it is and is encoded as AAC' if _encodable(stream) else ''}"
    return ""


def is_chapter_track(stream: Any) -> bool:
    """Whether a track of data may be where MP4 keeps its chapters' titles."""
    return bool(stream.type == "data" and _codec(stream) == "bin_data")


def _codec(stream: Any) -> str:
    """The codec's name; data streams have one and no decoder."""
    return str(stream.codec_context.name if stream.codec_context else stream.name or "unknown codec")


def _encodable(stream: Any) -> bool:
    """Whether a stream that cannot be copied can be heard all the same, encoded as AAC."""
    return bool(stream.type == "audio" and stream.codec_context and stream.codec_context.sample_rate)


def _takes(form: str, stream: Any) -> bool:
    """Tried, as FFmpeg's lists of what a muxer takes are not the whole truth; this one takes all, to no use."""
    if form == "mpegts":
        codec = stream.codec_context.codec.canonical_name if stream.codec_context else stream.name
        return codec in _TRANSPORT
    try:
        with av.open(BytesIO(), "w", format=form) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True
