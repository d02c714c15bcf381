"""Files whose clocks start late, leap, wrap and hold wrong bits: the footage's own time is kept, and sound with it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from stream_enhance.sources.base import SourceOptions
from stream_enhance.sources.open import open_source
from stream_enhance.types import Frame
from tests.conftest import Command
from tests.faults import FAULTS, needs_faults
from tests.media import flv_with_times, make_video, pts_of
from tests.transport_stream import with_times

pytestmark = pytest.mark.timeout(60)

VIDEO = 0x100  # PID


def frames_of(path: Path, **options: Any) -> list[Frame]:
    source = open_source(str(path), SourceOptions(**options))
    try:
        return list(source.frames())
    finally:
        source.close()


def sound_of(frames: list[Frame]) -> list[float]:
    return [float(p.pts * p.time_base) for f in frames for p in f.side_packets]


def late(seconds: float) -> Callable[[int, int, int], int]:
    return lambda pid, n, ticks: ticks + round(seconds * 90_000)


def leaping(seconds: float) -> Callable[[int, int, int], int]:
    """Both streams leap by that in the middle."""
    middle = 90_000
    return lambda pid, n, ticks: ticks + (round(seconds * 90_000) if ticks >= middle else 0)


def one_wrong(bit: int) -> Callable[[int, int, int], int]:
    """One frame's clock has a wrong bit."""
    return lambda pid, n, ticks: ticks ^ 1 << bit if (pid, n) == (VIDEO, 20) else ticks


@pytest.mark.parametrize(
    "changed",
    [
        late(60_000),  # 16 h 40
        late((1 << 33) / 90_000 - 43),  # to the end of 33 bits, which MPEG-TS wraps at
        late((1 << 33) / 90_000 - 1),
        leaping(36_000),
        leaping(-0.9),
        leaping(600),
        one_wrong(32),
        one_wrong(24),
    ],
    ids=["16h40", "43s before the wrap", "across the wrap", "10 h", "back", "10 min", "bit 32", "bit 24"],
)
def test_a_transport_stream_is_as_long_as_its_footage(tmp_path: Path, changed: Any) -> None:
    whole = make_video(tmp_path / "whole.ts", 50, sound=True, options={"bf": "0"})
    expected = frames_of(whole)
    path = tmp_path / "odd.ts"
    path.write_bytes(with_times(whole.read_bytes(), changed))
    frames = frames_of(path)
    assert len(frames) == 50
    for frame, right in zip(frames, expected, strict=True):
        assert frame.seconds == pytest.approx(right.seconds, abs=0.1)
    assert all(a.pts < b.pts for a, b in pairwise(frames))
    assert sound_of(frames) == pytest.approx(sound_of(expected), abs=0.1)


def test_the_first_frame_is_where_the_container_begins(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.ts", 10)
    path = tmp_path / "late.ts"
    path.write_bytes(with_times(whole.read_bytes(), late(1_000)))
    assert frames_of(path)[0].pts == 0


@pytest.mark.parametrize("bit", [14, 20, 26])
def test_a_wrong_bit_where_no_leaps_are_allowed(tmp_path: Path, bit: int) -> None:
    times = [40 * i for i in range(20)]
    path = flv_with_times(tmp_path / "bit.flv", [t ^ 1 << bit if i == 9 else t for i, t in enumerate(times)])
    assert [round(f.seconds * 1000) for f in frames_of(path)] == times


def test_a_gap_that_a_format_without_leaps_has_is_its_own(tmp_path: Path) -> None:
    path = make_video(tmp_path / "gap.mkv", 6, pts=[0, 1, 2, 90_000, 90_001, 90_002])  # an hour: motion only
    assert [f.seconds for f in frames_of(path)] == [0, 0.04, 0.08, 3600, 3600.04, 3600.08]


def test_a_recording_that_begins_in_1970_begins_at_0(command: Command, tmp_path: Path) -> None:
    begin = 1_600_000_000 * 25
    path = make_video(tmp_path / "in.mkv", 10, pts=[begin + i for i in range(10)])
    assert frames_of(path)[0].pts == 0
    result = command("run", path, "-o", tmp_path / "out.mp4")
    assert (result.code, "cut off" in result.err) == (0, False)
    assert pts_of(tmp_path / "out.mp4")[-1] == Fraction(9, 25)


def test_an_avis_frames_come_in_order_whatever_b_frames_it_has(tmp_path: Path) -> None:
    path = make_video(tmp_path / "b.avi", 40, options={"bf": "3", "b_strategy": "0", "g": "20"})
    assert [f.pts * f.time_base for f in frames_of(path)] == [Fraction(i, 25) for i in range(40)]


@pytest.mark.parametrize("suffix", ["h264", "hevc"])
def test_a_raw_streams_own_rate_is_its_clock(tmp_path: Path, suffix: str) -> None:
    codec = "libx264" if suffix == "h264" else "libx265"
    path = make_video(tmp_path / f"raw.{suffix}", 48, rate=12, codec=codec, form=suffix)
    frames = frames_of(path)
    assert [f.seconds for f in frames] == pytest.approx([i / 12 for i in range(48)])
    assert float(frames[-1].duration * frames[-1].time_base) == pytest.approx(1 / 12)
    assert [f.seconds for f in frames_of(path, input_rate=6)] == pytest.approx([i / 6 for i in range(48)])


def test_the_last_frame_is_shown_as_long_as_the_source_says(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "last.mkv"
    part = make_video(tmp_path / "part.mp4", 4, rate=1)
    with av.open(str(part)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        packets: list[Any] = [p for p in source.demux() if p.size]
        packets[-1].duration *= 10
        for packet in packets:
            packet.stream = stream
            container.mux(packet)
    last = frames_of(path)[-1]
    assert last.seconds + float(last.duration * last.time_base) == pytest.approx(13.0)
    for suffix in ("mp4", "mkv"):
        assert command("run", path, "-o", tmp_path / f"out.{suffix}").code == 0
        with av.open(str(tmp_path / f"out.{suffix}")) as container:
            assert container.duration == 13_000_000


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mkv", "avi"])
def test_start_and_end_are_in_the_footages_time(tmp_path: Path, suffix: str) -> None:
    path = make_video(tmp_path / f"in.{suffix}", 100, sound=suffix != "avi", options={"g": "25"})
    whole, part = frames_of(path), frames_of(path, start=1.5, end=3.0)
    expected = [f.seconds - 1.5 for f in whole if 1.5 <= f.seconds < 3.0]
    assert [f.seconds for f in part] == pytest.approx(expected, abs=0.021)  # AVI's ticks are whole frames
    assert [f.index for f in part] == list(range(len(part)))
    if sound := sound_of(part):
        assert -0.001 <= sound[0] < 0.1
        assert 1.35 < sound[-1] < 1.5


def test_a_duration_is_the_footages(command: Command, tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mp4", 100)
    result = command("run", path, "-o", tmp_path / "out.mp4", "--duration", "2s", "--start", "1s")
    assert (result.code, result.report["frames_out"]) == (0, 50)
    result = command("run", path, "-o", tmp_path / "out2.mp4", "--start", "2s", "--end", "1s")
    assert result.code == 2
    assert "end must be after start" in result.error


@needs_faults
@pytest.mark.parametrize(
    ("name", "frames", "seconds"),
    [
        ("01_clock_steps_10h.ts", 100, 4.03),
        ("02_starts_at_16h40.ts", 50, 2.03),
        ("03_43s_before_33bit_wrap.ts", 50, 2.03),
        ("05_raw_12fps.h264", 48, 4.0),
        ("10_last_frame_10s.mp4", 4, 13.0),
    ],
)
def test_the_faulty_clocks_that_were_reported(name: str, frames: int, seconds: float) -> None:
    found = frames_of(FAULTS / name)
    last = found[-1]
    assert len(found) == frames
    assert last.seconds + float(last.duration * last.time_base) == pytest.approx(seconds, abs=0.001)
