"""Who is let in, asked through real requests."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import Models
from tests.media import make_video

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from stream_enhance.errors import ConfigError
from stream_enhance.server.access import CHANGE_HEADER, HEADERS, Guard, RateLimit, check_exposure, hashed
from stream_enhance.server.app import make_app
from stream_enhance.server.config import CameraConfig
from stream_enhance.server.connections import listen
from stream_enhance.server.shots import ShotStore
from stream_enhance.server.supervisor import Supervisor

TOKEN = "a token that is long enough"
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def cameras(models: Models, tmp_path: Path) -> Iterator[Supervisor]:
    settings = {"detector": {"model": str(models.detector)}, "enhancer": {"model": str(models.enhancer)}, "threads": 1}
    shots = tmp_path / "shots"
    (shots / "door" / "20260101-000000").mkdir(parents=True)
    (shots / "door" / "20260101-000000" / "track_00001_after.png").write_bytes(b"png")
    (tmp_path / "secret.png").write_bytes(b"secret")
    cameras = Supervisor(settings, ShotStore(shots))
    yield cameras
    cameras.close()


@pytest.fixture
def local(cameras: Supervisor) -> TestClient:
    return TestClient(make_app(cameras, "127.0.0.1", ""), base_url="http://127.0.0.1:8000")


@pytest.fixture
def far(cameras: Supervisor) -> TestClient:
    return TestClient(
        make_app(cameras, "0.0.0.0", hashed(TOKEN)), base_url="http://cameras.example", follow_redirects=False
    )


def test_without_a_token_only_loopback_may_be_listened_on() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        check_exposure(host, "")
    with pytest.raises(ConfigError, match="through trusted_proxies, so a token is needed"):
        check_exposure("127.0.0.1", "", ["127.0.0.1"])
    for host in ("0.0.0.0", "::", "192.168.1.2", "cameras.example"):
        check_exposure(host, hashed(TOKEN), ["127.0.0.1"])
        with pytest.raises(ConfigError, match="token"):
            check_exposure(host, "")


def test_on_loopback_a_foreign_name_or_page_is_turned_away(local: TestClient) -> None:
    assert local.get("/api/cameras").json() == []
    assert local.get("/api/cameras", headers={"host": "evil.example"}).status_code == 421
    assert local.get("/api/cameras", headers={"origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "headers", [{"host": "["}, {"host": "[::1"}, {"host": "127.0.0.1:8000", "origin": "http://["}], ids=str
)
def test_a_host_or_origin_that_is_not_an_address_is_refused(
    local: TestClient, far: TestClient, headers: dict[str, str]
) -> None:
    for client in (local, far):
        answer = client.get("/api/cameras", headers=headers)
        assert (answer.status_code, answer.text) == (400, "the Host or Origin header is not an address\n")


def test_a_host_header_opens_no_path(far: TestClient) -> None:
    for host in ("cameras.example/healthz?", "cameras.example/login#"):
        assert far.get("/api/cameras", headers={"host": host}).status_code == 401


def test_a_change_needs_the_header_that_no_foreign_page_can_send(local: TestClient) -> None:
    assert local.delete("/api/cameras/door").status_code == 403
    assert local.delete("/api/cameras/door", headers={CHANGE_HEADER: "1"}).status_code == 404


def test_every_answer_carries_the_security_headers(local: TestClient) -> None:
    for path in ("/", "/api/cameras", "/nothing", "/static/app.js", "/openapi.json"):
        answer = local.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
    page = local.get("/").text
    assert "style=" not in page
    assert "<script>" not in page
    assert "://" not in page.replace("http://www.w3.org", ""), "nothing from elsewhere"


def test_elsewhere_everything_but_health_needs_the_token(far: TestClient) -> None:
    for path in ("/api/cameras", "/metrics", "/openapi.json", "/api/shots", "/shots/door/20260101-000000/x"):
        assert far.get(path).status_code == 401
        assert far.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
    assert far.get("/api/cameras", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert far.get("/healthz").text == "ok\n"
    with pytest.raises(WebSocketDisconnect), far.websocket_connect("/api/cameras/door/video"):
        pass


def test_the_token_given_once_in_the_form_lets_a_browser_in(far: TestClient) -> None:
    sent = far.get("/", headers={"accept": "text/html"})
    assert (sent.status_code, sent.headers["location"]) == (303, "/login")
    assert "password" in far.get("/login").text
    assert "not the access token" not in far.get("/login").text
    assert far.post("/login", data={"token": "wrong"}).headers["location"] == "/login?wrong"
    assert "not the access token" in far.get("/login?wrong").text
    entered = far.post("/login", data={"token": TOKEN})
    assert entered.headers["location"] == "/"
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    assert far.get("/api/cameras").status_code == 200


def test_guessing_tokens_is_slowed_down(far: TestClient) -> None:
    codes = [far.post("/login", data={"token": f"guess {i}"}).status_code for i in range(30)]
    assert codes[0] == 303
    assert codes[-1] == 429


def test_many_reads_are_refused_but_not_monitoring_nor_the_page(cameras: Supervisor) -> None:
    guard = make_app(cameras, "0.0.0.0", hashed(TOKEN))
    assert isinstance(guard, Guard)
    guard._reads = RateLimit(0.1, 5, 0)
    far = TestClient(guard, base_url="http://cameras.example", headers={"authorization": f"Bearer {TOKEN}"})
    codes = [far.get("/api/cameras", headers={"authorization": f"Bearer guess {i}"}).status_code for i in range(6)]
    assert codes == [401] * 5 + [429]
    refused = far.get("/api/shots")
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["x-content-type-options"] == "nosniff"
    for path in ("/healthz", "/metrics", "/shots/door/20260101-000000/track_00001_after.png", "/static/app.js"):
        assert far.get(path).status_code == 200


def test_reads_that_come_too_fast_are_held_back(cameras: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[float] = []

    async def sleep(seconds: float) -> None:
        held.append(seconds)

    monkeypatch.setattr("stream_enhance.server.access.asyncio", SimpleNamespace(sleep=sleep))
    guard = make_app(cameras, "127.0.0.1", "")
    assert isinstance(guard, Guard)
    guard._reads = RateLimit(0.001, 1, 5000)
    local = TestClient(guard, base_url="http://127.0.0.1:8000")
    assert [local.get("/api/cameras").status_code for _ in range(3)] == [200] * 3
    assert [round(seconds, -2) for seconds in held] == [1000, 2000]


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP, "without it asyncio leaves Nagle's algorithm on"


def test_an_allowance_is_spent_at_once_or_evenly_and_comes_back() -> None:
    allowance = RateLimit(rate=2, burst=3, max_wait=1.0)
    waits = [allowance.wait("a", 100.0) for _ in range(6)]
    assert waits == pytest.approx([0, 0, 0, 0.5, 1.0, None])
    assert allowance.wait("b", 100.0) == 0, "another's is its own"
    assert allowance.wait("a", 100.5) == pytest.approx(1.0), "what was refused does not count"
    assert [allowance.wait("a", 200.0) for _ in range(4)] == pytest.approx([0, 0, 0, 0.5])


def test_too_large_a_request_is_refused(local: TestClient) -> None:
    answer = local.put("/api/cameras/door", content=b"x" * 100_000, headers={CHANGE_HEADER: "1"})
    assert answer.status_code == 413


def test_too_large_a_request_is_refused_too_where_its_length_was_not_announced(
    local: TestClient, far: TestClient
) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    for client, path in ((local, "/api/cameras/door"), (far, "/login")):
        answer = client.request(
            "PUT" if client is local else "POST", path, content=chunks(), headers={CHANGE_HEADER: "1"}
        )
        assert (answer.status_code, answer.text) == (413, "the request is too large\n")


def test_a_chunked_body_within_the_limit_is_taken(local: TestClient) -> None:
    body = iter([b'{"url": "rtsp://127.0.0.1:9', b'/x", "paused": true}'])
    headers = {CHANGE_HEADER: "1", "content-type": "application/json"}
    answer = local.put("/api/cameras/door", content=body, headers=headers)
    assert (answer.status_code, answer.json()["state"]) == (200, "paused")


def test_many_headers_are_refused(local: TestClient) -> None:
    assert local.get("/healthz", headers={f"x-{i}": "y" for i in range(200)}).status_code == 431


def test_tokens_tried_by_websocket_are_limited_too(cameras: Supervisor) -> None:
    guard = make_app(cameras, "0.0.0.0", hashed(TOKEN))
    assert isinstance(guard, Guard)
    guard._reads = RateLimit(0.1, 5, 0)
    far = TestClient(guard, base_url="http://cameras.example")
    for i in range(5):
        with (
            pytest.raises(WebSocketDisconnect),
            far.websocket_connect("/api/cameras/x/video", headers={"authorization": f"Bearer guess {i}"}),
        ):
            pass
    right = {"authorization": f"Bearer {TOKEN}"}
    with pytest.raises(WebSocketDisconnect) as refused, far.websocket_connect("/api/cameras/x/video", headers=right):
        pass
    assert refused.value.code == 4401, "not even the right one is tried"
    assert far.get("/api/cameras", headers=right).status_code == 429


def test_a_browser_sends_the_origin_of_the_login_form() -> None:
    # with no-referrer it sends ``Origin: null``, which is refused; tests/live/test_serve.py logs in with a browser
    assert HEADERS["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    [
        "/shots/door/20260101-000000/..%2f..%2f..%2fsecret.png",
        "/shots/..%2f/20260101-000000/track_00001_after.png",
        "/shots/door/..%2f..%2f/secret.png",
        "/static/..%2f..%2fapp.py",
    ],
)
def test_no_path_leads_out_of_the_gallery(local: TestClient, path: str) -> None:
    assert local.get("/shots/door/20260101-000000/track_00001_after.png").content == b"png"
    answer = local.get(path)
    assert answer.status_code in (404, 422)
    assert b"secret" not in answer.content


@pytest.mark.parametrize(
    "body",
    [
        {"url": "file:///etc/passwd"},
        {"url": "concat:/etc/passwd"},
        {"url": "rtsp://{HOME}@127.0.0.1/x"},
        {"url": "rtsp://127.0.0.1/x", "outputs": ["/tmp/x.mp4"]},
        {"url": "rtsp://127.0.0.1/x", "settings": {"detektor": {}}},
        {"url": "rtsp://127.0.0.1/x", "settings": {"detector": {"model": "/etc/passwd"}}},
        {"url": "rtsp://127.0.0.1/x", "settings": {"detector": {"size": 8192}}},
        {"url": "rtsp://127.0.0.1/x", "settings": {"detector": {"size": 1280, "tiles": 8}}},
        {},
    ],
)
def test_the_api_takes_no_files_no_secrets_and_nothing_unknown(local: TestClient, body: dict[str, object]) -> None:
    answer = local.put("/api/cameras/door", json=body, headers={CHANGE_HEADER: "1"})
    assert answer.status_code in (400, 422)
    assert local.get("/api/cameras").json() == []


def test_the_api_says_what_is_wrong_but_no_password(local: TestClient) -> None:
    for url, status, says in (
        ("ftp://wart:Zauberwort@h/x", 400, "camera door: url: must be webcam:N or begin with one of http://"),
        ("rtsp://wart:Zauberwort{@h/x", 422, "should match pattern"),
        ("rtsp://wart:Zauberwort @h/x", 400, "camera door: url: has a space in it; write %20"),
    ):
        answer = local.put("/api/cameras/door", json={"url": url}, headers={CHANGE_HEADER: "1"})
        assert answer.status_code == status
        assert says.replace("http://", "") in answer.text
        assert "Zauberwort" not in answer.text


def test_answers_and_log_lines_hold_no_credentials_and_no_forged_lines(
    local: TestClient, cameras: Supervisor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    forged = str(tmp_path / "a\nerror: all cameras were deleted" / "x.mp4")
    outputs = ("rtsp://wart:Zauberwort@127.0.0.1:9/push", forged)
    cameras.put("door", CameraConfig(url="rtsp://wart:Zauberwort@127.0.0.1:9/x?token=Zauberwort", outputs=outputs))
    camera, end = cameras.get("door"), time.monotonic() + 40
    assert camera is not None
    while not camera.restarts:
        assert time.monotonic() < end
        time.sleep(0.05)
    for path in ("/api/cameras", "/api/cameras/door", "/metrics", "/readyz"):
        assert "Zauberwort" not in local.get(path).text
    status = local.get("/api/cameras/door").json()
    assert "does not exist" in status["error"] or "no such folder" in status["error"]
    assert not any("\n" in text for text in (status["error"], *status["outputs"]))
    assert "Zauberwort" not in caplog.text
    assert [record.getMessage() for record in caplog.records if "\n" in record.getMessage()] == []


def test_a_recording_plays_beside_the_cameras(local: TestClient, cameras: Supervisor, tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mp4", 100, container_options={"movflags": "faststart"}).read_bytes()
    half, rest = len(clip) * 2 // 3, threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(clip)))
            self.end_headers()
            self.wfile.write(clip[:half])
            if rest.wait(50):
                self.wfile.write(clip[half:])

        def log_message(self, *_: object) -> None:
            """Requests are not logged."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/clip.mp4"
        assert local.put("/api/cameras/clip", json={"url": url}, headers={CHANGE_HEADER: "1"}).status_code == 200
        camera, end = cameras.get("clip"), time.monotonic() + 40
        assert camera is not None
        while not camera.counts()["out"]:
            assert time.monotonic() < end, camera.error
            time.sleep(0.1)
        (status,) = local.get("/api/cameras").json()
        assert (status["state"], status["quality_step"]) == ("live", 0)
        assert 'quality_step{camera="clip"} 0' in local.get("/metrics").text
        assert local.get("/readyz").status_code == 200
    finally:
        rest.set()
        cameras.close()
        server.shutdown()
        server.server_close()


def test_a_camera_added_by_the_api_is_shown_without_its_password_and_removed(local: TestClient) -> None:
    url = "rtsp://wart:Zauberwort@127.0.0.1:9/x"
    assert local.put("/api/cameras/door", json={"url": url}, headers={CHANGE_HEADER: "1"}).status_code == 200
    for path in ("/api/cameras", "/api/cameras/door", "/metrics", "/readyz"):
        assert "Zauberwort" not in local.get(path).text
    assert local.get("/readyz").status_code == 503
    paused = local.post("/api/cameras/door/pause", headers={CHANGE_HEADER: "1"})
    assert paused.json()["state"] == "paused"
    assert local.get("/readyz").status_code == 200
    assert local.delete("/api/cameras/door", headers={CHANGE_HEADER: "1"}).status_code == 204
    assert local.get("/api/cameras/door").status_code == 404
