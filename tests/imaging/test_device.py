"""Frames worked on by torch: to a grey level what the host makes, on torch's CPU."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from stream_enhance.backends import infer
from stream_enhance.config import load
from stream_enhance.errors import ConfigError
from stream_enhance.imaging import planes
from stream_enhance.imaging.host import Host, Imaging
from stream_enhance.pipeline import Pipeline
from stream_enhance.stages.overlay import mask_of
from tests.conftest import ROOT

torch = pytest.importorskip("torch")

from stream_enhance.imaging.device import Device  # noqa: E402  needs torch

CLIP = ROOT / "tests" / "clips" / "demo.mp4"
FORMATS = ("yuv420p", "nv12", "p010le", "bgra")
_ACCURATE = 2 | 0x40000 | 0x2000  # swscale: bilinear, SWS_ACCURATE_RND, SWS_FULL_CHR_H_INT


@pytest.fixture(scope="module")
def frame() -> av.VideoFrame:
    with av.open(str(CLIP)) as clip:
        return next(clip.decode(video=0))


def in_format(frame: av.VideoFrame, form: str) -> av.VideoFrame:
    image = frame.reformat(format=form)
    image.colorspace, image.color_range = frame.colorspace, frame.color_range
    return image


def affines() -> list[np.ndarray]:
    """Patches that enlarge, shrink, turn and reach beyond the frame."""
    found = []
    for scale, angle, x, y in ((0.1, 0, 300, 100), (0.5, 0.4, 420, 60), (1.2, -0.3, -80, 20), (2.2, 0.1, 100, -60)):
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        found.append(np.array([[cos, -sin, x], [sin, cos, y]], np.float32))
    return found


@pytest.mark.parametrize("form", FORMATS)
def test_patches_are_cut_and_pasted_as_on_the_host(frame: av.VideoFrame, form: str) -> None:
    image, host, device = in_format(frame, form), Host(), Device("cpu")
    unit = 1 << (planes.layout_of(image).bits - 8 + planes.layout_of(image).shift)
    for affine in affines():
        patch, other = host.cut(image, affine, 128), device.cut(image, affine, 128)
        assert patch is not None
        assert other is not None
        assert np.abs(patch.astype(int) - other).max() <= 1
        changed = [device.own(image) for _ in range(2)]
        both: tuple[Imaging, ...] = (host, device)
        for imaging, target in zip(both, changed, strict=True):
            target.make_writable()
            imaging.paste(target, patch, 255 - patch, mask_of(128), affine)
        for i in range(len(image.planes)):
            a, b = (planes.samples(target, i).astype(int) for target in changed)
            assert np.abs(a - b).max() <= unit
            assert i or np.abs(a - planes.samples(image, i)).max() > 8 * unit


@pytest.mark.parametrize("form", FORMATS)
def test_the_letterbox_is_what_swscale_gives_at_full_accuracy(frame: av.VideoFrame, form: str) -> None:
    image = in_format(frame, form)
    for width, height in ((480, 270), (333, 187)):
        wanted = VideoReformatter().reformat(
            image, width, height, "rgb24", interpolation=_ACCURATE, dst_color_range="JPEG"
        )
        found = Device("cpu").shrink(image, width, height, 0).numpy()
        assert np.abs(found.astype(int) - wanted.to_ndarray()).max() <= 1
    box = Device("cpu").letterbox(Device("cpu").shrink(image, 480, 270, 1), 512, 288, 4, 16).numpy()
    assert box.shape == (512, 288, 3)
    assert (box[:16] == 114).all()


def test_the_watermark_and_the_scene_change_grid_are_the_same(frame: av.VideoFrame) -> None:
    rgb, opacity = np.full((20, 60, 3), 255, np.uint8), np.full((20, 60), 0.5, np.float32)
    images = [Device("cpu").own(frame) for _ in range(2)]
    both: tuple[Imaging, ...] = (Host(), Device("cpu"))
    for imaging, image in zip(both, images, strict=True):
        image.make_writable()
        imaging.draw(image, 600, 345, rgb, opacity)
    assert all(
        np.abs(planes.samples(images[0], i).astype(int) - planes.samples(images[1], i)).max() <= 1 for i in range(3)
    )
    grids = [imaging.grid(frame, (32, 18), 256) for imaging in (Host(), Device("cpu"))]
    assert np.abs(grids[0] - grids[1]).max() <= 1


def test_own_planes_are_copies_with_the_tags_and_the_time(frame: av.VideoFrame) -> None:
    own = Device("cpu").own(frame)
    assert (own.pts, own.time_base, int(own.colorspace)) == (frame.pts, frame.time_base, int(frame.colorspace))
    own.make_writable()
    before = planes.samples(frame, 0).copy()
    planes.samples(own, 0)[:] = 0
    assert (planes.samples(frame, 0) == before).all()


def test_a_session_that_takes_no_tensors_gets_an_array() -> None:
    seen: list[type] = []

    class Plain:
        def __call__(self, batch: np.ndarray) -> np.ndarray:
            seen.append(type(batch))
            return batch

    assert infer(Plain(), torch.ones(1, 3, 2, 2)).shape == (1, 3, 2, 2)  # type: ignore[arg-type]
    assert seen == [np.ndarray]


@pytest.mark.slow
def test_the_line_finds_and_shows_the_same_with_frames_on_the_device(tmp_path: Path) -> None:
    outs, reports = [], []
    for frames in ("host", "device"):
        settings = [f"frames={frames}", "sink.crf=0", "detector.size=320", "enhancer.cache_tolerance=0"]
        with Pipeline(load(None, [*settings, "provider=cpu"])) as pipeline:
            outs.append(tmp_path / f"{frames}.mkv")
            reports.append(pipeline.run(CLIP, outs[-1], duration=0.4))
    assert reports[0].frames_out == reports[1].frames_out == 10
    assert reports[0].tracks == reports[1].tracks > 0
    pairs = zip(*(decoded(out) for out in outs), strict=True)
    assert max(float(np.abs(a.astype(int) - b).mean()) for a, b in pairs) < 0.1


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="gray") for frame in video.decode(video=0)]


def test_modes_that_draw_beside_the_frame_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"frames=device draws in place only; set overlay\.mode=inplace"):
        load(None, ["frames=device", "overlay.mode=panel"])
