"""What ``serve`` says to a file that cannot be used, before anything is started."""

from __future__ import annotations

import logging
import re
import socket
from pathlib import Path

import pytest

from tests.conftest import Command, Models

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cameras: {door: {url: 'file:///etc/passwd'}}", ["door", "url"]),
        ("cameras: {door: {url: 'concat:a|b'}}", ["door", "url"]),
        ("cameras: {door: {url: '/dev/sda'}}", ["door", "url"]),
        ("cameras: {door: {uri: 'rtsp://127.0.0.1/x'}}", ["unknown key uri", "url"]),
        ("camera: {}", ["unknown key camera", "cameras"]),
        ("cameras:\n\tdoor: 1", ["not YAML", "line 2"]),
        ("cameras: !!python/object/apply:os.system ['true']", ["not YAML"]),
        ("cameras:\n  a: {url: 'rtsp://h/x'}\n  a: {url: 'rtsp://h/y'}", ["'a' is there twice", "line 3"]),
        ("listen: 0.0.0.0:0", ["token"]),
        ("listen: everywhere", ["listen"]),
        ("token_sha256: short", ["token_sha256"]),
        ("settings: {detektor: {}}", ["unknown key detektor", "detector"]),
        ("listen: 'foo..bar:8000'", ["c", "listen", "'foo..bar' is no name of a host"]),
        ("settings: {threads: 2024-13-45}", ["not YAML", "line 1", "no timestamp"]),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(
    command: Command, tmp_path: Path, text: str, words: list[str]
) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text(text)
    told = command("serve", path)
    assert told.code == 2
    assert told.err.count("\n") == 1, told.err
    for word in words:
        assert word in told.err


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ("door.avi", "door.avi: unknown kind of output; use one of .m2ts"),
        ("-", "standard output: is no output of a camera"),
        ("images/", "images/: is no output of a camera"),
        ("ftp://wart:hush@host/x", r"ftp://\*\*\*@host/x: cannot be pushed to; use one of http"),
        ("rtsp://{NOWHERE_SET}@host/x", "NOWHERE_SET is not set"),
        ("mjpeg://0.0.0.0:8090/", "write mjpeg://127.0.0.1:8090/"),
        ("mjpeg://[", "write mjpeg://127.0.0.1:8090/"),
    ],
)
def test_an_output_that_can_never_work(command: Command, tmp_path: Path, outputs: str, says: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"cameras: {{yard: {{url: 'rtsp://h/x', outputs: ['no_folder_yet/a.mp4', '{outputs}']}}}}")
    told = command("serve", path)
    assert (told.code, told.err.count("\n")) == (2, 1), told.err
    assert re.search(f"{path}: yard: outputs: .*{says}", told.err), told.err


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("live/a.m3u8", "./live/a.m3u8"),
        ("rec-%H.mp4", "rec-%H.mp4"),
        ("mjpeg://127.0.0.1:8090/", "mjpeg://localhost:8090/door"),
        ("rtsp://wart:hush@host/x", "rtsp://wart:hush@host/x"),
    ],
)
def test_two_outputs_to_one_place(command: Command, tmp_path: Path, one: str, other: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("".join([
        "cameras:\n",
        f"  yard: {{url: 'rtsp://h/x', outputs: ['{one}']}}\n",
        f"  door: {{url: 'rtsp://h/y', outputs: ['{other}']}}\n",
    ]))  # fmt: skip
    told = command("serve", path)
    assert (told.code, told.err.count("\n")) == (2, 1), told.err
    assert f"{path}: door: outputs: " in told.err
    assert "yard writes there too; name another" in told.err
    assert "hush" not in told.err


def test_an_ipv6_address_is_told_as_a_browser_takes_it(
    models: Models, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from stream_enhance.server.serve import serve

    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    networks = f"{{detector: {{model: '{models.detector}'}}, enhancer: {{model: '{models.enhancer}'}}, threads: 1}}"
    (tmp_path / "c.yaml").write_text(f"listen: '[::1]:0'\nsettings: {networks}")
    caplog.set_level(logging.INFO, "stream_enhance.server.serve")
    serve(str(tmp_path / "c.yaml"), stopped=lambda: True)
    assert re.search(r"http://\[::1\]:\d+/ shows 0 cameras", caplog.text)


def test_a_missing_file(command: Command, tmp_path: Path) -> None:
    assert "cannot be read" in command("serve", tmp_path / "none.yaml").err


def test_a_token_too_short(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_ENHANCE_TOKEN", "kurz")
    (tmp_path / "c.yaml").write_text("listen: 127.0.0.1:0")
    told = command("serve", tmp_path / "c.yaml")
    assert told.code == 2
    assert "too short" in told.err
    assert "kurz" not in told.err


def test_a_port_in_use(command: Command, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (tmp_path / "c.yaml").write_text(f"listen: 127.0.0.1:{taken.getsockname()[1]}")
        told = command("serve", tmp_path / "c.yaml")
    assert told.code == 2
    assert "cannot be had" in told.err


def test_a_camera_with_other_networks_than_the_rest(command: Command, models: Models, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        f"listen: 127.0.0.1:0\nsettings: {{detector: {{model: '{models.detector}'}}, "
        f"enhancer: {{model: '{models.enhancer}'}}}}\n"
        "cameras: {a: {url: 'rtsp://127.0.0.1:9/x', settings: {detector: {model: other.onnx}}}}"
    )
    told = command("serve", tmp_path / "c.yaml")
    assert told.code == 2
    assert "all cameras share it" in told.err
