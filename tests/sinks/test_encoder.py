import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from stream_enhance.errors import SinkError
from stream_enhance.imaging.orientation import upright
from stream_enhance.sinks import codecs, encoder
from stream_enhance.sinks.codecs import Encoding, choose_encoder, encoder_names, opens, pixel_format
from stream_enhance.sinks.open import open_sink
from stream_enhance.sources.base import Source
from stream_enhance.sources.open import open_source
from stream_enhance.types import Enhanced, Faces, Frame, Rendered, Scene
from tests.media import SIZE, coloured, image, luma_of, make_video, planes_of, psnr, pts_of

pytestmark = pytest.mark.timeout(60)

FAST = Encoding(hardware="none", crf=12)


def rendered(source: Source, turned: Callable[[Iterable[Frame]], Iterable[Frame]] = iter) -> Iterator[Rendered]:
    """The source's images as they are, as the overlay would give them on."""
    empty: Any = np.zeros((0, 8, 8, 3), np.uint8)
    for frame in turned(source.frames()):
        scene = Scene(frame, Faces.none())
        yield Rendered(
            frame.image, Enhanced(scene, np.zeros(0, np.int64), empty, empty, np.zeros((0, 2, 3), np.float32))
        )


def copied(path: Path, out: Path | str, encoding: Encoding = FAST, comment: str = "by a test", **given: Any) -> int:
    """Write ``path`` through a sink into ``out``; how many images."""
    source = open_source(str(path))
    sink = open_sink(str(out), encoding, comment, **given)
    count = sum(1 for _ in sink(rendered(source)))
    sink.finish()
    source.close()
    return count


def packets_of(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "m4v", "mkv", "ts"])
def test_images_times_and_sound_arrive(clip: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    assert copied(clip, out) == 12
    start = pts_of(out)[0] if suffix == "ts" else 0  # a transport stream's clock starts where its muxer likes
    assert [time - start for time in pts_of(out)] == pytest.approx(pts_of(clip), abs=0.0006)
    assert all(psnr(a, b) > 42 for a, b in zip(luma_of(clip), luma_of(out), strict=True))
    sound = packets_of(out, "audio")
    if suffix == "ts":  # each packet gets a header of its own
        sound = [packet[7:] for packet in sound]
    assert sound == packets_of(clip, "audio")
    assert sorted(tmp_path.iterdir()) == [out], "no temporary file is left"


def test_the_metadata_says_what_was_done_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "the yard"
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        container.mux([*stream.encode(coloured(image(0), "yuv420p")), *stream.encode(None)])
    for suffix in ("mp4", "mkv"):
        copied(path, tmp_path / f"out.{suffix}", comment="ENHANCED by a test")
        with av.open(str(tmp_path / f"out.{suffix}")) as container:
            tags = {key.lower(): value for key, value in container.metadata.items()}
            assert (tags["title"], tags["comment"]) == ("the yard", "ENHANCED by a test")


def test_subtitles_are_copied_where_the_file_can_hold_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        _add_subtitles(tmp_path, container, video)
    copied(path, tmp_path / "out.mkv")
    assert packets_of(tmp_path / "out.mkv", "subtitle") == [b"hello", b"there"]
    copied(path, tmp_path / "out.ts")
    assert "subtitle stream 1 (srt) cannot go into mpegts" in caplog.text


def _add_subtitles(folder: Path, container: Any, video: Any) -> None:
    words = folder / "words.srt"
    words.write_text(
        "1\n00:00:00,000 --> 00:00:00,200\nhello\n\n2\n00:00:00,200 --> 00:00:00,400\nthere\n", encoding="utf-8"
    )
    with av.open(str(words)) as subtitles:
        copy = container.add_stream_from_template(subtitles.streams[0])
        for i in range(10):
            frame = coloured(image(i), "yuv420p")
            frame.pts = i
            container.mux(video.encode(frame))
        for packet in subtitles.demux():
            if packet.dts is not None:
                packet.stream = copy
                container.mux(packet)
        container.mux(video.encode(None))


@pytest.mark.parametrize(("space", "full"), [(1, False), (1, True), (5, False), (5, True), (6, False), (9, False)])
def test_matrix_and_range_are_the_sources_own(tmp_path: Path, space: int, full: bool) -> None:
    path = make_video(tmp_path / "in.mkv", frames=3, space=space, full=full)
    out = tmp_path / "out.mp4"
    copied(path, out)
    with av.open(str(out)) as container:
        frame = next(container.decode(video=0))
        assert int(frame.colorspace) == space
        assert (int(frame.color_range) == 2) == full
    for before, after in zip(planes_of(path), planes_of(out), strict=True):
        assert all(psnr(a, b) > 45 for a, b in zip(before, after, strict=True))


_KR_KB = {1: (0.2126, 0.0722), 6: (0.299, 0.114)}
_PATCHES = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200], [220, 220, 60]])


def _patches(size: tuple[int, int]) -> Any:
    """(h, w, 3) uint8 RGB, the patches side by side."""
    return np.repeat(np.tile(_PATCHES[:, None], (size[1], 1, 1, 1))[:, :, 0], size[0] // 4, 1).astype(np.uint8)


def _seen(path: Path) -> tuple[Any, int, int]:
    """(4, 3) RGB in the middle of each patch of the first image, by its tags and no library; matrix and range."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    space, extent = int(frame.colorspace), int(frame.color_range)
    kr, kb = _KR_KB[space]
    shift = 2 if frame.format.name.endswith("10le") else 0
    wide = [np.frombuffer(p, "<u2" if shift else np.uint8).reshape(p.height, -1)[:, : p.width] for p in frame.planes]  # type: ignore[call-overload]
    y, u, v = (
        np.array([p[p.shape[0] // 2, p.shape[1] * (2 * i + 1) // 8] / (1 << shift) for i in range(4)]) for p in wide
    )
    y, u, v = ((y - 16) / 219, (u - 128) / 224, (v - 128) / 224) if extent == 1 else (y / 255, u / 255, v / 255)
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    return 255 * np.stack([red, (y - kr * red - kb * blue) / (1 - kr - kb), blue], 1), space, extent


@pytest.mark.parametrize("size", [SIZE, (1280, 720)])
@pytest.mark.parametrize(("codec", "form"), [("h264", ""), ("h264", "yuv444p"), ("av1", "")])
def test_rgb_is_coded_with_the_matrix_that_the_tags_name(tmp_path: Path, size: Any, codec: Any, form: str) -> None:
    if not opens(choose_encoder(codec, "none")):
        pytest.skip(f"no encoder for {codec}")
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/0.png"), _patches(size)[:, :, ::-1])
    out = tmp_path / "out.mp4"
    copied(tmp_path / "in", out, Encoding(codec=codec, hardware="none", crf=6, pixel_format=form))
    seen, space, extent = _seen(out)
    assert (space, extent) == (1 if size[1] >= 720 else 6, 1)
    assert seen == pytest.approx(_PATCHES, abs=4)
    with av.open(str(out)) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name.startswith(form or "yuv420p")
        assert (int(frame.color_primaries), int(frame.color_trc)) == (1, 13), "sRGB"


def test_rgb_video_and_images_of_both_kinds_in_a_folder_keep_their_colours(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mov"), "w") as container:
        stream: Any = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "rgb24"
        container.mux([*stream.encode(av.VideoFrame.from_ndarray(_patches(SIZE), "rgb24")), *stream.encode(None)])
    copied(tmp_path / "in.mov", tmp_path / "out.mp4")
    assert _seen(tmp_path / "out.mp4")[0] == pytest.approx(_PATCHES, abs=5)
    for first, second in (("png", "jpg"), ("jpg", "png")):
        folder = tmp_path / first
        folder.mkdir()
        for i, suffix in enumerate((first, second)):
            cv2.imwrite(str(folder / f"{i}.{suffix}"), _patches((1280, 720))[:, :, ::-1])
        copied(folder, tmp_path / f"{first}.mp4")
        shown = luma_of(tmp_path / f"{first}.mp4")
        assert psnr(shown[0], shown[1]) > 40, "the same image has the same codes, whatever file it came from"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("yuv420p", "yuv420p"),
        ("yuv422p", "yuv422p"),
        ("yuv444p", "yuv444p"),
        ("yuv420p10le", "yuv420p10le"),
        ("yuv422p10le", "yuv422p10le"),
        ("nv12", "nv12"),
        ("rgb24", "yuv420p"),
        ("gbrp", "yuv420p"),
        ("yuv420p12le", "yuv420p10le"),
        ("yuv440p", "yuv444p"),
    ],
)
def test_the_pixel_format_is_the_sources_or_the_nearest(form: str, expected: str) -> None:
    assert pixel_format(av.Codec("libx264", "w"), form) == expected


def test_odd_sides_are_padded_by_the_edge_and_nothing_is_scaled(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mkv", frames=3, size=(321, 243), codec="ffv1")
    out = tmp_path / "out.mp4"
    copied(path, out)
    before, after = luma_of(path)[1], luma_of(out)[1]
    assert before.shape == (243, 321)
    assert after.shape == (244, 322)
    assert psnr(before, after[:243, :321]) > 42
    assert psnr(after[:, 320], after[:, 321]) > 40


def test_rotation_and_pixel_aspect_are_the_sources_own(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(12, 11)
        stream.set_display_rotation(90)
        container.mux([*stream.encode(coloured(image(0), "yuv420p")), *stream.encode(None)])
    copied(path, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(12, 11)
        assert round(next(container.decode(video=0)).rotation) % 360 == 90


@pytest.mark.parametrize(("angle", "expected"), [(0, Fraction(4, 3)), (90, Fraction(3, 4)), (180, Fraction(4, 3))])
def test_pixels_of_an_image_turned_upright_lie_on_their_side(tmp_path: Path, angle: int, expected: Fraction) -> None:
    path = make_video(tmp_path / "in.mp4", frames=2, rotation=angle)
    source = open_source(str(path))
    aspect = replace(source.info, pixel_aspect=Fraction(4, 3))
    sink = open_sink(str(tmp_path / "out.mp4"), FAST, "")
    list(sink(rendered(source, lambda frames: upright(replace(f, stream=aspect) for f in frames))))
    sink.finish()
    source.close()
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == expected
        frame = next(container.decode(video=0))
        assert (frame.width > frame.height, frame.rotation) == (angle % 180 == 0, 0)


@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_other_codecs(clip: Path, tmp_path: Path, codec: Any, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mp4"
    copied(clip, out, Encoding(codec=codec, hardware="none", crf=12))
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == codec
    assert pts_of(out) == pts_of(clip)
    assert all(psnr(a, b) > 36 for a, b in zip(luma_of(clip), luma_of(out), strict=True))
    assert "info" not in "".join(capfd.readouterr()), "encoders keep quiet"
    if sys.platform == "linux":
        assert opens({"hevc": "libx265", "av1": "libsvtav1"}[codec])
        assert os.sched_getscheduler(0) == os.SCHED_OTHER, "nor do they make this thread real-time"


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_clip_shorter_than_the_encoders_delay(tmp_path: Path, frames: int) -> None:
    path = make_video(tmp_path / "in.mp4", frames=frames)
    for _ in range(4):  # what libx265 gives as dts then is chance
        copied(path, tmp_path / "out.mp4", Encoding(codec="hevc", hardware="none", crf=12), overwrite=True)
        assert pts_of(tmp_path / "out.mp4") == pts_of(path)
        with av.open(str(tmp_path / "out.mp4")) as container:
            dts = [packet.dts for packet in container.demux(video=0) if packet.dts is not None]
        assert dts == sorted(set(dts))


def test_a_time_base_of_its_own_is_kept(tmp_path: Path) -> None:
    rate = Fraction(30_000, 1001)
    path = make_video(tmp_path / "in.mp4", frames=30, rate=rate)
    copied(path, tmp_path / "out.mp4")
    assert pts_of(tmp_path / "out.mp4") == pts_of(path) == [i / rate for i in range(30)]


def test_a_variable_rate_is_kept(tmp_path: Path) -> None:
    times = [0, 1, 3, 4, 9, 10]
    path = make_video(tmp_path / "in.mkv", frames=6, pts=times)
    copied(path, tmp_path / "out.mp4")
    assert pts_of(tmp_path / "out.mp4") == [Fraction(t, 25) for t in times]


@pytest.mark.parametrize("frames", [49, 50, 51, 52, 53, 101, 103])
def test_the_last_images_survive_the_cutting_into_fragments(tmp_path: Path, frames: int) -> None:
    path = make_video(tmp_path / "in.mp4", frames=frames)
    copied(path, tmp_path / "out.mp4")
    assert pts_of(tmp_path / "out.mp4") == pts_of(path)


def test_what_is_there_is_not_replaced_unless_asked(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_bytes(b"mine")
    with pytest.raises(SinkError, match="already exists; use --overwrite"):
        copied(clip, out)
    assert out.read_bytes() == b"mine"
    assert copied(clip, out, overwrite=True) == 12
    assert len(luma_of(out)) == 12


def test_until_it_is_finished_it_has_another_name(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    source = open_source(str(clip))
    sink = open_sink(str(out), FAST, "")
    list(sink(rendered(source)))
    assert [p.name for p in tmp_path.iterdir()] == ["out.part.mp4"]
    sink.finish()
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    source.close()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("out.xyz", "unknown kind of output"),
        ("none/out.mp4", "no such folder"),
        ("ftp://host/x", "cannot be pushed to"),
        ("gopher://bob:hush@host/x", "cannot be pushed to"),
    ],
)
def test_a_sink_that_cannot_be_is_named_before_any_work(clip: Path, tmp_path: Path, name: str, says: str) -> None:
    source = open_source(str(clip))
    with pytest.raises(SinkError, match=says) as raised:
        open_sink(name if "://" in name else str(tmp_path / name), FAST, "")
    assert "hush" not in str(raised.value)
    source.close()


def test_software_encoders_are_last_and_named_hardware_is_not_replaced() -> None:
    assert encoder_names("h264", "none") == ["libx264"]
    assert encoder_names("av1", "auto")[-1] == "libsvtav1"
    assert opens("libx264")
    assert not opens("no such encoder")
    for hardware in ("nvenc", "qsv"):
        if opens(f"h264_{hardware}"):
            assert choose_encoder("h264", hardware) == f"h264_{hardware}"
        else:
            with pytest.raises(SinkError, match=f"h264_{hardware} does not start"):
                choose_encoder("h264", hardware)


def test_an_encoder_of_a_gpu_with_no_room_left_gives_way_to_software(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """NVENC takes only so many sessions: here its driver is missing, so that it opens none."""
    monkeypatch.setattr(encoder, "choose_encoder", lambda codec, hardware: "h264_nvenc")
    source = make_video(tmp_path / "in.mp4", 5)
    copied(source, tmp_path / "o.mp4")
    assert "h264_nvenc does not start; this output is encoded by libx264 on the CPU" in caplog.text
    with av.open(str(tmp_path / "o.mp4")) as made:
        assert len(list(made.decode(video=0))) == 5


def test_a_named_encoder_that_worked_before_gives_way_and_one_that_never_did_is_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = [True, False]
    monkeypatch.setattr(codecs, "opens", lambda name: free.pop(0))
    monkeypatch.setattr(codecs, "_started", set())
    assert codecs.choose_encoder("hevc", "nvenc") == "hevc_nvenc"
    assert codecs.choose_encoder("hevc", "nvenc") == "libx265"
    assert "hevc_nvenc does not start" in caplog.text
    monkeypatch.setattr(codecs, "opens", lambda name: False)
    with pytest.raises(SinkError, match="av1_nvenc does not start on this machine"):
        codecs.choose_encoder("av1", "nvenc")
