"""Several outputs of one encoding; a dead one disturbs nobody."""

from __future__ import annotations

import os
import time
from pathlib import Path

import av
import pytest
from cameras import Camera, free_port, needs_camera, patient, wait_until
from conftest import Command, Models, Told
from test_live import Going, rising, times_and_sizes

from stream_enhance.outputs import Segments
from stream_enhance.targets import retain

pytestmark = pytest.mark.timeout(300)


@needs_camera
def test_one_encoding_goes_to_files_hls_and_a_server_past_a_dead_one(command: Command, tmp_path: Path) -> None:
    pushed, dead = tmp_path / "pushed.ts", f"rtsp://127.0.0.1:{free_port()}/nobody"
    files = [tmp_path / "a.mp4", tmp_path / "b.mkv", tmp_path / "live.m3u8"]
    with Camera(record=pushed) as camera:
        words = [w for f in files for w in ("-o", f)]
        words += ["-o", camera.url.replace("/cam", "/push"), "-o", dead]
        words += ["--max-age", "3s", "--overwrite"]
        told = patient(lambda duration: command("run", camera.url, *words, "--duration", duration), 40)
    outputs = {o["name"]: o for o in told.report["outputs"]}
    assert outputs[dead]["packets"] == 0
    assert "refused" in outputs[dead]["problem"]
    assert len({outputs[str(f)]["packets"] for f in files}) == 1
    for file in files:
        pts, _ = times_and_sizes(file)
        assert len(pts) == told.report["frames_out"]
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

        def run(duration: str) -> Told:
            for old in tmp_path.glob("*.mp4"):
                old.unlink()
            words = ["-o", tmp_path / "%H%M%S.mp4", "--segment", "2s", "--max-age", "3s"]
            return command("run", camera.url, *words, "--duration", duration)

        told = patient(run, 110)
    parts = sorted(tmp_path.glob("*.mp4"), key=lambda p: p.stat().st_mtime)
    assert len(parts) >= 2
    counts = []
    for part in parts:
        with av.open(str(part)) as container:
            frames = list(container.decode(video=0))
        assert frames[0].key_frame
        counts.append(len(frames))
    assert sum(counts) == told.report["frames_out"]


def test_segments_need_a_name_with_the_time_in_it(command: Command, tmp_path: Path, clip: Path) -> None:
    told = command("run", clip, "-o", tmp_path / "out.mp4", "--segment", "2s")
    assert told.code == 2
    assert "%" in told.err


def test_an_output_that_cannot_take_the_codec_is_told_before_the_work(
    command: Command, tmp_path: Path, clip: Path
) -> None:
    told = command("run", clip, "-o", tmp_path / "x.mp4", "-o", "udp://127.0.0.1:9", "--set", "sink.codec=av1")
    assert told.code == 2
    assert "cannot hold av1" in told.err


def test_retention_deletes_the_oldest_and_never_the_newest(tmp_path: Path) -> None:
    for hours in (30, 20, 10, 0):
        path = tmp_path / f"{hours}.mp4"
        path.write_bytes(bytes(1_000_000))
        os.utime(path, (time.time() - hours * 3600,) * 2)
    retain(tmp_path, ".mp4", Segments(keep_hours=24))
    assert {p.stem for p in tmp_path.iterdir()} == {"20", "10", "0"}
    retain(tmp_path, ".mp4", Segments(keep_megabytes=2.5))
    assert {p.stem for p in tmp_path.iterdir()} == {"10", "0"}
    retain(tmp_path, ".mp4", Segments(keep_megabytes=0.1))
    assert {p.stem for p in tmp_path.iterdir()} == {"0"}
