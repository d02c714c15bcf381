"""What ``serve`` says to a file that cannot be used, before anything is started."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from conftest import Command, Models

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
