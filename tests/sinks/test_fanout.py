"""One encoder, several outputs: each whole, with the sound and subtitles that it can hold."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import pytest

from stream_enhance.errors import SinkError
from stream_enhance.sinks.codecs import Encoding
from stream_enhance.sinks.fanout import Fanout
from stream_enhance.sinks.open import open_sink
from tests.conftest import ROOT, Command, Models
from tests.media import images_of, make_video, pts_of
from tests.sinks.test_passthrough import with_sound

pytestmark = pytest.mark.timeout(90)


def side(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(getattr(container.streams, kind)) if packet.size]


def times_of(path: Path) -> list[float]:
    """Seconds since the first frame."""
    times = pts_of(path)
    return [float(pts - times[0]) for pts in times]


def with_subtitles(path: Path) -> Path:
    """A Matroska file with sound and two cues."""
    words = path.with_suffix(".srt")
    words.write_text("1\n00:00:00,000 --> 00:00:00,200\nhello\n\n2\n00:00:00,200 --> 00:00:00,400\nthere\n")
    made = make_video(path.with_suffix(".mp4"), 60, sound=True)
    with av.open(str(words)) as text, av.open(str(made)) as given, av.open(str(path), "w") as container:
        streams = {s.index: container.add_stream_from_template(s) for s in given.streams}
        cues = container.add_stream_from_template(text.streams[0])
        for packet in [*text.demux(), *given.demux()]:
            if packet.dts is not None:
                of_text = packet.stream is text.streams[0]
                packet.stream = cues if of_text else streams[packet.stream_index]
                container.mux(packet)
    return path


def test_each_file_has_every_frame_the_sound_and_the_subtitles_it_can_hold(command: Command, tmp_path: Path) -> None:
    source, names = with_subtitles(tmp_path / "in.mkv"), ["a.mp4", "b.mkv", "c.ts", "d.mkv"]
    outputs = [tmp_path / name for name in names]
    result = command("run", source, *(word for path in outputs for word in ("-o", path)))
    assert result.code == 0, result.err
    for path in outputs:
        assert times_of(path) == pytest.approx(times_of(source), abs=0.0011)
    sound = side(source, "audio")
    assert side(outputs[0], "audio") == side(outputs[1], "audio") == side(outputs[3], "audio") == sound
    assert len(side(outputs[2], "audio")) == len(sound)
    assert side(outputs[1], "subtitles") == side(outputs[3], "subtitles") == [b"hello", b"there"]
    assert [o["packets"] for o in result.report["outputs"]] == [60] * 4
    assert {o["lost"] for o in result.report["outputs"]} == {0}
    assert sorted(path.name for path in tmp_path.iterdir() if ".part" in path.name) == []


def test_sound_is_encoded_for_each_file_that_cannot_hold_it(command: Command, tmp_path: Path) -> None:
    source = with_sound(tmp_path / "in.avi", "pcm_mulaw", 8000)
    outputs = [tmp_path / "a.mp4", tmp_path / "b.ts", tmp_path / "c.mov"]
    result = command("run", source, *(word for path in outputs for word in ("-o", path)))
    assert result.code == 0, result.err
    for path, codec in zip(outputs, ("aac", "aac", "pcm_mulaw"), strict=True):
        with av.open(str(path)) as container:
            assert container.streams.audio[0].codec_context.name == codec
            assert sum(frame.samples for frame in container.decode(audio=0)) >= 4000


def test_standard_output_carries_the_whole_recording(models: Models, clip: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "stream_enhance", "run", str(clip), "-o", "-", "-o", str(tmp_path / "a.mkv")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*words, *models.options], capture_output=True, timeout=80, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    with av.open(io.BytesIO(done.stdout), "r") as container:
        assert sum(1 for _ in container.decode(video=0)) == 12
    assert len(pts_of(tmp_path / "a.mkv")) == 12


def test_a_single_image_becomes_a_single_image(command: Command, clip: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), images_of(clip)[0])
    result = command("run", tmp_path / "in.png", "-o", tmp_path / "one.png")
    assert result.code == 0, result.err
    assert images_of(tmp_path / "one.png")[0].shape == images_of(clip)[0].shape
    assert b"ENHANCED by stream-enhance" in (tmp_path / "one.png").read_bytes()
    result = command("run", tmp_path / "in.png", "-o", tmp_path / "one.png")
    assert (result.code, "is there already; use --overwrite" in result.error) == (2, True)
    result = command("run", clip, "-o", tmp_path / "two.jpg")
    assert result.code == 1
    assert "holds one image, and there are more; name a folder (ends in /)" in result.error
    result = command("run", clip, "-o", tmp_path / "three.jpg", "-o", tmp_path / "x.mp4")
    assert "images are written alone" in result.error


def test_outputs_that_cannot_all_be_opened_let_go_of_what_they_have(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path):
        words: list[str | Path] = ["mjpeg://127.0.0.1:0/", tmp_path / "x.mp4", folder / "y.mp4"]
        if folder != tmp_path:
            with pytest.raises(SinkError, match="no such folder"):
                open_sink(words, Encoding(), "")
            continue
        sink = open_sink(words, Encoding(), "")
        assert isinstance(sink, Fanout)
        sink.release()
