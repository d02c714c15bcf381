"""Outputs in many files: segments and HLS, and where key frames are."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stream_enhance.errors import OutputError, SinkError
from stream_enhance.sinks.base import Sink
from stream_enhance.sinks.codecs import Codec, Encoding, choose_encoder, opens
from stream_enhance.sinks.ledger import LEDGER, Ledger
from stream_enhance.sinks.open import open_sink
from stream_enhance.sinks.segments import SegmentOptions
from stream_enhance.types import Enhanced, Faces, Frame, Rendered, Scene, StreamInfo
from tests.conftest import Command
from tests.media import coloured, image, make_video, pts_of

pytestmark = pytest.mark.timeout(90)

START = 1_700_000_000.0  # seconds since the epoch


def frames(
    count: int, rate: float, nominal: int = 25, live: bool = True, first: float = 40.0, **info: Any
) -> Iterator[Rendered]:
    """A camera's frames, ``rate`` a second whatever it says of itself, the first at 40 s of its own clock."""
    base = Fraction(1, 90_000)
    stream = StreamInfo(name="yard", live=live, rate=Fraction(nominal), **info)
    empty = np.zeros((0, 8, 8, 3), np.uint8)
    for i in range(count):
        shown = coloured(image(i), "yuv420p")
        shown.pts, shown.time_base = round((first + i / rate) / base), base
        frame = Frame(shown, i, shown.pts, base, 0.0, START + i / rate, stream=stream)
        scene = Scene(frame, Faces.none())
        yield Rendered(shown, Enhanced(scene, np.zeros(0, np.int64), empty, empty, np.zeros((0, 2, 3), np.float32)))


def run(sink: Sink, items: Iterator[Rendered]) -> list[dict[str, Any]]:
    for _ in sink(items):
        pass
    sink.finish()
    return sink.outputs() or []


def encoding(live: bool, codec: Codec = "h264") -> Encoding:
    return Encoding(codec=codec, hardware="none", crf=30, live=live)


def segments_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != LEDGER)


def about(path: Path) -> tuple[float, float, float, int, str]:
    """Start, first frame's time, duration in seconds, frames, creation time."""
    with av.open(str(path)) as container:
        times = [float(f.time) for f in container.decode(video=0) if f.time is not None]
        start, duration = (container.start_time or 0) / 1e6, (container.duration or 0) / 1e6
        tags = {key.lower(): value for key, value in container.metadata.items()}
        return start, times[0], duration, len(times), tags.get("creation_time", "")


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_segment_begins_at_0_and_says_when_its_footage_did(tmp_path: Path, suffix: str) -> None:
    sink = open_sink(
        tmp_path / f"%s.{suffix}", encoding(True), "by a test", live=True, segments=SegmentOptions(seconds=5)
    )
    run(sink, frames(300, 20))
    found = segments_in(tmp_path)
    assert [path.stem for path in found] == [str(int(START) + 5 * i) for i in range(3)], "named by the footage's time"
    for i, path in enumerate(found):
        start, first, duration, count, created = about(path)
        assert (start, first) == (0, 0)
        assert duration == pytest.approx(5, abs=0.06)
        assert count == 100
        assert datetime.fromisoformat(created).timestamp() == pytest.approx(START + 5 * i, abs=0.001)


def test_segments_are_as_long_as_asked_at_any_rate(tmp_path: Path) -> None:
    """A camera at 2 frames/s that calls itself one of 25 had segments of 25 s."""
    sink = open_sink(tmp_path / "%s.mp4", encoding(True), "", live=True, segments=SegmentOptions(seconds=5))
    run(sink, frames(40, 2))
    assert [about(path)[3] for path in segments_in(tmp_path)] == [10] * 4


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("live", [True, False])
def test_key_frames_come_by_time_at_any_rate(tmp_path: Path, codec: Codec, live: bool) -> None:
    if not opens(choose_encoder(codec, "none")):
        pytest.skip(f"no encoder for {codec}")
    out = tmp_path / "a.mp4"
    run(open_sink([out, tmp_path / "b.mkv"], encoding(live, codec), "", live=live), frames(90, 8, live=live))
    with av.open(str(out)) as container:
        keys = [p.pts * p.time_base for p in container.demux(video=0) if p.size and p.is_keyframe and p.pts is not None]
    gaps = np.diff([float(key) for key in keys])
    assert len(keys) >= 5
    assert gaps.max() <= 2.01


def test_a_time_lapse_is_not_all_key_frames(tmp_path: Path) -> None:
    run(open_sink(tmp_path / "a.mp4", encoding(False), ""), frames(60, 0.5, nominal=25, live=False))
    with av.open(str(tmp_path / "a.mp4")) as container:
        keys = [p.is_keyframe for p in container.demux(video=0) if p.size]
    assert sum(keys) <= 6


def test_a_recordings_segments_hold_all_of_it_with_its_sound_and_its_own_time(command: Command, tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    with av.open(str(make_video(tmp_path / "in.mp4", 150, sound=True))) as given, av.open(str(source), "w") as made:
        made.metadata["creation_time"] = "2024-05-01T10:00:00.000000Z"
        streams = {s.index: made.add_stream_from_template(s) for s in given.streams}
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                made.mux(packet)
    folder = tmp_path / "out"
    folder.mkdir()
    result = command("run", source, "-o", folder / "%Y.mp4", "--segment", "2s")
    assert result.code == 0, result.err
    found = sorted(segments_in(folder), key=lambda path: about(path)[4])
    assert [about(path)[3] for path in found] == [50, 50, 50]
    starts = [datetime.fromisoformat(about(path)[4]) for path in found]
    assert [(start - starts[0]).total_seconds() for start in starts] == [0, 2, 4]
    assert starts[0].isoformat() == "2024-05-01T10:00:00+00:00"
    samples = []
    for path in found:
        with av.open(str(path)) as container:
            sound = [p for p in container.demux(audio=0) if p.size]
            assert sound[0].pts is not None
            assert abs(float(sound[0].pts * sound[0].time_base)) < 0.1
            samples.append(len(sound))
    with av.open(str(source)) as container:
        assert sum(samples) == sum(1 for p in container.demux(audio=0) if p.size)


def test_segments_of_a_recording_on_a_full_disk_are_an_error(
    command: Command, tmp_path: Path, small_disk: Callable[[str], Path]
) -> None:
    path, disk = make_video(tmp_path / "in.mp4", 250), small_disk("size=150k")
    result = command("run", path, "-o", disk / "%H%M%S.mp4", "--segment", "1s", "--set", "sink.crf=10")
    assert result.code == 1
    assert "No space left on device" in result.error
    whole = [about(p)[3] for p in segments_in(disk) if ".part" not in p.name]
    assert whole
    assert set(whole) == {25}
    said = re.search(r"incomplete, (\d+) of (\d+) frames", result.error)
    assert said
    assert sum(whole) <= int(said[1]) < int(said[2])


def playlist(path: Path) -> list[Path]:
    return [path.with_name(line) for line in path.read_text().splitlines() if line and not line.startswith("#")]


def test_hls_of_a_recording_names_every_segment(command: Command, tmp_path: Path) -> None:
    path, out = make_video(tmp_path / "in.mp4", 400, sound=True), tmp_path / "all.m3u8"
    result = command("run", path, "-o", out)
    assert result.code == 0, result.err
    assert "#EXT-X-ENDLIST" in out.read_text()
    assert len(playlist(out)) == 8
    assert len(pts_of(out)) == 400
    gaps = np.diff([float(pts) for pts in pts_of(out)])
    assert gaps == pytest.approx(0.04, abs=0.0001), "one clock, no gap between segments"
    with av.open(str(out)) as container:
        assert sum(packet.size > 0 for packet in container.demux(audio=0)) > 200
    assert command("run", path, "-o", out).code == 2, "a playlist that is there is not replaced"


def test_an_empty_playlist_is_no_success(command: Command, tmp_path: Path, small_disk: Callable[[str], Path]) -> None:
    path, disk = make_video(tmp_path / "in.mp4", 250), small_disk("size=64k")
    result = command("run", path, "-o", disk / "all.m3u8", "--set", "sink.crf=1")
    assert result.code == 1
    assert "incomplete, 0 of" in result.error
    assert not (disk / "all.m3u8").exists()


def test_hls_of_a_camera_keeps_the_newest_and_a_second_run_takes_the_first_ones_place(tmp_path: Path) -> None:
    out, foreign = tmp_path / "live.m3u8", tmp_path / "live-00003.ts"
    foreign.write_bytes(b"mine")
    run(open_sink(out, encoding(True), "", live=True), frames(30 * 8, 8, nominal=8))
    listed = playlist(out)
    assert len(listed) == 6
    assert len(list(tmp_path.glob("live-*.ts"))) <= 10 + 1
    assert foreign.read_bytes() == b"mine"
    assert len(pts_of(out)) == 6 * 16
    run(open_sink(out, encoding(True), "", live=True), frames(40, 8, nominal=8))
    assert not any(path.exists() for path in listed if path not in playlist(out))
    out.write_text("#EXTM3U\nby somebody else\n")
    with pytest.raises(SinkError, match="is there already"):
        open_sink(out, encoding(True), "", live=True)


def test_a_segments_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    taken = tmp_path / f"{time.strftime('%Y', time.localtime(START))}.mp4"
    taken.write_bytes(b"mine")
    sink = open_sink(tmp_path / "%Y.mp4", encoding(True), "", live=True, segments=SegmentOptions(seconds=2))
    outputs = run(sink, frames(32, 8, nominal=8))
    assert taken.read_bytes() == b"mine"
    assert {path.name for path in segments_in(tmp_path)} == {taken.name, f"{taken.stem}-2.mp4", f"{taken.stem}-3.mp4"}
    assert (outputs[0]["packets"], outputs[0]["lost"]) == (32, 0)


def test_retention_counts_while_it_records(tmp_path: Path) -> None:
    limits = SegmentOptions(seconds=2, keep_megabytes=0.02)
    run(open_sink(tmp_path / "%s.mp4", encoding(True), "", live=True, segments=limits), frames(160, 8, nominal=8))
    left = segments_in(tmp_path)
    assert len(left) < 10
    assert [e.name for e in Ledger(tmp_path, "%s.mp4").entries()] == [path.name for path in left]


def test_a_camera_s_file_that_is_opened_again_gets_another_number(tmp_path: Path) -> None:
    (tmp_path / "door.mp4").write_bytes(b"mine")
    for _ in range(2):
        run(open_sink([tmp_path / "door.mp4"], encoding(True), "", live=True, number=True), frames(10, 8))
    assert {path.name for path in segments_in(tmp_path)} == {"door.mp4", "door-2.mp4", "door-3.mp4"}
    assert (tmp_path / "door.mp4").read_bytes() == b"mine"


def test_a_file_that_lacks_a_frame_does_not_get_its_name(tmp_path: Path) -> None:
    sink, part = open_sink(tmp_path / "b.mkv", encoding(False), ""), tmp_path / "b.part.mkv"
    for _ in sink(frames(50, 25, live=False)):
        pass
    data = part.read_bytes()
    part.write_bytes(data[: len(data) // 2])  # as a disk that lies would have it; the same inode
    with pytest.raises(OutputError, match=r"b.mkv: incomplete, \d+ of 50 frames; what was written is in .*b.part.mkv"):
        sink.finish()
    assert not (tmp_path / "b.mkv").exists()
