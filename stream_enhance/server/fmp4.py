"""H.264 as fragmented MP4 for a browser's MediaSource: one fragment a frame, out as soon as it is encoded.

FFmpeg's muxer writes a fragment only when the next frame has come, a whole frame's time later; so fragments are
made here (ISO/IEC 14496-12, 8.8).  The header is FFmpeg's.
"""

from __future__ import annotations

import io
import re
import struct
from typing import Any

import av

_START_CODE = re.compile(b"\x00\x00\x00?\x01")


def header(template: Any, time_base_denominator: int) -> bytes:
    """The initialisation segment (ftyp and moov) for an encoder's ``template`` stream."""
    written = io.BytesIO()
    options = {"movflags": "+empty_moov+default_base_moof", "video_track_timescale": str(time_base_denominator)}
    container = av.open(written, "w", format="mp4", options=options)
    container.add_stream_from_template(template)
    container.start_encoding()
    head = written.getvalue()
    container.close()
    return head


def codec_string(extradata: bytes) -> str:
    """What MediaSource calls the stream, from the encoder's Annex B extradata (RFC 6381)."""
    for unit in _START_CODE.split(extradata):
        if unit and unit[0] & 0x1F == 7:  # sequence parameter set
            return f"avc1.{unit[1:4].hex()}"
    raise ValueError("no sequence parameter set in the extradata")


def fragment(serial: int, start: int, duration: int, data: bytes, key: bool) -> bytes:
    """One frame as a movie fragment: boxes moof and mdat (ISO/IEC 14496-12).

    Args:
        serial: counts fragments from 1.
        start, duration: in the track's ticks.
        data: the frame in Annex B.
        key: it can be decoded by itself.
    """
    units = [unit for unit in _START_CODE.split(data) if unit]
    payload = b"".join(struct.pack(">I", len(unit)) + unit for unit in units)
    flags = 0x02000000 if key else 0x01010000  # depends on no other | on others, and is no sync sample

    def moof(offset: int) -> bytes:
        track = _box(b"tfhd", struct.pack(">II", 0x020000, 1))  # offsets count from the moof
        track += _box(b"tfdt", struct.pack(">IQ", 0x01000000, start))
        track += _box(b"trun", struct.pack(">IIiIII", 0x000701, 1, offset, duration, len(payload), flags))
        return _box(b"moof", _box(b"mfhd", struct.pack(">II", 0, serial)) + _box(b"traf", track))

    return moof(len(moof(0)) + 8) + _box(b"mdat", payload)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content
