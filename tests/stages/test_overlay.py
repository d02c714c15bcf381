import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from stream_enhance.imaging.crop import patch_to_frame
from stream_enhance.stages.overlay import Overlay, OverlayOptions
from stream_enhance.types import Enhanced, Faces, Frame, Scene

GREY = np.full((360, 640, 3), 100, np.uint8)


def enhanced(pixel_format: str = "yuv420p", rotation: int = 0, patch: int = 180, faces: int = 1) -> Enhanced:
    image = av.VideoFrame.from_ndarray(GREY, "rgb24").reformat(format=pixel_format)
    xyxy = np.array([[100 + 120 * i, 100, 140 + 120 * i, 150] for i in range(faces)], np.float32).reshape(-1, 4)
    tracks = np.arange(1, faces + 1)
    found = Faces(xyxy, np.full(faces, 0.9, np.float32), tracks, None)
    frame = Frame(image, 7, 700, Fraction(1, 1000), time.monotonic(), time.time(), rotation)
    rows = np.arange(faces)
    patches = np.full((faces, 256, 256, 3), patch, np.uint8)
    return Enhanced(Scene(frame, found), rows, np.full_like(patches, 100), patches, patch_to_frame(xyxy, None, 256))


def rgb(image: av.VideoFrame) -> np.ndarray:
    return image.to_ndarray(format="rgb24").astype(int)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "nv12", "gray", "gbrp"])
def test_inplace_changes_the_face_without_a_seam_and_nothing_else(pixel_format: str) -> None:
    item = enhanced(pixel_format)
    before = rgb(item.scene.frame.image)
    after = rgb(Overlay(OverlayOptions(mode="inplace", watermark=False)).draw(item))
    difference = np.abs(after - before).max(2)
    assert difference[120:130, 115:125].min() > 60, "the middle of the face is the patch"
    assert difference[:80].max() == difference[:, 200:].max() == 0
    steps = np.abs(np.diff(after[125, 80:160].mean(1)))
    assert steps.max() < 40, "a seam would be one step of 80"


def test_pts_time_base_and_tags_stay() -> None:
    item = enhanced()
    item.scene.frame.image.colorspace = 1
    for mode in ("inplace", "panel", "side_by_side"):
        image = Overlay(OverlayOptions(mode=mode)).draw(item)
        assert (image.pts, image.time_base, image.colorspace) == (700, Fraction(1, 1000), 1)


def test_side_by_side_has_the_original_left_and_the_enhanced_right() -> None:
    image = rgb(Overlay(OverlayOptions(mode="side_by_side", watermark=False)).draw(enhanced()))
    assert image.shape == (360, 1280, 3)
    assert np.abs(image[125, 120] - 100).max() <= 2
    assert np.abs(image[125, 640 + 120] - 180).max() <= 3


def test_panel_leaves_the_frame_alone_and_shows_before_and_after_below() -> None:
    image = rgb(Overlay(OverlayOptions(mode="panel", watermark=False)).draw(enhanced(faces=2)))
    assert image.shape[0] > 360
    assert np.abs(image[:360] - 100).max() <= 2
    strip = image[360:]
    assert (np.abs(strip - 100).max(2) < 4).sum() > 2000, "before"
    assert (np.abs(strip - 180).max(2) < 4).sum() > 2000, "after"


def test_a_face_keeps_its_place_in_the_panel() -> None:
    overlay = Overlay(OverlayOptions(mode="panel", watermark=False))
    two = enhanced(faces=2)
    overlay.draw(two)
    places = list(overlay._slots)
    other = two.scene.faces.take(np.array([1]))
    gone = Enhanced(Scene(two.scene.frame, other), np.array([0]), two.originals[1:], two.patches[1:], two.to_frame[1:])
    overlay.draw(gone)
    assert overlay._slots.index(2) == places.index(2)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_the_mark_is_where_a_viewer_sees_the_lower_right(rotation: int) -> None:
    image = rgb(Overlay(OverlayOptions(mode="inplace")).draw(enhanced(rotation=rotation, faces=0)))
    seen = np.rot90(image, rotation // 90)
    changed = np.abs(seen - 100).max(2) > 20
    rows, columns = np.nonzero(changed)
    assert len(rows) > 100
    assert rows.min() > seen.shape[0] - 40
    assert columns.min() > seen.shape[1] - 120


def test_scale_enlarges_the_image_and_the_face_with_it() -> None:
    image = rgb(Overlay(OverlayOptions(mode="inplace", watermark=False, scale=2)).draw(enhanced()))
    assert image.shape == (720, 1280, 3)
    assert np.abs(image[250, 240] - 180).max() <= 3


def test_where_nothing_was_changed_the_frame_keeps_every_bit() -> None:
    item = enhanced(patch=100)
    noise = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)
    noisy = av.VideoFrame.from_ndarray(noise, "rgb24")
    frame = replace(item.scene.frame, image=noisy)
    after = Overlay(OverlayOptions(watermark=False)).draw(replace(item, scene=replace(item.scene, frame=frame)))
    assert np.array_equal(rgb(after), noise)


def test_drawing_does_not_disturb_images_the_decoder_still_needs(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "0", "g": "50"})
        stream.width, stream.height = 640, 360
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(GREY, "rgb24")))
        container.mux(stream.encode(None))
    overlay, template = Overlay(OverlayOptions(mode="inplace", watermark=False)), enhanced()
    with av.open(str(path)) as container:
        for i, image in enumerate(container.decode(video=0)):
            clean = np.abs(rgb(image) - 100).max()
            assert clean <= 3, f"frame {i} shows what was drawn on an earlier one"
            frame = replace(template.scene.frame, image=image)
            overlay.draw(replace(template, scene=replace(template.scene, frame=frame)))
