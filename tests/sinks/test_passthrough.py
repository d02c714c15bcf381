from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stream_enhance.sinks.passthrough import Passthrough, why_not
from stream_enhance.sources.base import Source
from stream_enhance.sources.open import open_source
from tests.conftest import Command
from tests.media import SIZE, coloured, image

pytestmark = pytest.mark.timeout(60)

FORMS = ["mp4", "mov", "matroska", "mpegts"]
WILL_NOT_FIT = {("pcm_mulaw", form) for form in ("mp4", "matroska", "mpegts")} | {("pcm_s16le", "mpegts")}


def with_sound(path: Path, codec: str, rate: int, samples: np.ndarray | None = None) -> Path:
    """A video with half a second of silence, or with ``samples``, beside it."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        sound: Any = container.add_stream(codec, rate=rate, layout="mono")
        for i in range(12):
            container.mux(video.encode(coloured(image(i), "yuv420p")))
        container.mux(video.encode(None))
        samples = np.zeros(rate // 2, np.int16) if samples is None else samples
        silence = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        silence.sample_rate, silence.pts = rate, 0
        container.mux([*sound.encode(silence), *sound.encode(None)])
    return path


def side_packets(source: Source) -> list[Any]:
    return [packet for frame in source.frames() for packet in frame.side_packets]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("codec", "rate"), [("pcm_mulaw", 8000), ("pcm_s16le", 16000), ("mp3", 16000), ("ac3", 48000), ("aac", 16000)]
)
def test_a_stream_that_is_said_to_fit_is_copied_whole(tmp_path: Path, codec: str, rate: int, form: str) -> None:
    source = open_source(str(with_sound(tmp_path / "in.avi", codec, rate)))
    if why_not(form, source.info.side_streams[0]):
        assert (codec, form) in WILL_NOT_FIT
        source.close()
        return
    out = BytesIO()
    with av.open(out, "w", format=form) as container:
        copies = Passthrough(container, source.info, "out")
        packets = side_packets(source)
        given = [bytes(packet) for packet in packets]
        copies.write(packets)
    assert given
    source.close()
    out.seek(0)
    with av.open(out, "r") as read:
        got = [bytes(packet) for packet in read.demux(audio=0) if packet.size]
    joined = b"".join(given)
    assert b"".join(got).endswith(joined) if form != "mpegts" else sum(map(len, got)) >= len(joined)


@pytest.mark.parametrize("form", ["mp4", "matroska", "mpegts"])
def test_sound_that_does_not_fit_is_encoded_and_still_heard_in_time(tmp_path: Path, form: str) -> None:
    path = tmp_path / "in.avi"
    tone = (np.sin(np.arange(4000) * 440 * 2 * np.pi / 8000) * 12000).astype(np.int16)
    with_sound(path, "pcm_mulaw", 8000, tone)
    source = open_source(str(path))
    out = BytesIO()
    with av.open(out, "w", format=form) as container:
        copies = Passthrough(container, source.info, "out")
        copies.write(side_packets(source))
        copies.end()
    source.close()
    out.seek(0)
    with av.open(out, "r") as read:
        assert read.streams.audio[0].codec_context.name == "aac"
        frames = list(read.decode(audio=0))
    heard = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    assert 0.4 < len(heard) / frames[0].sample_rate < 0.9
    assert abs(float(np.sqrt((heard**2).mean())) - 12000 / 32768 / np.sqrt(2)) < 0.1
    if form != "mpegts":
        assert abs(frames[0].time or 0) < 0.2


@pytest.mark.parametrize("form", FORMS)
def test_subtitles_fit_matroska_only_as_they_are(tmp_path: Path, form: str) -> None:
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,000 --> 00:00:00,200\nhello\n")
    with av.open(str(words)) as container:
        why = why_not(form, container.streams[0])
    assert why == ("" if form == "matroska" else f"its subtitle stream 0 (srt) cannot go into {form}")


def test_subtitles_that_begin_together_are_all_kept(command: Command, tmp_path: Path) -> None:
    cues = [("Alice speaks", 100), ("Bob speaks", 100), ("Both", 500)]
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,000 --> 00:00:00,200\nhello\n")
    with av.open(str(words)) as text, av.open(str(tmp_path / "in.mkv"), "w") as container:
        video, subtitles = add_video(container), container.add_stream_from_template(text.streams[0])
        container.start_encoding()
        for cue, at in cues:
            packet: Any = av.Packet(cue.encode())
            packet.stream, packet.pts, packet.dts, packet.duration = subtitles, at, at, 300
            packet.time_base = Fraction(1, 1000)
            container.mux(packet)
        add_images(container, video)
    result = command("run", tmp_path / "in.mkv", "-o", tmp_path / "out.mkv")
    assert result.code == 0, result.err
    assert "left out" not in result.err
    with av.open(str(tmp_path / "out.mkv")) as container:
        got = [
            (bytes(p).decode(), round(1000 * (p.pts or 0) * (p.time_base or 0)))
            for p in container.demux(subtitles=0)
            if p.size
        ]
    assert got == cues


def test_sound_that_goes_back_in_time_is_left_out_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = open_source(str(with_sound(tmp_path / "in.ts", "aac", 16000)))
    with av.open(str(tmp_path / "out.mp4"), "w") as container:
        copies = Passthrough(container, source.info, "out.mp4")
        packets = side_packets(source)
        packets[2].dts = packets[2].pts = packets[1].dts
        copies.write(packets)
        copies.end()
    source.close()
    assert "out.mp4: 1 damaged packets of the other streams were left out" in caplog.text


def test_a_packet_that_the_muxer_refuses_is_left_out_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = open_source(str(with_sound(tmp_path / "in.ts", "aac", 16000)))
    with av.open(str(tmp_path / "out.mp4"), "w") as container:
        copies = Passthrough(container, source.info, "out.mp4")
        packets = side_packets(source)
        broken = packets[2]
        damaged = av.Packet(b"\x00" * broken.size)
        damaged.stream, damaged.pts, damaged.dts, damaged.time_base = (
            broken.stream,
            broken.pts,
            broken.dts,
            broken.time_base,
        )
        packets[2] = damaged
        count = len(packets)
        copies.write(packets)
        copies.end()
    source.close()
    assert "out.mp4: 1 damaged packets of the other streams were left out" in caplog.text
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(packet.size > 0 for packet in container.demux(audio=0)) == count - 1


def add_images(container: Any, video: Any, count: int = 25) -> None:
    for i in range(count):
        container.mux(video.encode(coloured(image(i % 12), "yuv420p")))
    container.mux(video.encode(None))


def add_video(container: Any) -> Any:
    video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
    video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
    return video


@pytest.mark.parametrize(("kind", "fits"), [("ts", True), ("mov", True), ("mp4", False), ("mkv", False)])
def test_data_that_came_along_goes_along_where_it_fits(command: Command, tmp_path: Path, kind: str, fits: bool) -> None:
    """A drone's KLV, say, which is what MISB puts into transport streams."""
    with av.open(str(tmp_path / "in.ts"), "w") as container:
        video, data = add_video(container), container.add_data_stream("klv")
        data.time_base = Fraction(1, 90_000)
        container.start_encoding()
        for i in range(5):
            packet: Any = av.Packet(bytes([6, 14, 43, 52, i]))
            packet.stream, packet.pts, packet.dts, packet.time_base = data, i * 3600, i * 3600, data.time_base
            container.mux(packet)
        add_images(container, video)
    out = tmp_path / f"out.{kind}"
    result = command("run", tmp_path / "in.ts", "-o", out)
    assert result.code == 0, result.err
    assert ("data stream 1 (klv) cannot go into" in result.err) != fits
    with av.open(str(out)) as container:
        found = list(container.streams.data)
        assert len(found) == fits
        got = [bytes(packet) for packet in container.demux(found) if packet.size] if fits else []
    assert got == ([bytes([6, 14, 43, 52, i]) for i in range(5)] if fits else [])


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv"])
def test_chapters_are_kept(command: Command, tmp_path: Path, kind: str) -> None:
    path, out = tmp_path / f"in.{kind}", tmp_path / f"out.{kind}"
    chapters: Any = [
        {"id": i, "start": i * 400, "end": i * 400 + 400, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
        for i, title in enumerate(["door", "yard"])
    ]
    with av.open(str(path), "w") as container:
        container.set_chapters(chapters)
        add_images(container, add_video(container), 20)
    result = command("run", path, "-o", out)
    assert result.code == 0, result.err
    assert "warning" not in result.err
    with av.open(str(out)) as container:
        got = [(c["start"] * (c["time_base"] or 0), c["metadata"]["title"]) for c in container.chapters()]
    assert got == [(0, "door"), (Fraction(2, 5), "yard")]
    assert "lose no stream" in command("probe", path).out


def test_a_font_that_subtitles_need_stays_with_them(command: Command, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        video = add_video(container)
        container.add_attachment("plain.ttf", "application/x-truetype-font", b"a font")
        add_images(container, video)
    result = command("run", tmp_path / "in.mkv", "-o", tmp_path / "out.mkv")
    assert result.code == 0, result.err
    with av.open(str(tmp_path / "out.mkv")) as container:
        (kept,) = container.streams.attachments
        assert (kept.name, kept.data) == ("plain.ttf", b"a font")
