"""Transport streams with clocks that no muxer would write: the bytes of a good one with its timestamps changed."""

from __future__ import annotations

from collections.abc import Callable

_PACKET = 188
_WRAP = 1 << 33  # ticks of 90 kHz


def with_times(data: bytes, changed: Callable[[int, int, int], int]) -> bytes:
    """MPEG-TS ``data`` whose PTS and DTS are what ``changed(pid, n, ticks)`` says, n counting each PID's PES packets.

    ISO/IEC 13818-1, 2.4.3.6; the clock reference (PCR) is moved as PES packet 0 of its PID would be.
    """
    out, counts = bytearray(data), {}  # type: bytearray, dict[int, int]
    for at in range(0, len(out) - _PACKET + 1, _PACKET):
        pid = int.from_bytes(out[at + 1 : at + 3], "big") & 0x1FFF
        payload = at + 4
        if out[at + 3] & 0x20:  # an adaptation field
            if out[at + 4] >= 7 and out[at + 5] & 0x10:
                clock = int.from_bytes(out[at + 6 : at + 12], "big")
                base = changed(pid, max(0, counts.get(pid, 0) - 1), clock >> 15) % _WRAP
                out[at + 6 : at + 12] = (base << 15 | clock & 0x7FFF).to_bytes(6, "big")
            payload += 1 + out[at + 4]
        starts = out[at + 1] & 0x40 and out[at + 3] & 0x10
        if not starts or out[payload : payload + 3] != b"\0\0\1" or not 0xBD <= out[payload + 3] <= 0xEF:
            continue
        n = counts[pid] = counts.get(pid, -1) + 1
        flags = out[payload + 7] >> 6
        for i in range({2: 1, 3: 2}.get(flags, 0)):
            place = payload + 9 + 5 * i
            out[place : place + 5] = _coded(
                out[place] >> 4, changed(pid, n, _ticks(bytes(out[place : place + 5]))) % _WRAP
            )
    return bytes(out)


def _ticks(stamp: bytes) -> int:
    return (stamp[0] >> 1 & 7) << 30 | stamp[1] << 22 | stamp[2] >> 1 << 15 | stamp[3] << 7 | stamp[4] >> 1


def _coded(prefix: int, ticks: int) -> bytes:
    return bytes([
        prefix << 4 | ticks >> 30 << 1 | 1,
        ticks >> 22 & 0xFF,
        (ticks >> 15 & 0x7F) << 1 | 1,
        ticks >> 7 & 0xFF,
        (ticks & 0x7F) << 1 | 1,
    ])  # fmt: skip
