"""The clock and the pauses of a live source; what admission and the quality_controller do."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Generator, Iterable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from stream_enhance.imaging import planes
from stream_enhance.imaging.frames import copy_of
from stream_enhance.runtime import Channel, Line
from stream_enhance.sources.camera import CameraSource, _Backoff, _Inbox
from stream_enhance.sources.clock import TIME_BASE, WallClock
from stream_enhance.sources.connection import LiveOptions
from stream_enhance.sources.no_signal import no_signal
from stream_enhance.stages.load_control import STEPS, AdmissionControl, QualityController
from stream_enhance.types import Frame


def test_ticks_only_rise_whatever_the_cameras_clock_does() -> None:
    clock = WallClock(100.0)
    given = [0.0, 0.04, 0.08, 3600.0, 3600.04, -3600.0, None, -3599.9, -3599.9]
    ticks = [clock.next(seconds, 100.0 + 0.04 * i) for i, seconds in enumerate(given)]
    clock.restart()
    ticks.append(clock.next(9.0, 101.0))
    assert all(a < b for a, b in itertools.pairwise(ticks))
    assert abs(ticks[4] * TIME_BASE - Fraction(16, 100)) < Fraction(1, 10), "laid on our clock again after the jump"


def test_jitter_of_the_network_does_not_reach_the_timestamps() -> None:
    clock = WallClock(0.0)
    ticks = [clock.next(5 + i / 25, i / 25 + (0.03 if i % 3 else 0.0)) for i in range(50)]
    assert set(np.diff(ticks)) == {3600}


def test_pauses_grow_to_a_cap_and_start_again_after_a_good_while() -> None:
    retries = _Backoff(1.0)
    pauses = [retries.next() for _ in range(12)]
    assert pauses[0] <= 0.1 < pauses[3]
    assert max(pauses) <= 1.0
    assert len(set(pauses[6:])) > 1, "jitter"
    retries.live(time.monotonic())
    assert retries.next() > 0.5, "it was not well for long"
    retries.live(time.monotonic() - 60)
    assert retries.next() <= 0.1
    assert retries.next(unauthorised=True) > 3


@pytest.mark.parametrize("form", ["yuv420p", "yuvj420p", "nv12", "yuv422p10le", "gray", "bgr24"])
def test_no_signal_is_the_last_image_greyed_with_words_on_it(form: str) -> None:
    rgb = np.zeros((120, 320, 3), np.uint8)
    rgb[:, :, 0] = 220
    last = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=form)
    shown = copy_of(no_signal(last, 0.0))
    assert (shown.width, shown.height, shown.format.name) == (320, 120, form)
    pixels = planes.read(shown, 0, 0, 320, 120).astype(int)
    assert np.abs(pixels[5, 5] - pixels[5, 5].mean()).max() < 12, "grey"
    assert pixels[5, 5].mean() < 90
    assert pixels[40:80].max() > 200, "words"


def _frames(count: int, pause: float) -> Generator[Frame, None, None]:
    image = av.VideoFrame(16, 16, "gray")
    for i in range(count):
        yield Frame(image, i, i, Fraction(1, 25), time.monotonic(), time.time())
        time.sleep(pause)


def _live_line(
    count: int, pause: float, work: float, max_age: float
) -> tuple[Line, Any, QualityController, list[float]]:
    """A source, a slow stage and a sink, joined as ``pipeline.Run`` joins a camera's."""
    ages: list[float] = []
    knobs = SimpleNamespace(every=1, cache_ttl=0.5, cache_tolerance=5.0, max_faces=0)
    quality_controller = QualityController(knobs, knobs, max_age, react=0.05, recover=0.2)
    admission = AdmissionControl(max_age, lambda: line.cancelled, quality_controller.waited)

    def slow(frames: Iterable[Any]) -> Generator[Any, None, None]:
        for frame in admission(frames):
            time.sleep(work / knobs.every)
            yield frame

    def sink(frames: Iterable[Any]) -> Generator[Any, None, None]:
        for frame in frames:
            ages.append(time.monotonic() - frame.captured_at)
            admission.on_exit()
            yield frame

    line = Line(_frames(count, pause), {"slow": slow, "sink": sink}, [Channel(16, "drop_oldest"), Channel(2)])
    return line, knobs, quality_controller, ages


def _run(line: Line) -> None:
    thread = threading.Thread(target=line.run, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.timeout(60)
def test_overload_drops_after_decode_only_counts_exactly_and_ages_do_not_grow() -> None:
    line, _, quality_controller, ages = _live_line(count=300, pause=0.005, work=0.2, max_age=0.4)
    _run(line)
    assert line.workers[0].count == 300 == len(ages) + line.channels[0].dropped
    assert line.channels[0].dropped > 0
    assert line.channels[1].dropped == 0
    assert quality_controller.step > 0
    assert np.median(ages[-5:]) < 2.0, "without a bound they would be above 8"


@pytest.mark.timeout(60)
def test_quality_goes_first_and_comes_back() -> None:
    line, knobs, quality_controller, ages = _live_line(count=150, pause=0.03, work=0.045, max_age=1.0)
    _run(line)
    assert len(ages) + line.channels[0].dropped == 150
    assert next(step for _, step in quality_controller.steps) == 1
    for _ in range(len(STEPS)):
        time.sleep(0.25)
        for _ in range(20):
            quality_controller.waited(0.0)
        time.sleep(0.7 if quality_controller.step else 0)
        quality_controller.waited(0.0)
    assert quality_controller.step == 0
    assert (knobs.every, knobs.cache_ttl, knobs.cache_tolerance, knobs.max_faces) == (1, 0.5, 5.0, 0)


def test_the_order_in_which_quality_is_given_up() -> None:
    assert STEPS[0] == type(STEPS[0])()
    for before, after in itertools.pairwise(STEPS):
        assert (after.every, after.cache_ttl, -(after.faces or 999)) > (
            before.every,
            before.cache_ttl,
            -(before.faces or 999),
        )
    assert [s.every > 1 for s in STEPS].index(True) < [s.cache_ttl > 1 for s in STEPS].index(True)
    assert [s.cache_ttl > 1 for s in STEPS].index(True) < [s.faces > 0 for s in STEPS].index(True)


@pytest.mark.timeout(20)
def test_cancelling_wakes_a_line_whose_sink_never_takes_anything() -> None:
    line, _, _, _ = _live_line(count=10_000, pause=0.001, work=60.0, max_age=0.2)
    for worker in line.workers:
        worker.start(line.cancel)
    time.sleep(0.3)
    line.cancel()
    line.workers[0].thread.join(5)
    assert not line.workers[0].thread.is_alive()


class _Camera:
    """A camera over UDP that sends ``grey`` images when asked to."""

    def __init__(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"udp://127.0.0.1:{free.getsockname()[1]}"
        self._container = av.open(f"{self.url}?pkt_size=1316", "w", format="mpegts")
        self._stream: Any = self._container.add_stream("mpeg2video", rate=25, options={"g": "1"})
        self._stream.width, self._stream.height, self._stream.pix_fmt = 64, 48, "yuv420p"
        self._count = 0

    def send(self, seconds: float, grey: int) -> None:
        for _ in range(round(seconds * 25)):
            image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey, np.uint8), "rgb24")
            image.pts, image.time_base = self._count, Fraction(1, 25)
            self._container.mux(self._stream.encode(image))
            self._count += 1
            time.sleep(0.04)

    def close(self) -> None:
        self._container.close()


@pytest.mark.timeout(60)
def test_no_signal_is_made_of_the_newest_frame_however_often_there_was_none() -> None:
    camera = _Camera()
    source = CameraSource(camera.url, "camera", LiveOptions(wait=True, stall=30, timeout=30))
    shown: list[tuple[bool, float]] = []

    def read() -> None:
        for frame in source.frames():
            shown.append((frame.no_signal, float(planes.read(frame.image, 0, 0, 8, 8).mean())))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    camera.send(3, 240)
    time.sleep(3)  # within ``stall``: it stays live all the time
    first = [level for no_signal, level in shown if no_signal]
    camera.send(2, 60)
    time.sleep(3)
    source.stop()
    thread.join(20)
    camera.close()
    source.close()
    assert not thread.is_alive()
    last = [level for no_signal, level in shown if no_signal][len(first) :]
    assert first
    assert last
    assert max(first) > 80
    assert last[-1] < 60, "made of the frame before the stall"


def test_the_newest_frame_alone_waits_for_the_line() -> None:
    inbox = _Inbox()
    image = av.VideoFrame(1920, 1080, "yuv420p")
    connection: Any = object()
    for i in range(100):
        inbox.put((connection, image, float(i)))
    inbox.put((connection, None, 100.0))
    assert [event[2] for _ in range(2) if (event := inbox.get(0.1))] == [99.0, 100.0]
    assert inbox.get(0.01) is None

    def fill() -> None:
        for _ in range(100):
            inbox.put((connection, image, 0.0))

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive(), "it waits for room"
    inbox.close()
    thread.join(5)
    assert not thread.is_alive()
