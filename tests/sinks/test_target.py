"""What an output's name means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stream_enhance.errors import SinkError, SourceError
from stream_enhance.sinks.segments import SegmentOptions
from stream_enhance.sinks.target import (
    FileTarget,
    HlsTarget,
    ImageFolderTarget,
    ImageTarget,
    MjpegTarget,
    PushTarget,
    SegmentsTarget,
    StdoutTarget,
    identity_of,
    parse_target,
)


@pytest.mark.parametrize(
    ("spec", "target"),
    [
        ("a.mp4", FileTarget("a.mp4", Path("a.mp4"), "mp4")),
        ("a.MKV", FileTarget("a.MKV", Path("a.MKV"), "matroska")),
        ("50%.ts", FileTarget("50%.ts", Path("50%.ts"), "mpegts")),
        ("live.m3u8", HlsTarget("live.m3u8", Path("live.m3u8"))),
        ("new/", ImageFolderTarget("new/", Path("new"))),
        ("one.jpg", ImageTarget("one.jpg", Path("one.jpg"))),
        ("-", StdoutTarget()),
        ("mjpeg://localhost:8090/", MjpegTarget("mjpeg://localhost:8090/", "localhost", 8090)),
        ("rtmp://u:p@h/x", PushTarget("rtmp://***@h/***", "flv", "rtmp://u:p@h/x")),
        ("HTTPS://h/whip", PushTarget("HTTPS://h/***", "whip", "HTTPS://h/whip")),
    ],
)
def test_a_name_is_read_as(spec: str, target: Any) -> None:
    assert parse_target(spec) == target


def test_a_folder_that_is_there_and_a_path_object_are_read(tmp_path: Path) -> None:
    assert parse_target(tmp_path) == ImageFolderTarget(str(tmp_path), tmp_path)


@pytest.mark.parametrize(("live", "seconds"), [(True, 0), (False, 5)])
def test_codes_are_the_time_of_a_camera_or_where_files_are_cut(live: bool, seconds: float) -> None:
    target = parse_target("%H%M.mp4", live, SegmentOptions(seconds=seconds))
    assert target == SegmentsTarget("%H%M.mp4", Path("%H%M.mp4"), "mp4")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("a.avi", "unknown kind of output"),
        ("ftp://h/x", "cannot be pushed to"),
        ("mjpeg://0.0.0.0:8090/", "this machine only"),
        ("mjpeg://127.0.0.1:no/", "this machine only"),
        ("%D.mp4", "time codes give a /"),
    ],
)
def test_a_name_that_can_be_no_output_is_one_clear_line(spec: str, says: str) -> None:
    with pytest.raises(SinkError, match=says):
        parse_target(spec, live=True)


def test_secrets_come_from_the_environment_and_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSH_KEY", "hush")
    target = parse_target("rtsp://me:{PUSH_KEY}@h/x")
    assert identity_of(target) == "rtsp://me:hush@h/x"
    assert "hush" not in repr(target)
    with pytest.raises(SourceError, match="NO_SUCH_KEY is not set"):
        parse_target("rtsp://{NO_SUCH_KEY}@h/x")


def test_alike_places_have_one_identity(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert identity_of(parse_target(tmp_path / "a.mp4")) == identity_of(parse_target(tmp_path / "link" / "a.mp4"))
    assert identity_of(parse_target("mjpeg://localhost:1/")) == identity_of(parse_target("mjpeg://127.0.0.1:1/"))
