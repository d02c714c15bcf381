import logging
import os
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from stream_enhance.errors import SourceError
from stream_enhance.imaging.orientation import upright
from stream_enhance.sources.open import open_source
from stream_enhance.types import Frame
from stream_enhance.urls import with_environment
from tests.media import SIZE, flv_with_times, image, make_video, psnr, pts_of, raw_h264

pytestmark = pytest.mark.timeout(60)


def frames_of(path: Path | str) -> list[Frame]:
    source = open_source(str(path))
    try:
        return list(source.frames())
    finally:
        source.close()


def test_a_files_images_come_with_its_own_times(clip: Path) -> None:
    frames = frames_of(clip)
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.pts * frame.time_base for frame in frames] == pts_of(clip)
    assert all(frame.image.format.name == "yuv420p" for frame in frames)
    assert frames[3].seconds == pytest.approx(0.12)


def test_what_is_known_before_the_first_image(clip: Path) -> None:
    source = open_source(str(clip))
    info = source.info
    assert not info.live
    assert (info.rate, info.frame_count) == (Fraction(25), 12)
    assert [stream.type for stream in info.side_streams] == ["audio"]
    source.close()


def test_packets_of_the_sound_come_with_the_frames(clip: Path) -> None:
    source = open_source(str(clip))
    packets = [packet for frame in source.frames() for packet in frame.side_packets]
    with av.open(str(clip)) as container:
        expected = [packet.dts for packet in container.demux(audio=0) if packet.dts is not None]
    assert [packet.dts for packet in packets] == expected
    source.close()


def test_the_largest_image_is_taken_not_the_cover(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25, options={"preset": "ultrafast"}) for _ in range(2)]
        for stream, size in zip(streams, ((64, 48), SIZE), strict=True):
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for i in range(4):
            for stream, size in zip(streams, ((64, 48), SIZE), strict=True):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image(i, *size), "rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    assert [(f.image.width, f.image.height) for f in frames_of(path)] == [SIZE] * 4


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 40, 80, 80, 80, 120], [0, 40, 80, 81, 82, 120]),  # repeats
        ([0, 40, 80, 20000, 20040, 20080], [0, 40, 80, 20000, 20040, 20080]),  # a jump ahead is the source's own
        ([0, 40, 80, 40, 80, 120], [0, 40, 80, 81, 82, 120]),  # a stutter
        ([20000, 20040, 20080, 0, 40, 80], [0, 40, 80, 120, 160, 200]),  # a clock set back, and one start subtracted
        ([0, 40, 80, 1048696, 160, 200], [0, 40, 80, 120, 160, 200]),  # a wrong bit
    ],
)
def test_times_always_increase(tmp_path: Path, times: list[int], expected: list[int]) -> None:
    path = flv_with_times(tmp_path / "times.flv", times)
    assert [round(frame.seconds * 1000) for frame in frames_of(path)] == expected


def test_a_format_the_line_cannot_work_in_is_changed_to_the_nearest(tmp_path: Path) -> None:
    path = make_video(tmp_path / "pal.mkv", codec="ffv1", pixel_format="bgr0")
    assert frames_of(path)[0].image.format.name == "bgr0"
    path = tmp_path / "pal8.gif"
    cv2_images = [image(i) for i in range(3)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "rgb8"
        for i, rgb in enumerate(cv2_images):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="rgb8")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames = frames_of(path)
    assert len(frames) == 3
    assert psnr(frames[0].image.to_ndarray(format="rgb24"), cv2_images[0]) > 20


def test_a_folder_of_images_is_a_video_in_name_order(tmp_path: Path) -> None:
    for i in (2, 0, 1):
        cv2.imwrite(str(tmp_path / f"{i}.png"), cv2.cvtColor(image(10 * i), cv2.COLOR_RGB2BGR))
    (tmp_path / "notes.txt").write_text("not an image")
    frames = frames_of(tmp_path)
    assert [frame.name for frame in frames] == ["0.png", "1.png", "2.png"]
    assert [frame.seconds for frame in frames] == [0, 0.04, 0.08]
    for i, frame in enumerate(frames):
        assert np.array_equal(frame.image.to_ndarray(format="rgb24"), image(10 * i))


def test_an_image_that_cannot_be_read_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), image(0))
    (tmp_path / "b.png").write_bytes(b"not an image at all")
    source = open_source(str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert len(list(source.frames())) == 1
    assert source.status().corrupt == 1
    assert "b.png: not a readable image" in caplog.text


def test_a_pipe_is_read_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "clip.ts", frames=10)
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    feeder = threading.Thread(target=lambda: fifo.write_bytes(path.read_bytes()), daemon=True)
    feeder.start()
    assert len(frames_of(fifo)) == 10
    feeder.join(5)


def test_a_size_that_changes_midway_comes_as_it_is(tmp_path: Path) -> None:
    path = raw_h264(tmp_path / "change.h264", [SIZE, (320, 240)])
    sizes = [(frame.image.width, frame.image.height) for frame in frames_of(path)]
    assert sizes == [SIZE] * 6 + [(320, 240)] * 6


def test_a_file_cut_off_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = make_video(tmp_path / "whole.mkv", frames=100, options={"g": "5"})
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        assert len(frames_of(whole)) == 100
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert 20 < len(frames_of(cut)) < 80
    assert "was it cut off?" in caplog.text


@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_upright_turns_images_as_a_player_shows_them(tmp_path: Path, angle: int) -> None:
    path = make_video(tmp_path / "turned.mp4", frames=2, rotation=angle)
    frames = frames_of(path)
    assert frames[0].rotation == angle
    (turned, *_) = upright(frames)
    assert turned.rotation == 0
    assert (turned.pts, turned.time_base) == (frames[0].pts, frames[0].time_base)
    expected = np.rot90(frames[0].image.to_ndarray(format="rgb24"), angle // 90)
    assert psnr(turned.image.to_ndarray(format="rgb24"), expected) > 35


def test_a_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    pts = [0, 1, 3, 4, 9, 10]
    path = make_video(tmp_path / "vfr.mkv", frames=6, pts=pts)
    assert [frame.pts * frame.time_base for frame in frames_of(path)] == [Fraction(p, 25) for p in pts]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nowhere.mp4", "nowhere.mp4: no such file"),
        ("ftp://bob:hush@host/a.mp4", "unknown scheme 'ftp'"),
        ("webcam:77", "no such webcam"),
    ],
)
def test_what_is_not_there_is_named(spec: str, says: str) -> None:
    with pytest.raises(SourceError, match=says) as raised:
        open_source(spec)
    assert "hush" not in str(raised.value)


def test_what_is_not_a_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("words " * 1000)
    (tmp_path / "none").mkdir()
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), format="s16", layout="mono")
        sound.sample_rate = 16000
        container.mux([*stream.encode(sound), *stream.encode(None)])
    for name, says in (
        ("empty.mp4", "cannot be opened"),
        ("text.mp4", "cannot be opened"),
        ("sound.mp4", "holds no video stream"),
        ("none", "holds no images"),
    ):
        with pytest.raises(SourceError, match=says) as raised:
            open_source(str(tmp_path / name))
        assert name in str(raised.value)


def test_a_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMERA", "bob:hush")
    assert with_environment("rtsp://{CAMERA}@host/1") == "rtsp://bob:hush@host/1"
    monkeypatch.setenv("HARD", "p/a#s?s%@ö")
    assert with_environment("rtsp://bob:{HARD}@host/{CAMERA}") == "rtsp://bob:p%2Fa%23s%3Fs%25@%C3%B6@host/bob:hush"
    with pytest.raises(SourceError, match=r"^rtsp://\*\*\*: has a space in it"):
        with_environment("rtsp://bob:hu sh@host/1")
    monkeypatch.delenv("CAMERA")
    with pytest.raises(SourceError, match="CAMERA is not set"):
        with_environment("rtsp://{CAMERA}@host/1")
