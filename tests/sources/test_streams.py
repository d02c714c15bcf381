"""Streams as they are: which one, how it is shown, and what no output holds."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stream_enhance.cli.probe import inspect_source
from stream_enhance.errors import SourceError
from stream_enhance.imaging.orientation import exif_orientation, upright
from stream_enhance.sources.open import open_source
from stream_enhance.types import Frame
from tests.conftest import Command
from tests.faults import FAULTS, needs_faults
from tests.media import SIZE, image, luma_of, make_video, psnr, read_image

pytestmark = pytest.mark.timeout(60)


def first_of(path: Path) -> Frame:
    source = open_source(str(path))
    try:
        return next(source.frames())
    finally:
        source.close()


# ── Shown as a player shows it ───────────────────────────────────────────────────────────────────────────────────────

MATRICES: dict[
    str, tuple[tuple[int, int, int, int], Callable[[NDArray[Any]], NDArray[Any]]]
] = {  # a, b, c, d of the display matrix: (x, y) is shown at (ax + cy, bx + dy); and the same for an array
    "as it is": ((1, 0, 0, 1), lambda p: p),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda p: p[::-1]),
    "half turn": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
    "quarter clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "quarter counter-clockwise": ((0, -1, 1, 0), np.rot90),
    "transposed": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
    "transposed the other way": ((0, -1, -1, 0), lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
}


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """The MP4 at ``path`` with another matrix in its track header (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0
    width, height = SIZE
    x = width * (a < 0) + height * (c < 0)
    y = width * (b < 0) + height * (d < 0)
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, x * one, y * one, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", MATRICES)
def test_every_display_matrix_is_shown_as_a_player_shows_it(tmp_path: Path, name: str) -> None:
    matrix, shown = MATRICES[name]
    path = make_video(tmp_path / "in.mp4", 2)
    expected = shown(first_of(path).image.to_ndarray(format="rgb24"))
    (turned,) = upright([first_of(with_matrix(path, *matrix))])
    assert psnr(turned.image.to_ndarray(format="rgb24"), expected) > 35


def test_a_mirrored_video_stays_mirrored_as_a_player_shows_it(command: Command, tmp_path: Path) -> None:
    path = with_matrix(make_video(tmp_path / "in.mp4", 4), -1, 0, 0, 1)
    result = command("run", path, "-o", f"{tmp_path}/out/", "--set", "overlay.watermark=false")
    assert result.code == 0
    got = read_image(tmp_path / "out" / "000001.png")
    assert psnr(got[:20], first_of(make_video(tmp_path / "b.mp4", 4)).image.to_ndarray(format="rgb24")[:20, ::-1]) > 20
    assert got.shape == (SIZE[1], SIZE[0], 3)


def _exif(orientation: int) -> bytes:
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_one_image_is_shown_as_its_exif_says(tmp_path: Path, orientation: int) -> None:
    data = cv2.imencode(".jpg", image(0)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    part = b"Exif\0\0" + _exif(orientation)
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part + data[2:])
    (turned,) = upright([first_of(path)])
    expected = read_image(path)  # OpenCV goes by EXIF
    assert psnr(turned.image.to_ndarray(format="rgb24"), expected) > 30


def test_exif_is_found_in_every_kind_of_image_file() -> None:
    assert exif_orientation(b"\xff\xd8\xff\xe1\0\x22Exif\0\0" + _exif(5)) == 5
    assert exif_orientation(b"\x89PNG....eXIf" + _exif(6)) == 6
    assert exif_orientation(b"RIFF....WEBPEXIF\x1a\0\0\0" + _exif(7)) == 7
    assert exif_orientation(b"eXIf and nothing") == 1


@pytest.mark.parametrize("space", [3, 8, 10, 14], ids=["reserved", "YCgCo", "BT.2020 CL", "ICtCp"])
def test_a_matrix_that_nothing_can_convert_from_is_no_matrix(command: Command, tmp_path: Path, space: int) -> None:
    path = make_video(tmp_path / "in.mp4", 4, options={"x264-params": f"colormatrix={_X264[space]}"})
    assert int(next(av.open(str(path)).decode(video=0)).colorspace) == space or space == 3
    result = command("run", path, "-o", tmp_path / "out.mp4")
    assert (result.code, result.report["frames_out"]) == (0, 4)
    assert "it is treated as untagged" in result.err or space == 3


_X264 = {3: "undef", 8: "YCgCo", 10: "bt2020c", 14: "ICtCp"}


# ── Which stream ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_larger_stream_without_a_decoder_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream("libx264", rate=25, options={"preset": "ultrafast"}) for _ in "ab"]
        for stream, size in zip(streams, ((320, 240), SIZE), strict=True):
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for i in range(4):
            for stream, size in zip(streams, ((320, 240), SIZE), strict=True):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image(i, *size), "rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/XYZ", 1))
    frame = first_of(path)
    assert (frame.image.width, frame.image.height) == SIZE
    assert frame.stream.notes == ("its video stream 0: only the largest one is enhanced",)


# ── What no output holds: probe and run say so ───────────────────────────────────────────────────────────────────────


def test_what_no_output_holds_is_said_by_probe_and_by_run(
    command: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interlaced = make_video(tmp_path / "interlaced.mkv", 4, options={"x264-params": "interlaced=1"})
    clear = tmp_path / "clear.mkv"
    with av.open(str(clear), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuva420p"
        rgba = np.dstack([image(0), np.full(SIZE[::-1], 100, np.uint8)])
        container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, "rgba").reformat(format="yuva420p")))
        container.mux(stream.encode(None))
    for path, words in ((interlaced, "interlacing"), (clear, "its transparency")):
        assert any(words in lost for lost in inspect_source(str(path))["lost"])
        result = command("run", path, "-o", tmp_path / f"{path.stem}.mp4")
        assert result.code == 0
        assert result.err.count(words) == 1


def test_hdr_metadata_is_said_or_kept(command: Command, tmp_path: Path) -> None:
    hdr = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
    path = make_video(
        tmp_path / "in.mp4", 4, codec="libx265", pixel_format="yuv420p10le", options={"x265-params": f"hdr10=1:{hdr}"}
    )
    notes = first_of(path).stream.notes
    assert any("mastering display, light level" in note for note in notes)
    assert any("mastering display" in lost for lost in inspect_source(str(path))["lost"])
    assert "mastering display" in command("run", path, "-o", tmp_path / "out.mp4").err


@needs_faults
@pytest.mark.parametrize("name", ["04_timecode_tmcd.mov", "04_iphone_mebx.mov"])
def test_metadata_tracks_of_mov_are_copied_rightly_or_left_out(command: Command, tmp_path: Path, name: str) -> None:
    result = command("run", FAULTS / name, "-o", tmp_path / "o.mov")
    assert result.code == 0, result.err
    assert "warning: " in result.err
    assert inspect_source(str(FAULTS / name))["lost"]
    with av.open(str(tmp_path / "o.mov")) as container:
        assert len(luma_of(tmp_path / "o.mov")) == 25
        timecodes = [s.metadata["timecode"] for s in container.streams if "timecode" in s.metadata]
        assert (timecodes[:1] == ["10:00:00:00"]) == ("tmcd" in name)


def test_a_stream_of_an_unknown_kind_can_be_probed(tmp_path: Path, command: Command) -> None:
    whole = bytearray(make_video(tmp_path / "in.ts", 10, sound=True).read_bytes())
    for at in range(0, len(whole), 188):  # the program map gets a stream of a type that nobody knows
        if int.from_bytes(whole[at + 1 : at + 3], "big") & 0x1FFF == 0x1000:
            table = whole[at + 5 : at + 8 + (whole[at + 6] & 0x0F) * 256 + whole[at + 7]]
            table[-4:] = b"\xee\xe1\x02\xf0\0"
            table[2] += 5
            table += _crc(bytes(table))
            whole[at + 5 : at + 5 + len(table)] = table
    path = tmp_path / "unknown.ts"
    path.write_bytes(whole)
    with av.open(str(path)) as container:
        assert "unknown" in {s.type for s in container.streams}
    result = command("probe", path)
    assert (result.code, "h264" in result.out) == (0, True)


def _crc(data: bytes) -> bytes:
    """CRC-32/MPEG-2 (ISO/IEC 13818-1, annex A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 1 << 31 else crc << 1) & 0xFFFFFFFF
    return crc.to_bytes(4, "big")


@needs_faults
def test_the_faulty_program_map_that_was_reported_can_be_probed(command: Command) -> None:
    result = command("probe", FAULTS / "probe-attributeerror.ts")
    assert (result.code, "h264" in result.out) == (0, True)


# ── Cut off, or not a video ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_recording_that_was_cut_off_before_its_index_is_named(tmp_path: Path, suffix: str) -> None:
    whole = make_video(tmp_path / f"whole.{suffix}", 50).read_bytes()
    for end in (whole.index(b"moov") - 4, whole.index(b"moov") * 2 // 3):
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(whole[:end])
        with pytest.raises(SourceError, match=r"the index is missing: the recording was cut off"):
            open_source(str(path))


def test_a_name_that_no_file_system_takes_is_one_line(command: Command, tmp_path: Path) -> None:
    for name in ("a" * 300 + ".mp4", "a\0b.mp4"):
        result = command("run", name, "-o", tmp_path / "out.mp4")
        assert result.code == 2
        assert "cannot be opened" in result.error


def test_every_suffix_of_an_image_is_in_a_folder(tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", image(0))[1].tobytes()
    for name in ("a.jfif", "b.JPG", "c.jpeg"):
        (tmp_path / name).write_bytes(data)
    heif = tmp_path / "d.avif"
    try:
        made = cv2.imencode(".avif", image(0))[1].tobytes()
    except cv2.error:  # this OpenCV writes none
        made = b""
    if made:
        heif.write_bytes(made)
    source = open_source(str(tmp_path))
    assert [f.name for f in source.frames()] == ["a.jfif", "b.JPG", "c.jpeg", *(["d.avif"] if made else [])]


def test_frames_of_a_broken_image_is_a_source_error(models: Any, tmp_path: Path) -> None:
    from stream_enhance import Pipeline

    data = cv2.imencode(".png", image(0))[1].tobytes()
    path = tmp_path / "broken.png"
    path.write_bytes(data[: len(data) // 3] + b"\0" * 500)
    with Pipeline(models.config()) as pipeline, pytest.raises(SourceError):
        list(pipeline.frames(str(path)))


@needs_faults
def test_the_broken_image_that_was_reported_is_a_source_error(models: Any, caplog: pytest.LogCaptureFixture) -> None:
    from stream_enhance import Pipeline

    with (
        caplog.at_level(logging.ERROR),
        Pipeline(models.config()) as pipeline,
        pytest.raises(SourceError, match="not one frame could be decoded"),
    ):
        list(pipeline.frames(str(FAULTS / "frames-cancelled.png")))
