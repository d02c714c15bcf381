"""Supervisor that go away, freeze, change and come back; real RTSP over loopback."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from stream_enhance import Pipeline
from stream_enhance.cli.signals import StopSignals
from stream_enhance.report import Report
from stream_enhance.sources.camera import CameraSource
from stream_enhance.sources.connection import LiveOptions
from stream_enhance.sources.open import open_source
from tests.conftest import Command, Models
from tests.live.cameras import Camera, free_port, needs_camera, patient, wait_until
from tests.live.proxy import Proxy

pytestmark = pytest.mark.timeout(300)


class Going:
    """A run of ``url`` in a thread; ends by ``stop``."""

    def __init__(self, models: Models, url: str, out: Path | str, **live: object) -> None:
        config = models.config(live={"stall": 10, **live}, sink={"preset": "ultrafast"})
        source = open_source(url, config.source, config.live)
        assert isinstance(source, CameraSource)
        self.source = source
        self.report: Report | None = None
        self._stop = threading.Event()

        def go() -> None:
            with Pipeline(config) as pipeline:
                self.report = pipeline.run(
                    self.source, str(out), watch=lambda run: run.stop() if self._stop.is_set() else None
                )

        self._thread = threading.Thread(target=go, daemon=True)
        self._thread.start()

    def wait(self, state: str) -> None:
        # GStreamer's server may hold up a new connection until the sessions before it time out, after a minute. The
        # state as it is now counts, not one before: a starved machine stalls by itself now and then
        wait_until(lambda: self.source.state == state, 150)

    def wait_no_signal(self, count: int = 1) -> None:
        before = self.source.no_signal_frames
        wait_until(lambda: self.source.no_signal_frames >= before + count)

    def stop(self) -> Report:
        self._stop.set()
        self._thread.join(60)
        assert self.report is not None
        assert self.report.frames_in == self.report.frames_out + self.report.frames_dropped
        return self.report


def times_and_sizes(path: Path) -> tuple[list[int], set[tuple[int, int]]]:
    with av.open(str(path)) as container:
        frames = [(f.pts or 0, (f.width, f.height)) for f in container.decode(video=0)]
    return [pts for pts, _ in frames], {size for _, size in frames}


def rising(pts: list[int]) -> bool:
    return all(a < b for a, b in itertools.pairwise(pts))


@needs_camera
def test_a_live_run_ends_after_its_duration_and_says_how_it_went(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    with Camera() as camera:
        words = ["run", camera.url, "-o", out, "--max-age", "2s", "--log-json", "--overwrite"]
        report = patient(lambda duration: command(*words, "--duration", duration), 2).report
    assert report["frames_in"] == report["frames_out"] + report["frames_dropped"]
    # on a starved machine the first image may take so long that the connection is given up and opened again
    states = [state for _, state in report["states"]]
    assert states[0] == "connecting"
    assert set(states) - {"stalled"} == {"connecting", "live"}
    assert set(report["age_ms"]) == {"p50", "p95", "p99"}
    assert report["reconnects"] == states.count("live") - 1
    assert report["first_frame_s"] > 0
    pts, sizes = times_and_sizes(out)
    assert len(pts) == report["frames_out"]
    assert sizes == {(640, 360)}
    assert rising(pts)


@needs_camera
def test_a_camera_that_restarts_with_another_size_and_codec_goes_on_in_the_same_file(
    models: Models, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    with Camera() as camera:
        going = Going(models, camera.url, out)
        going.wait("live")
        camera.kill()
        going.wait("lost")
        going.wait_no_signal()
        camera.start(width=320, height=240, codec="h265")
        going.wait("live")
        report = going.stop()
    assert report.reconnects
    assert report.frames_no_signal
    pts, sizes = times_and_sizes(out)
    assert sizes == {(640, 360)}
    assert rising(pts)
    assert len(pts) == report.frames_out


@needs_camera
def test_a_frozen_camera_is_noticed_and_taken_up_again(models: Models, tmp_path: Path) -> None:
    with Camera() as camera:
        going = Going(models, camera.url, tmp_path / "out.mp4", stall=3)
        going.wait("live")
        camera.freeze()
        going.wait("stalled")
        going.wait_no_signal(2)
        camera.thaw()
        going.wait("live")
        report = going.stop()
    assert report.reconnects


@needs_camera
def test_a_run_that_waits_starts_when_the_camera_does(models: Models, tmp_path: Path) -> None:
    camera = Camera()
    going = Going(models, camera.url, tmp_path / "out.mp4", wait=True)
    with camera:
        going.wait("live")
        wait_until(lambda: going.source.started and going.source.info.rate)
        report = going.stop()
    states = [state for _, state in report.states or []]
    assert states[0] == "connecting"
    assert set(states) - {"stalled"} == {"connecting", "live"}


@needs_camera
def test_credentials_come_from_the_environment_and_are_never_shown(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAM_PASS", "Zauberwort7")
    monkeypatch.setenv("CAM_BAD", "Falschwort8")
    with Camera(user="wart", password="Zauberwort7") as camera:
        url = camera.url.replace("//", "//wart:{CAM_PASS}@")
        words = ["run", url, "-o", tmp_path / "good.mp4", "--overwrite"]
        good = patient(lambda duration: command(*words, "--duration", duration), 1)
        bad = command("run", url.replace("PASS", "BAD"), "-o", tmp_path / "bad.mp4")
    assert bad.code == 2
    assert "password" in bad.err
    for result in (good, bad):
        assert "wort" not in result.out + result.err + str(result.report)
        assert "wart:" not in result.out + result.err + str(result.report)
    assert b"Zauberwort7" not in (tmp_path / "good.mp4").read_bytes()


@needs_camera
def test_a_url_without_such_a_stream_is_one_clear_line(command: Command, tmp_path: Path) -> None:
    with Camera() as camera:
        result = command("run", camera.url + "era/9", "-o", tmp_path / "out.mp4")
    assert result.code == 2
    assert "no such stream" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "word"),
    [
        (f"rtsp://user:pw@127.0.0.1:{free_port()}/cam", "nothing answers"),
        ("gopher://127.0.0.1/cam", "unknown scheme"),
        ("rtsp://user:{NOT_SET_ANYWHERE}@127.0.0.1/cam", "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_what_cannot_be_reached_is_one_clear_line(command: Command, tmp_path: Path, url: str, word: str) -> None:
    result = command("run", url, "-o", tmp_path / "out.mp4")
    assert result.code == 2
    assert word in result.err
    assert "user:" not in result.err
    assert result.err.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


@pytest.fixture
def deaf() -> Iterator[str]:
    """The URL of a camera that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"rtsp://127.0.0.1:{server.getsockname()[1]}/cam"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_ends_at_once_while_it_waits_for_a_camera(
    command: Command, tmp_path: Path, deaf: str, number: signal.Signals
) -> None:
    def interrupt() -> None:
        wait_until(lambda: isinstance(signal.getsignal(number), StopSignals))
        time.sleep(0.5)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt, daemon=True).start()
    began = time.monotonic()
    result = command("run", deaf, "-o", tmp_path / "out.mp4", "--set", "live.timeout=100")
    assert result.code == 128 + number
    assert time.monotonic() - began < 50


def test_a_camera_that_says_nothing_gave_no_answer(command: Command, tmp_path: Path, deaf: str) -> None:
    result = command("run", deaf, "-o", tmp_path / "out.mp4", "--set", "live.timeout=1")
    assert result.code == 2
    assert "no answer within 1 s; is the camera on" in result.error


def test_a_duration_ends_a_run_to_which_no_frame_ever_comes(command: Command, tmp_path: Path) -> None:
    url = f"rtsp://127.0.0.1:{free_port()}/cam"
    result = command("run", url, "-o", tmp_path / "out.mp4", "--duration", "1s", "--wait")
    assert result.code == 0
    assert (result.report["frames_in"], result.report["first_frame_s"]) == (0, None)


@needs_camera
def test_no_thread_is_left_after_losses(models: Models, tmp_path: Path) -> None:
    before = threading.active_count()
    with Camera() as camera:
        going = Going(models, camera.url, tmp_path / "out.mp4")
        for _ in range(3):
            going.wait("live")
            camera.kill()
            going.wait("lost")
            camera.start()
        going.wait("live")
        assert (going.stop().reconnects or 0) >= 3
    wait_until(lambda: threading.active_count() <= before)


@needs_camera
def test_a_recording_over_udp_transport(tmp_path: Path) -> None:
    with Camera() as camera:
        source = CameraSource(camera.url, "camera", LiveOptions(transport="udp"))
        source.wait_ready()
        frames = source.frames()
        got = [next(frames) for _ in range(5)]
        source.stop()
        assert not list(frames)
        source.close()
    assert rising([f.pts for f in got])


@needs_camera
def test_a_network_that_falls_silent_without_closing_is_noticed_too() -> None:
    with Camera() as camera, Proxy(camera.port) as proxy:
        source = CameraSource(f"rtsp://127.0.0.1:{proxy.port}/cam", "camera", LiveOptions(stall=2, timeout=2))
        thread = threading.Thread(target=lambda: [None for _ in source.frames()], daemon=True)
        thread.start()
        wait_until(lambda: source.state == "live")
        proxy.frozen.set()
        wait_until(lambda: source.state != "live")
        assert source.status().state == "stalled"
        wait_until(lambda: source.no_signal_frames > 1)
        proxy.frozen.clear()
        wait_until(lambda: source.state == "live")
        source.stop()
        thread.join(10)
        source.close()
    assert not thread.is_alive()
