import logging
from pathlib import Path

import pytest

from stream_enhance.errors import (
    InputError,
    LineError,
    ModelError,
    SinkError,
    SourceError,
    StreamEnhanceError,
    printable,
    redact,
    redact_output,
)
from tests.conftest import Command


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:secret@10.0.0.1/live", "rtsp://***@10.0.0.1/live"),
        ("rtsp://admin:p@ss@word@10.0.0.1:554/live", "rtsp://***@10.0.0.1:554/live"),
        ("rtsp://admin@cam.example/1", "rtsp://***@cam.example/1"),
        ("http://cam/video?user=bob&pwd=hush&channel=2", "http://cam/video?user=***&pwd=***&channel=2"),
        ("http://cam/video?TOKEN=abc#top", "http://cam/video?TOKEN=***#top"),
        ("rtsp://a:b@one and rtsps://c:d@two failed", "rtsp://***@one and rtsps://***@two failed"),
        ("rtsp://10.0.0.1/live", "rtsp://10.0.0.1/live"),
        ("rtsp://admin:pa/s?s@10.0.0.1/live: cannot be opened", "rtsp://***@10.0.0.1/live: cannot be opened"),
        ("rtsp://cam/user=admin_password=hush_channel=1_stream=0.sdp?real", "rtsp://cam/user=***?real"),
        (
            "http://cam/s.cgi?loginuse=bob&loginpas=hush&usr=bob;passwd=a_b",
            "http://cam/s.cgi?loginuse=***&loginpas=***&usr=***;passwd=***",
        ),
        ("a mail to bob@example.org", "a mail to bob@example.org"),
        ("http://h/v?apikey=abc&channel=1", "http://h/v?apikey=***&channel=1"),
        ("srt://h:9?passphrase=abc&latency=200", "srt://h:9?passphrase=***&latency=200"),
        ("srt://h:9?streamid=abc", "srt://h:9?streamid=***"),
        ("https://h/v?sig=abc&X-Amz-Signature=def", "https://h/v?sig=***&X-Amz-Signature=***"),
        ("http://h/v?authtoken=abc: failed", "http://h/v?authtoken=***: failed"),
        ("http://h/v?pass%77ord=abc&subtype=0", "http://h/v?pass%77ord=***&subtype=0"),
        ("http://h/v?abcdef", "http://h/v?***"),
        ("http://h/v#access_token=abc", "http://h/v#***"),
        ("http://h/pass%77ord=abc/v", "http://h/pass%77ord=***/v"),
        ("rtmp://h/live/abcd-1234", "rtmp://h/live/***"),
        ("rtmps://h:443/app/abcd?x=y (refused)", "rtmps://h:443/app/***?x=*** (refused)"),
        ("http://h/whip/abcd", "http://h/***"),
        ("https://h/abcd/whip: refused", "https://h/***: refused"),
        ("part ?token=abc of one", "part ?token=*** of one"),
        ("rtsp://h:554/Streaming/Channels/101", "rtsp://h:554/Streaming/Channels/101"),
        ("rtsp://h/cam/realmonitor?channel=1&subtype=0", "rtsp://h/cam/realmonitor?channel=1&subtype=0"),
    ],
)
def test_redact_takes_out_every_secret_and_nothing_else(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_what_the_user_can_mend_is_an_input_error() -> None:
    assert all(issubclass(kind, InputError) for kind in (ModelError, SourceError, SinkError))
    assert not issubclass(LineError, InputError)
    assert issubclass(LineError, StreamEnhanceError)


def test_what_is_pushed_to_is_shown_without_its_key() -> None:
    assert redact_output("http://bob:hush@h:8080/live/abcd?token=x") == "http://***@h:8080/live/***"
    assert redact_output("https://h/abcd") == "https://h/***"
    assert redact_output("https://h") == "https://h"
    assert redact_output("rtmp://h/live/abcd") == "rtmp://h/live/***"
    assert redact_output("udp://239.0.0.1:5000") == "udp://239.0.0.1:5000"


@pytest.mark.parametrize("text", ["a\nerror: b", "a\r\x1b[2Kb", "a\x9b1Ab", "a\u2028b", "a\u202eb"])
def test_printable_writes_out_what_would_forge_a_line(text: str) -> None:
    assert len(printable(text).splitlines()) == 1
    assert printable(text).isprintable()
    assert printable("Tür – 門.mp4") == "Tür – 門.mp4"


@pytest.mark.parametrize("form", [[], ["--log-json"]], ids=["plain", "json"])
def test_a_files_name_forges_no_line(command: Command, tmp_path: Path, form: list[str]) -> None:
    result = command("run", tmp_path / "a\nerror: all is lost\x1b[2K.mp4", "-o", tmp_path / "out.mp4", *form)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert "\x1b" not in result.err
    logging.getLogger("stream_enhance").handlers.clear()
