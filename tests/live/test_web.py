"""Web servers: what is live and what is a recording, and where they may lead."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from stream_enhance.errors import SourceError
from stream_enhance.sources.base import SourceOptions
from stream_enhance.sources.connection import LiveOptions
from stream_enhance.sources.open import open_source
from tests.conftest import Command
from tests.live.web_server import Request, endless, in_parts, redirect, web_server, whole
from tests.media import make_video

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("answer", [whole, in_parts], ids=["its length is known", "in parts"])
def test_a_recording_without_a_suffix_is_read_to_its_end(tmp_path: Path, answer: object) -> None:
    data = make_video(tmp_path / "in.ts", 75, (320, 240)).read_bytes()
    with web_server({"/export": answer(data)}) as port:  # type: ignore[operator]
        source = open_source(f"http://127.0.0.1:{port}/export")
        assert not source.info.live
        assert len(list(source.frames())) == 75
        source.close()


@pytest.mark.parametrize("suffix", ["flv", "ts"])
def test_a_live_stream_is_reconnected_whatever_its_suffix(tmp_path: Path, suffix: str) -> None:
    data = make_video(tmp_path / f"in.{suffix}", 25, options={"g": "5", "bf": "0"}).read_bytes()
    with web_server({f"/live.{suffix}": endless(data, 1.0, f"video/{suffix}")}) as port:
        source = open_source(f"http://127.0.0.1:{port}/live.{suffix}", live=LiveOptions(stall=10))
        assert source.info.live
        source.wait_ready()
        seconds = 0.0
        for frame in source.frames():
            seconds = frame.seconds
            if source.status().reconnects >= 2:
                source.stop()
        source.close()
        assert seconds > 1


def test_live_and_recorded_can_be_said(tmp_path: Path) -> None:
    data = make_video(tmp_path / "in.ts", 25, options={"g": "5", "bf": "0"}).read_bytes()
    with web_server({"/a": whole(data), "/b": endless(data, 0.5, "video/mp2t")}) as port:
        live = open_source(f"http://127.0.0.1:{port}/a", SourceOptions(kind="live"))
        assert live.info.live
        live.close()
        recorded = open_source(f"http://127.0.0.1:{port}/b", SourceOptions(kind="recorded"))
        assert not recorded.info.live
        assert len(list(recorded.frames())) == 25
        recorded.close()


def test_an_index_at_the_end_needs_a_server_that_gives_parts(tmp_path: Path) -> None:
    data = make_video(tmp_path / "in.mp4", 100, (640, 480), options={"crf": "1"}).read_bytes()
    assert data.index(b"moov") > data.index(b"mdat")
    with web_server({"/a.mp4": whole(data), "/b.mp4": in_parts(data)}) as port:
        with pytest.raises(SourceError, match="its index may be at its end, and the server gives no parts"):
            list(open_source(f"http://127.0.0.1:{port}/a.mp4").frames())
        source = open_source(f"http://127.0.0.1:{port}/b.mp4")
        assert len(list(source.frames())) == 100
        source.close()


def test_a_redirect_stays_on_its_host_unless_others_are_allowed(tmp_path: Path) -> None:
    data = make_video(tmp_path / "in.ts", 10).read_bytes()
    asked: list[str] = []

    def secret(request: Request) -> None:
        asked.append(request.path)
        whole(data)(request)

    with web_server({"/inside": secret}) as inside:
        answers = {
            "/file.ts": redirect(f"http://localhost:{inside}/inside"),
            "/camera": redirect(f"http://localhost:{inside}/inside"),
            "/near": redirect("/there"),
            "/there": whole(data),
        }
        with web_server(answers) as port:
            for path in ("file.ts", "camera"):
                with pytest.raises(SourceError, match=r"leads to another host, http://localhost; allow it"):
                    open_source(f"http://127.0.0.1:{port}/{path}")
            live = open_source(f"http://127.0.0.1:{port}/camera", SourceOptions(other_hosts=True, kind="live"))
            live.close()
            for path in ("near", "file.ts"):
                options = SourceOptions(other_hosts=path == "file.ts")
                source = open_source(f"http://127.0.0.1:{port}/{path}", options)
                assert len(list(source.frames())) == 10
                source.close()
    assert asked  # where it is allowed only


def test_a_redirect_that_comes_later_is_refused_too(tmp_path: Path) -> None:
    """The camera answers well when asked, and sends FFmpeg elsewhere."""
    data = make_video(tmp_path / "in.ts", 10).read_bytes()
    asked: list[str] = []

    def inside(request: Request) -> None:
        asked.append(request.path)
        whole(data)(request)

    with web_server({"/inside": inside}) as port:

        def two_faced(request: Request) -> None:
            if "stream-enhance" in request.headers.get("User-Agent", ""):
                whole(data)(request)
            else:
                redirect(f"http://localhost:{port}/inside")(request)

        with web_server({"/a.ts": two_faced}) as camera, pytest.raises(SourceError, match="cannot be opened"):
            open_source(f"http://127.0.0.1:{camera}/a.ts")
    assert not asked


@pytest.mark.parametrize("key", ["segment", "variant"])
def test_a_playlist_stays_on_its_host(key: str) -> None:
    lines = {"segment": "#EXTINF:2,\nhttp://localhost:1/a.ts\n#EXT-X-ENDLIST\n"}
    lines["variant"] = "#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://localhost:1/a.m3u8\n"
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n{lines[key]}".encode()
    with (
        web_server({"/a.m3u8": whole(text, "application/vnd.apple.mpegurl")}) as port,
        pytest.raises(SourceError, match="leads to another host, http://localhost"),
    ):
        open_source(f"http://127.0.0.1:{port}/a.m3u8")


def test_connected_and_never_a_frame_is_one_line(command: Command, tmp_path: Path) -> None:
    def noise(request: Request) -> None:
        request.head(Content_Type="multipart/x-mixed-replace; boundary=frame")
        while True:
            request.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 5\r\n\r\nhello\r\n")
            time.sleep(0.05)

    with web_server({"/mjpeg": noise}) as port:
        url = f"http://127.0.0.1:{port}/mjpeg"
        result = command("run", url, "-o", tmp_path / "out.mp4", "--set", "live.first_frame=2", "--set", "live.stall=2")
    assert result.code == 2
    assert "connected, but no frame came within 2 s" in result.error
    assert not list(tmp_path.glob("out*"))


def test_a_stream_that_ends_before_its_first_frame_is_one_line(command: Command, tmp_path: Path) -> None:
    data = make_video(tmp_path / "in.flv", 2).read_bytes()
    header = data[: data.index(b"\x09", 13) + 11 + 40]
    with web_server({"/live": endless(header, 0.1, "video/x-flv")}) as port:
        result = command("run", f"http://127.0.0.1:{port}/live", "-o", tmp_path / "out.mp4")
    assert result.code == 2
    assert not list(tmp_path.glob("out*"))


def test_credentials_stay_on_their_host() -> None:
    seen: list[str | None] = []

    def there(request: Request) -> None:
        seen.append(request.headers.get("Authorization"))
        request.send_error(404)

    with web_server({"/x": there}) as inside, web_server({"/x": redirect(f"http://localhost:{inside}/x")}) as port:
        source = open_source(f"http://bob:hush@127.0.0.1:{port}/x", SourceOptions(other_hosts=True, kind="live"))
        with pytest.raises(SourceError) as raised:
            source.wait_ready()
    assert set(seen) == {None}
    assert "hush" not in str(raised.value)
