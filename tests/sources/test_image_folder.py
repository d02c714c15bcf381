"""Folders of images, in and out."""

import os
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stream_enhance.errors import SinkError
from tests.conftest import Command
from tests.media import SIZE, image, images_of, make_video, psnr, read_image
from tests.sinks.test_encoder import copied

pytestmark = pytest.mark.timeout(60)


def test_a_folder_gets_an_image_a_frame(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / "in" / f"cam{i}.png"), cv2.cvtColor(image(i), cv2.COLOR_RGB2BGR))
    assert copied(tmp_path / "in", f"{tmp_path}/out/") == 3
    for i in range(3):
        assert np.array_equal(read_image(tmp_path / "out" / f"cam{i}.png"), image(i))
    with pytest.raises(SinkError, match=r"cam0\.png: is there already"):
        copied(tmp_path / "in", tmp_path / "out")
    assert not list((tmp_path / "out").glob(".part*"))


def _with_orientation(path: Path, rgb: Any, orientation: int) -> None:
    """A JPEG whose EXIF says how it is to be shown."""
    data = cv2.imencode(".jpg", rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff + data[2:]
    path.write_bytes(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright_whatever_their_exif(command: Command, tmp_path: Path, orientation: int) -> None:
    (tmp_path / "in").mkdir()
    _with_orientation(tmp_path / "in" / "a.jpg", image(0, 320, 240), orientation)
    result = command("run", tmp_path / "in", "-o", f"{tmp_path}/out/", "--set", "overlay.watermark=false")
    assert (result.code, result.report["frames_out"]) == (0, 1)
    expected = read_image(tmp_path / "in" / "a.jpg")  # OpenCV goes by EXIF
    got = read_image(tmp_path / "out" / "a.jpg", cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert got.shape == expected.shape
    corner = np.s_[:60, :60]  # the face is elsewhere
    assert psnr(got[corner], expected[corner]) > 30


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_a_rotated_videos_images_stand_upright(command: Command, tmp_path: Path, angle: int) -> None:
    path = make_video(tmp_path / "phone.mp4", frames=2, rotation=angle)
    assert command("run", path, "-o", f"{tmp_path}/out/", "--set", "overlay.watermark=false").code == 0
    expected = np.rot90(images_of(path)[1], angle // 90)
    got = read_image(tmp_path / "out" / "000001.png")
    assert psnr(got[:20], expected[:20]) > 35


def test_grey_images_are_written_grey(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    grey = image(0)[:, :, 0]
    cv2.imwrite(str(tmp_path / "in" / "a.pgm"), grey)
    cv2.imwrite(str(tmp_path / "in" / "b.png"), grey)
    assert copied(tmp_path / "in", f"{tmp_path}/out/") == 2
    for name in ("a.pgm", "b.png"):
        assert np.array_equal(read_image(tmp_path / "out" / name, cv2.IMREAD_GRAYSCALE), grey)
    (tmp_path / "in" / "b.png").unlink()
    copied(tmp_path / "in", tmp_path / "out.mp4")
    assert psnr(images_of(tmp_path / "out.mp4")[0][:, :, 0], grey) > 40, "full range, as image files are"


def test_colour_that_comes_after_a_grey_image_is_kept(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "0.png"), np.full((120, 160), 90, np.uint8))
    cv2.imwrite(str(tmp_path / "in" / "1.png"), np.full((120, 160, 3), (30, 30, 200), np.uint8))
    copied(tmp_path / "in", tmp_path / "out.mp4")
    means = [shown.mean((0, 1)) for shown in images_of(tmp_path / "out.mp4")]
    assert np.allclose(means, [[90, 90, 90], [200, 30, 30]], atol=5)


@pytest.mark.parametrize("suffix", ["png", "jpg", "ppm", "pgm", "bmp", "tif", "webp"])
def test_images_say_what_was_done(tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    Image = pytest.importorskip("PIL.Image")
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / f"a.{suffix}"), image(0)[:, :, 0 if suffix == "pgm" else slice(None)])
    copied(tmp_path / "in", f"{tmp_path}/out/", comment="ENHANCED by a test")
    assert capfd.readouterr().err == "", "OpenCV has nothing to complain of"
    with Image.open(tmp_path / "out" / f"a.{suffix}") as written:
        written.load()
        said = written.info.get("Comment") or written.info.get("comment")
        assert psnr(np.asarray(written), np.asarray(Image.open(tmp_path / "in" / f"a.{suffix}"))) > 35
    assert cv2.imread(str(tmp_path / "out" / f"a.{suffix}")) is not None
    match suffix:
        case "png":
            assert said == "ENHANCED by a test"
        case "jpg":
            assert said == b"ENHANCED by a test"
        case "ppm" | "pgm":
            assert (tmp_path / "out" / f"a.{suffix}").read_bytes().splitlines()[1] == b"# ENHANCED by a test"


def test_what_an_image_file_loses_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    deep = image(0).astype(np.uint16) * 257
    clear = np.dstack([image(0), np.full(SIZE[::-1], 255, np.uint8)])
    glass = np.dstack([image(0), np.full(SIZE[::-1], 128, np.uint8)])
    for name, pixels, says in (("deep", deep, "8 of its 16 bits"), ("clear", clear, ""), ("glass", glass, "transp")):
        folder = tmp_path / name
        folder.mkdir()
        for i in range(3):
            cv2.imwrite(str(folder / f"{i}.png"), pixels)
        caplog.clear()
        copied(folder, f"{tmp_path}/{name}-out/")
        assert [says in record.message for record in caplog.records] == ([True] if says else [])


def test_a_videos_images_in_a_folder_are_numbered(clip: Path, tmp_path: Path) -> None:
    copied(clip, f"{tmp_path}/out{os.sep}")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{i:06d}.png" for i in range(12)]
