"""Several outputs of one encoding; a dead one disturbs nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.conftest import Command, Finished, Models
from tests.live.cameras import Camera, free_port, needs_camera, patient, wait_until
from tests.live.test_live import Going, rising, times_and_sizes
from tests.media import make_video

pytestmark = pytest.mark.timeout(300)


@needs_camera
def test_one_encoding_goes_to_files_hls_and_a_server_past_a_dead_one(command: Command, tmp_path: Path) -> None:
    pushed, dead = tmp_path / "pushed.ts", f"rtsp://127.0.0.1:{free_port()}/nobody"
    files = [tmp_path / "a.mp4", tmp_path / "b.mkv", tmp_path / "live.m3u8"]
    with Camera(record=pushed) as camera:
        words = [w for f in files for w in ("-o", f)]
        words += ["-o", camera.url.replace("/cam", "/push"), "-o", dead]
        words += ["--max-age", "3s", "--overwrite"]
        result = patient(lambda duration: command("run", camera.url, *words, "--duration", duration), 40)
    outputs = {o["name"]: o for o in result.report["outputs"]}
    assert outputs[dead]["packets"] == 0
    assert "refused" in outputs[dead]["problem"]
    assert len({outputs[str(f)]["packets"] for f in files}) == 1
    for file in files:
        pts, _ = times_and_sizes(file)
        assert len(pts) == result.report["frames_out"]
        assert rising(pts)
    pts, _ = times_and_sizes(pushed)
    assert len(pts) > 10


@needs_camera
def test_a_push_goes_on_when_its_server_comes_back(models: Models, tmp_path: Path) -> None:
    target = Camera(record=tmp_path / "one.ts")
    with Camera() as camera:
        target.start()
        going = Going(models, camera.url, target.url.replace("/cam", "/push"), stall=60)
        wait_until(lambda: (tmp_path / "one.ts").exists() and (tmp_path / "one.ts").stat().st_size > 20_000)
        target.kill()
        target.start(record=tmp_path / "two.ts")
        wait_until(lambda: (tmp_path / "two.ts").exists() and (tmp_path / "two.ts").stat().st_size > 20_000)
        report = going.stop()
        target.kill()
    assert report.reconnects == 0
    assert report.outputs is not None
    assert report.outputs[0]["opened"] >= 2


@needs_camera
def test_segments_are_cut_at_key_frames_and_together_hold_every_frame(command: Command, tmp_path: Path) -> None:
    with Camera() as camera:

        def run(duration: str) -> Finished:
            for old in tmp_path.glob("*.mp4"):
                old.unlink()
            words = ["-o", tmp_path / "%H%M%S.mp4", "--segment", "2s", "--max-age", "3s"]
            return command("run", camera.url, *words, "--duration", duration)

        result = patient(run, 110)
    parts = sorted(tmp_path.glob("*.mp4"), key=lambda p: p.stat().st_mtime)
    assert len(parts) >= 2
    counts = []
    for part in parts:
        with av.open(str(part)) as container:
            frames = list(container.decode(video=0))
        assert frames[0].key_frame
        counts.append(len(frames))
    assert sum(counts) == result.report["frames_out"]


def test_segments_need_a_name_with_the_time_in_it(command: Command, tmp_path: Path, clip: Path) -> None:
    result = command("run", clip, "-o", tmp_path / "out.mp4", "--segment", "2s")
    assert result.code == 2
    assert "%" in result.err


def test_an_output_that_cannot_take_the_codec_is_told_before_the_work(
    command: Command, tmp_path: Path, clip: Path
) -> None:
    result = command("run", clip, "-o", tmp_path / "x.mp4", "-o", "udp://127.0.0.1:9", "--set", "sink.codec=av1")
    assert result.code == 2
    assert "cannot hold av1" in result.err


def test_files_beside_each_other_say_what_was_changed_and_keep_the_sources_tags(
    command: Command, tmp_path: Path, clip: Path
) -> None:
    outputs = [tmp_path / name for name in ("50%H.mp4", "b.mkv", "c.ts")]
    assert command("run", clip, *(word for path in outputs for word in ("-o", path))).code == 0
    assert all(path.is_file() for path in outputs)
    for path in outputs[:2]:
        with av.open(str(path)) as container:
            assert {k.lower(): v for k, v in container.metadata.items()}["comment"].startswith("ENHANCED by")
    assert b"ENHANCED by stream-enhance" in outputs[2].read_bytes()


def test_a_recordings_output_on_a_full_disk_is_told_and_the_others_are_finished(
    command: Command, tmp_path: Path, small_disk: Callable[[str], Path]
) -> None:
    disk, clip = small_disk("size=200k"), make_video(tmp_path / "in.mp4", frames=150)
    good = tmp_path / "b.mkv"
    result = command("run", clip, "-o", disk / "a.mp4", "-o", good, "--set", "sink.crf=1")
    assert result.code == 1
    assert "frames (No space left on device)" in result.err
    assert "free some space and run again" in result.err
    assert [p.name for p in disk.iterdir()] == ["a.part.mp4"], "what was written is kept, and is not called finished"
    assert len(times_and_sizes(good)[0]) == 150
    result = command("run", clip, "-o", disk / "c.mp4", "-o", disk / "d.mkv", "--set", "sink.crf=1")
    assert result.code == 1, "nor does it go on where none is left"
