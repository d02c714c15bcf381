"""What ``serve`` says to a file that cannot be used, before anything is started."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stream_enhance.config import read_yaml
from stream_enhance.errors import ConfigError
from stream_enhance.extras import install_hint
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
        ("trusted_proxies: [proxy.example]", ["trusted_proxies", "'proxy.example' is not an IP address"]),
        ("trusted_proxies: [127.0.0.1]", ["token"]),
        ("cameras: {door: {url: 'rtsp://me:pa ss@h/x'}}", ["door: url: has a space in it; write %20"]),
        ("listen: 'foo..bar:8000'", ["c", "listen", "'foo..bar' is not a host name"]),
        ("settings: {threads: 2024-13-45}", ["not YAML", "line 1", "no timestamp"]),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(
    command: Command, tmp_path: Path, text: str, words: list[str]
) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text(text)
    done = command("serve", path)
    assert done.code == 2
    assert done.err.count("\n") == 1, done.err
    for word in words:
        assert word in done.err


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
    path.write_text(f"cameras: {{yard: {{url: 'rtsp://h/x', outputs: ['{tmp_path}/a.mp4', '{outputs}']}}}}")
    done = command("serve", path)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert re.search(f"{path}: yard: outputs: .*{says}", done.err), done.err


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.m3u8", "./a.m3u8"),
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
    done = command("serve", path)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert f"{path}: door: outputs: " in done.err
    assert "yard writes there too; choose another" in done.err
    assert "hush" not in done.err


def test_a_missing_folder_or_variable_is_one_line_at_the_start(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOOR_PASS", raising=False)
    path = tmp_path / "c.yaml"
    for camera, says in (
        (f"url: 'rtsp://h/x', outputs: ['{tmp_path}/none/a.mp4']", f"{tmp_path}/none does not exist; create it"),
        (f"url: 'rtsp://h/x', outputs: ['{tmp_path}/none/a.m3u8']", f"{tmp_path}/none does not exist; create it"),
        ("url: 'rtsp://me:{DOOR_PASS}@h/x'", "url: rtsp://***@h/x: the environment variable DOOR_PASS is not set"),
    ):
        path.write_text(f"cameras: {{yard: {{{camera}}}}}")
        done = command("serve", path)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert says in done.err


def test_the_example_serves_once_its_folder_is_there(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from stream_enhance.server.serve import serve

    example = read_yaml(Path(__file__).parents[2] / "configs" / "cameras.yaml")
    example["listen"] = "127.0.0.1:0"
    example["settings"]["detector"]["model"] = str(models.detector)
    example["settings"]["enhancer"] = {"model": str(models.enhancer)}
    for camera in example["cameras"].values():
        camera["url"] = "rtsp://127.0.0.1:9/x"  # as shipped nothing answers there either, but after a while
    (tmp_path / "cameras.yaml").write_text(json.dumps(example))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="folder recordings does not exist; create it"):
        serve("cameras.yaml")
    (tmp_path / "recordings").mkdir()
    caplog.set_level(logging.INFO, "stream_enhance")
    serve("cameras.yaml", stopped=lambda: True)
    assert "shows 2 cameras" in caplog.text
    assert "restarting" not in caplog.text


def test_a_camera_that_would_starve_the_others_is_refused(command: Command, models: Models, tmp_path: Path) -> None:
    detector, enhancer = {"model": str(models.detector)}, {"model": str(models.enhancer)}
    greedy = {"url": "rtsp://127.0.0.1:9/x", "paused": True, "settings": {"detector": {"size": 1280, "tiles": 4}}}
    settings = {"detector": detector, "enhancer": enhancer}
    words = {"listen": "127.0.0.1:0", "settings": settings, "cameras": {"a": greedy}}
    (tmp_path / "c.yaml").write_text(json.dumps(words))
    done = command("serve", tmp_path / "c.yaml")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert "detector.size 1280 with detector.tiles 4 is 27.9 megapixels per frame" in done.err
    assert "detector_megapixels allows 10" in done.err


@pytest.mark.parametrize("module", ["fastapi", "uvicorn", "websockets"])
def test_a_missing_package_is_one_line_that_says_how_to_get_it(tmp_path: Path, module: str) -> None:
    (tmp_path / module).mkdir()
    (tmp_path / module / "__init__.py").write_text(f"raise ModuleNotFoundError('gone', name={module!r})")
    (tmp_path / "c.yaml").write_text("listen: 127.0.0.1:0")
    paths = f"{tmp_path}:{Path(__file__).parents[2]}"
    done = subprocess.run(
        [sys.executable, "-m", "stream_enhance", "serve", str(tmp_path / "c.yaml")],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == f"error: serve needs {module}; run {install_hint('web')}\n"


def test_an_ipv6_address_is_shown_as_a_browser_takes_it(
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
    done = command("serve", tmp_path / "c.yaml")
    assert done.code == 2
    assert "too short" in done.err
    assert "kurz" not in done.err


def test_a_port_in_use(command: Command, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (tmp_path / "c.yaml").write_text(f"listen: 127.0.0.1:{taken.getsockname()[1]}")
        done = command("serve", tmp_path / "c.yaml")
    assert done.code == 2
    assert "is not available" in done.err


def test_a_camera_with_other_networks_than_the_rest(command: Command, models: Models, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        f"listen: 127.0.0.1:0\nsettings: {{detector: {{model: '{models.detector}'}}, "
        f"enhancer: {{model: '{models.enhancer}'}}}}\n"
        "cameras: {a: {url: 'rtsp://127.0.0.1:9/x', settings: {detector: {model: other.onnx}}}}"
    )
    done = command("serve", tmp_path / "c.yaml")
    assert done.code == 2
    assert "all cameras share it" in done.err
