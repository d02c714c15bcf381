import pytest

from stream_enhance.errors import InputError, LineError, ModelError, SinkError, SourceError, StreamEnhanceError, redact


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
    ],
)
def test_redact_takes_out_every_secret_and_nothing_else(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_what_the_user_can_mend_is_an_input_error() -> None:
    assert all(issubclass(kind, InputError) for kind in (ModelError, SourceError, SinkError))
    assert not issubclass(LineError, InputError)
    assert issubclass(LineError, StreamEnhanceError)
