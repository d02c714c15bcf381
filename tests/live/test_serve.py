"""``serve`` with real cameras and a real browser."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import pytest

from tests.conftest import Models
from tests.live.browser import Browser, needs_browser
from tests.live.cameras import Camera, free_port, needs_camera, wait_until

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")
pytestmark = [pytest.mark.timeout(300), needs_camera]


class Server:
    """``stream-enhance serve`` in a process of its own."""

    def __init__(self, models: Models, folder: Path, cameras: dict[str, Any], **settings: Any) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.path = folder / "cameras.yaml"
        self._log = folder / "log.txt"
        detector = {"model": str(models.detector)}
        self._common = {
            "listen": f"127.0.0.1:{self.port}",
            "gallery": str(folder / "shots"),
            "settings": {
                "detector": detector, "enhancer": {"model": str(models.enhancer)}, "threads": 1,
                "live": {"stall": 2, "max_age": 3}, **settings,
            },
        }  # fmt: skip
        self.write(cameras)

    def write(self, cameras: dict[str, Any]) -> None:
        self.path.write_text(json.dumps({**self._common, "cameras": cameras}))  # JSON is YAML

    def get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(self.url + path, timeout=20) as answer:
                body = answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                body = error.read().decode()
            if error.code == 429:  # asked too often, while waiting for something
                time.sleep(1)
                return self.get(path)
        return json.loads(body) if body[:1] in "[{" else body

    def post(self, path: str) -> Any:
        request = urllib.request.Request(self.url + path, method="POST", headers={"X-Stream-Enhance": "1"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def camera(self, name: str) -> dict[str, Any]:
        return self.get(f"/api/cameras/{name}")  # type: ignore[no-any-return]

    def wait_live(self, name: str) -> None:
        wait_until(lambda: self.camera(name).get("state") == "live" and self.camera(name)["frames"]["out"] > 0)

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "stream_enhance", "serve", str(self.path)]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log)

        def up() -> bool:
            assert self.process.poll() is None, self._log.read_text()
            try:
                return bool(self.get("/healthz") == "ok\n")
            except OSError:
                return False

        wait_until(up)
        return self

    def restarted(self) -> Self:
        """Another process with the same settings, to be entered; it takes the place of this one."""
        self.__exit__(None, None, None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() == 0:
            return
        self.process.terminate()
        assert self.process.wait(30) == 0, self._log.read_text()
        assert "Traceback" not in self._log.read_text()


@needs_browser
def test_the_page_shows_live_images_in_a_browser(models: Models, tmp_path: Path) -> None:
    with Camera() as camera, Server(models, tmp_path, {"door": {"url": camera.url}}) as server:
        with Browser() as browser:
            browser.open(server.url)
            browser.wait("document.querySelector('video')?.currentTime > 0.5")
            browser.wait("document.querySelector('.state').textContent == 'live'")
            assert browser.eval("document.querySelector('video').videoWidth") == 1280
            for key, show in (("1", "original"), ("2", "both"), ("3", "enhanced")):
                browser.press(key)
                assert browser.eval("document.body.className") == f"show-{show}"
            before = browser.eval("document.querySelector('video').currentTime")
            browser.wait(f"document.querySelector('video').currentTime > {before} + 0.5")
            assert server.camera("door")["viewers"] == 1
            browser.eval("window.confirm = () => true")
            browser.eval("document.querySelector('.pause').click()")
            browser.wait("document.querySelector('.state').textContent == 'paused'")
            browser.eval("document.querySelector('.pause').click()")
            browser.wait("document.querySelector('.state').textContent == 'live'")
            assert browser.errors == []
        wait_until(lambda: server.camera("door")["viewers"] == 0)


@needs_browser
def test_a_browser_logs_in_with_the_right_token_only(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "a token that is long enough"
    monkeypatch.setenv("STREAM_ENHANCE_TOKEN", token)
    with Server(models, tmp_path, {}) as server, Browser() as browser:

        def log_in(given: str) -> None:
            browser.wait("document.querySelector('#token') && document.readyState == 'complete'")
            browser.eval(f"document.querySelector('#token').value = {given!r}")
            browser.eval("document.querySelector('form').requestSubmit()")

        browser.open(server.url)
        log_in("not " + token)
        browser.wait("document.querySelector('[role=alert]')?.textContent.includes('not the access token')")
        log_in(token)
        browser.wait("document.querySelector('#cameras') !== null")
        browser.wait("document.querySelector('#offline').hidden")
        assert browser.eval("location.pathname") == "/"
        assert token not in browser.eval("document.cookie")
        assert not browser.eval("document.querySelector('#no-cameras').hidden")
        assert browser.errors == []
        with server.restarted():
            browser.wait("location.pathname == '/login'")  # sessions end with the server


@needs_browser
def test_the_page_falls_back_to_jpegs_without_mediasource(models: Models, tmp_path: Path) -> None:
    cameras = Camera()
    with (
        cameras,
        Server(models, tmp_path, {"door": {"url": cameras.url}}) as server,
        Browser(390, 844, True) as browser,
    ):
        browser.call("Page.addScriptToEvaluateOnNewDocument", source="delete window.MediaSource")
        browser.open(server.url)
        browser.wait("document.querySelector('.screen > img')?.naturalWidth == 1280")
        assert browser.eval("document.documentElement.scrollWidth") <= 390, "fits a phone"


def test_it_ends_well_while_cameras_say_nothing(models: Models, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=50) as deaf:
        url = f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/x"
        cameras = {f"c{i}": {"url": url} for i in range(20)}
        with Server(models, tmp_path, cameras, live={"timeout": 60}):
            time.sleep(1)  # all of them are being opened


def test_one_dead_camera_disturbs_nobody_and_cameras_come_and_go(models: Models, tmp_path: Path) -> None:
    with Camera(paths="cam,second") as camera:
        good, second = {"url": camera.url}, {"url": camera.url.replace("/cam", "/second")}
        bad = {"url": f"rtsp://user:geheim@127.0.0.1:{free_port()}/x"}
        with Server(models, tmp_path, {"good": good, "bad": bad}) as server:
            server.wait_live("good")
            assert server.camera("bad")["state"] == "connecting"
            assert "nothing answers" in server.camera("bad")["error"]
            assert server.get("/readyz") == {"not_live": {"bad": "connecting"}}
            began = server.camera("good")["frames"]["in"]
            server.write({"good": good, "second": second})
            server.process.send_signal(signal.SIGHUP)
            server.wait_live("second")
            wait_until(lambda: {c["name"] for c in server.get("/api/cameras")} == {"good", "second"})
            assert server.camera("good")["frames"]["in"] >= began, "it was not restarted"
            server.path.write_text("cameras: [")
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            assert len(server.get("/api/cameras")) == 2, "a file that cannot be read changes nothing"
            server.post("/api/cameras/second/pause")
            assert server.camera("second")["state"] == "paused"
            figures = server.get("/metrics")
            assert 'stream_enhance_state{camera="good",state="live"} 1' in figures
            assert 'stream_enhance_age_seconds_count{camera="good"}' in figures
            for text in (figures, server.get("/openapi.json"), server.get("/api/cameras")):
                assert "geheim" not in str(text)


def test_a_reload_that_fails_changes_nothing_and_one_that_works_resumes_nothing(models: Models, tmp_path: Path) -> None:
    dead = {"url": f"rtsp://127.0.0.1:{free_port()}/x"}
    with Server(models, tmp_path, {"door": dead, "yard": dead}) as server:

        def reload(says: str, times: int = 1) -> None:
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: server._log.read_text().count(says) == times)
            assert [c["name"] for c in server.get("/api/cameras")] == ["door", "yard"]

        server.write({"door": dead, "front door": dead})
        reload("nothing was changed")
        server.path.write_text("settings: {threads: 2024-13-45}")
        reload("nothing was changed", 2)
        server.write({"door": dead | {"outputs": ["door.avi"]}})
        reload("nothing was changed", 3)
        server.post("/api/cameras/door/pause")
        server.write({"door": dead, "yard": dead})
        reload("nothing has changed")
        assert server.camera("door")["state"] == "paused"


def test_best_shots_are_listed_and_announced(models: Models, tmp_path: Path) -> None:
    with Camera() as camera, Server(models, tmp_path, {"door": {"url": camera.url}}) as server:
        wait_until(lambda: server.get("/api/shots") != [])
        shot = server.get("/api/shots?camera=door")[0]
        assert shot["camera"] == "door"
        for kind in ("before", "after"):
            with urllib.request.urlopen(server.url + shot[kind]) as answer:
                assert answer.read(4) == b"\x89PNG"
        with urllib.request.urlopen(server.url + "/api/events", timeout=20) as events:
            assert events.readline() == b"event: cameras\n"


def test_a_viewer_that_stops_reading_slows_nobody_down(models: Models, tmp_path: Path) -> None:
    from websockets.sync.client import connect

    with Camera() as camera, Server(models, tmp_path, {"door": {"url": camera.url}}) as server:
        server.wait_live("door")
        address = f"ws://127.0.0.1:{server.port}/api/cameras/door/video"
        with connect(address, max_queue=1) as stuck, connect(address, max_size=None) as reading:
            assert str(reading.recv(timeout=30)).startswith("avc1.")
            stuck.recv(timeout=30)
            head = reading.recv(timeout=30)
            assert isinstance(head, bytes)
            assert head[4:8] == b"ftyp"
            for _ in range(60):
                piece = reading.recv(timeout=30)
                assert isinstance(piece, bytes)
                assert piece[4:8] == b"moof"
            out = server.camera("door")["frames"]["out"]
            wait_until(lambda: server.camera("door")["frames"]["out"] > out + 10)


def test_a_viewer_gets_each_header_once_and_goes_on_at_a_key_frame_after_a_loss() -> None:
    from stream_enhance.server.routes.views import _QUEUED, Selection
    from stream_enhance.server.view import Piece

    header, other = (Piece(b"", True, "header", "avc1", encoder) for encoder in (1, 2))
    key, delta = (Piece(b"", is_key, "fragment", encoder=1) for is_key in (True, False))
    selection = Selection()
    assert not selection(key, 0), "it cannot be decoded yet"
    assert [selection(piece, 0) for piece in (header, delta, key, delta)] == [True, False, True, True]
    assert not selection(header, 0), "another viewer has joined"
    assert selection(delta, 0)
    assert not selection(delta, _QUEUED)
    assert selection.lost
    assert [selection(piece, 0) for piece in (delta, header, delta, key, delta)] == [False, False, False, True, True]
    assert [selection(piece, 0) for piece in (other, delta, key)] == [True, False, False]


def test_a_viewer_that_falls_behind_goes_on_and_leaves_with_its_camera() -> None:
    from stream_enhance.server.routes.views import _QUEUED, pieces
    from stream_enhance.server.view import LiveView, Piece

    async def watch() -> None:
        view = LiveView("door")
        camera: Any = SimpleNamespace(view=view, gone=False)
        key = Piece(b"", True, "fragment", encoder=1)
        async with aclosing(pieces(camera, "video")) as sent:
            first = asyncio.ensure_future(anext(sent))
            await asyncio.sleep(0)
            for piece in (Piece(b"", True, "header", "avc1", 1), *[key] * (_QUEUED + 5)):
                view._send("video", piece)
            assert (await first).kind == "header"
            await asyncio.sleep(0.05)
            view._fresh = False
            for _ in range(_QUEUED - 1):
                assert await anext(sent) is key
            after = asyncio.ensure_future(anext(sent))
            await asyncio.sleep(0.05)
            assert view._fresh, "a key frame is asked for"
            view._send("video", key)
            assert await after is key
            view.dismiss()
            assert [piece async for piece in sent] == []
        assert view.viewers == 0
        assert [piece async for piece in pieces(camera, "jpeg")] == [], "nor does one wait that comes too late"
        view.close()

    asyncio.run(asyncio.wait_for(watch(), 60))


def test_recordings_are_closed_by_a_graceful_stop_whatever_else_hangs(models: Models, tmp_path: Path) -> None:
    import av

    with Camera() as camera, socket.create_server(("127.0.0.1", 0)) as deaf:
        push = f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/push"
        config = {"door": {"url": camera.url, "outputs": [push, str(tmp_path / "rec-%H%M%S.mp4")]}}
        with Server(models, tmp_path, config) as server:
            server.wait_live("door")
            wait_until(lambda: server.camera("door")["frames"]["out"] > 20)
            events = urllib.request.urlopen(server.url + "/api/events", timeout=60)
            assert events.readline() == b"event: cameras\n"
        events.close()
    recordings = list(tmp_path.glob("rec-*.mp4"))
    assert recordings
    for recording in recordings:
        assert boxes(recording)[-1] == b"moov", "the index comes with the end"
    with av.open(str(recordings[0])) as container:
        assert sum(1 for _ in container.decode(video=0)) > 10


@pytest.mark.parametrize("fault", ["unwritable", "full"])
def test_a_gallery_that_cannot_be_written_leaves_the_recording_alone(
    models: Models, tmp_path: Path, fault: str, small_disk: Callable[[str], Path]
) -> None:
    if fault == "full":
        shots = small_disk("size=8k")
        (shots / "full").write_bytes(b"x" * 8192)
        (tmp_path / "shots").symlink_to(shots)
    else:
        (tmp_path / "shots").write_text("a file where the folder should be")
    with Camera() as camera:
        config = {"door": {"url": camera.url, "outputs": [str(tmp_path / "rec-%H%M%S.mp4")]}}
        with Server(models, tmp_path, config) as server:
            server.wait_live("door")
            wait_until(lambda: server.camera("door")["gallery_errors"] > 0)
            before = server.camera("door")["frames"]["out"]
            wait_until(lambda: server.camera("door")["frames"]["out"] > before + 20)
            status = server.camera("door")
            assert status["restarts"] == 0
            assert status["gallery_problem"].startswith("best shots cannot be written: ")
            assert 'stream_enhance_gallery_errors_total{camera="door"} ' in server.get("/metrics")
            assert server._log.read_text().count("the recording goes on") == 1
    assert len(list(tmp_path.glob("rec-*.mp4"))) == 1


def boxes(path: Path) -> list[bytes]:
    """Kinds of an MP4 file's boxes, in order."""
    data, kinds = path.read_bytes(), []
    while data:
        size, header = int.from_bytes(data[:4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(data[8:16], "big"), 16
        kinds.append(data[4:8])
        data = data[max(size, header) :]
    return kinds
