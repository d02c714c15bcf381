import json
from pathlib import Path
from typing import Any

import av
import pytest

from stream_enhance.cli.probe import format_summary, inspect_source
from stream_enhance.errors import SourceError
from tests.conftest import Command
from tests.media import SIZE, coloured, image, make_video

pytestmark = pytest.mark.timeout(60)


def test_it_says_what_is_in_a_file(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mp4", 12, (320, 240), rotation=90, sound=True, space=1)
    found = inspect_source(str(path))
    assert found["duration_s"] == pytest.approx(0.48, abs=0.1)
    assert found["bytes"] == path.stat().st_size
    video, sound = found["streams"]
    expected = {"codec": "h264", "width": 320, "height": 240, "rate": "25", "frames": 12, "pixel_format": "yuv420p"}
    assert {key: video[key] for key in expected} == expected
    assert (video["rotation"], video["matrix"], video["interlaced"]) == (90, "BT.709", False)
    assert (sound["type"], sound["codec"], sound["sample_rate"], sound["channels"]) == ("audio", "aac", 16000, 1)
    assert (found["output"], found["lost"]) == ("in.mp4", [])
    for words in ("320x240", "turned by 90 degrees", "aac, 16000 Hz", "would lose no stream"):
        assert words in format_summary(found)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"codec": "ffv1", "pixel_format": "yuv420p16le"}, "the pixel format yuv420p16le"),
        ({"codec": "ffv1", "size": (161, 121)}, "the odd size 161x121"),
        ({"codec": "ffv1", "pixel_format": "bgr0"}, "is given yuv420p"),
        ({"codec": "libx264", "options": {"x264-params": "interlaced=1"}}, "interlacing"),
    ],
)
def test_it_says_what_the_encoding_would_lose(tmp_path: Path, made: dict[str, Any], says: str) -> None:
    path = make_video(tmp_path / "in.mkv", 4, **made)
    found = inspect_source(str(path))
    assert len(found["lost"]) == 1
    assert says in found["lost"][0]
    assert found["lost"][0] in format_summary(found)


def test_it_says_which_streams_would_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "in.ts"
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream("libx264", rate=25, options={"preset": "ultrafast"}) for _ in "ab"]
        for stream, size in zip(streams, (SIZE, (64, 48)), strict=True):
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            container.mux(stream.encode(coloured(image(0, *size), "yuv420p")))
        for stream in streams:
            container.mux(stream.encode(None))
    assert inspect_source(str(path))["lost"] == ["its video stream 1: only the largest one is enhanced"]


def test_subtitles_that_the_output_cannot_hold_are_named(tmp_path: Path) -> None:
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,000 --> 00:00:00,200\nhello\n")
    path = tmp_path / "in.mkv"
    with av.open(str(words)) as subtitles, av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        copy = container.add_stream_from_template(subtitles.streams[0])
        container.mux([*video.encode(coloured(image(0), "yuv420p")), *video.encode(None)])
        for packet in subtitles.demux():
            if packet.dts is not None:
                packet.stream = copy
                container.mux(packet)
    assert inspect_source(str(path))["lost"] == []
    path.rename(tmp_path / "in.webm")  # which becomes an MP4
    found = inspect_source(str(tmp_path / "in.webm"))
    assert (found["output"], found["lost"]) == ("in.webm.mp4", ["its subtitle stream 1 (srt) cannot go into mp4"])


def test_a_folder_of_images(tmp_path: Path) -> None:
    make_video(tmp_path / "a.png", 1, codec="png", pixel_format="rgb24", form="image2")
    assert inspect_source(str(tmp_path))["frames"] == 1
    assert "1 images" in format_summary(inspect_source(str(tmp_path)))


def test_what_cannot_be_probed_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        inspect_source(str(tmp_path / "none.mp4"))
    with pytest.raises(SourceError, match="a live camera cannot be probed") as raised:
        inspect_source("rtsp://bob:hush@127.0.0.1:1/none")
    assert "hush" not in str(raised.value)


def test_the_command_prints_it_for_people_and_as_json(command: Command, clip: Path) -> None:
    said = command("probe", clip)
    assert said.code == 0
    assert "h264, 160x120, yuv420p, 25 frames/s" in said.out
    found = json.loads(command("probe", clip, "--json").out)
    assert [stream["codec"] for stream in found["streams"]] == ["h264", "aac"]
    said = command("probe", clip.parent / "none.mp4")
    assert said.code == 2
    assert "no such file" in said.err
