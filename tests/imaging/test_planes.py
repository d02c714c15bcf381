import av
import cv2
import numpy as np
import pytest

from stream_enhance.imaging import planes

RNG = np.random.default_rng(0)
IMAGE = cv2.resize(RNG.integers(0, 256, (9, 12, 3), np.uint8), (321, 243), interpolation=cv2.INTER_CUBIC).astype(
    np.uint8
)


def frame_of(name: str, space: int = 5, color_range: int = 1) -> av.VideoFrame:
    rgb = av.VideoFrame.from_ndarray(IMAGE, "rgb24")
    frame = rgb.reformat(format=name, dst_colorspace=space, dst_color_range=color_range)
    if planes.LAYOUTS[name].kind in ("yuv", "nv", "gray"):
        frame.colorspace, frame.color_range = space, color_range
    frame.make_writable()
    return frame


@pytest.mark.parametrize("name", sorted(planes.LAYOUTS))
def test_every_layout_is_a_pixel_format_with_the_subsampling_it_says(name: str) -> None:
    layout, form = planes.LAYOUTS[name], av.VideoFormat(name, 64, 64)
    if layout.kind in ("yuv", "nv"):
        assert (form.chroma_width(64), form.chroma_height(64)) == (64 >> layout.sx, 64 >> layout.sy)
    assert form.components[0].bits == layout.bits


def kinds() -> list[tuple[str, int, int]]:
    """Every layout with every matrix (BT.709, 601, 2020) and range that it can have."""
    tags = [(space, color_range) for space in (1, 5, 9) for color_range in (1, 2)]
    colour = [name for name in sorted(planes.LAYOUTS) if planes.LAYOUTS[name].kind != "gray"]
    return [
        (name, *tag) for name in colour for tag in (tags if planes.LAYOUTS[name].kind in ("yuv", "nv") else tags[2:3])
    ]


@pytest.mark.parametrize(("name", "space", "color_range"), kinds())
def test_read_gives_the_colours_that_were_put_in(name: str, space: int, color_range: int) -> None:
    layout = planes.LAYOUTS[name]
    frame = frame_of(name, space, color_range)
    x0, y0, x1, y1 = planes.align(frame, 31, 41, 200, 181) or (0, 0, 0, 0)
    off = np.abs(planes.read(frame, x0, y0, x1, y1).astype(int) - IMAGE[y0:y1, x0:x1])
    assert off.mean() < (5 if layout.sx == 2 else 2.5), "a wrong matrix or range is off by far more"


@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize("name", ["gray", "gray10le", "gray16le"])
def test_grey_keeps_black_and_white(name: str, color_range: int) -> None:
    top = (1 << planes.LAYOUTS[name].bits) - 1
    unit = 1 << (planes.LAYOUTS[name].bits - 8)
    black, white = (0, top) if color_range == 2 else (16 * unit, 235 * unit)
    frame = av.VideoFrame(64, 64, name)
    frame.color_range = color_range
    planes.samples(frame, 0)[:, :32], planes.samples(frame, 0)[:, 32:] = black, white
    got = planes.read(frame, 0, 0, 64, 64)
    assert got[:, :32].max() == 0
    assert got[:, 32:].min() == 255


@pytest.mark.parametrize("name", sorted(planes.LAYOUTS))
def test_blend_changes_what_the_mask_covers_and_not_a_bit_else(name: str) -> None:
    frame = frame_of(name)
    x0, y0, x1, y1 = planes.align(frame, 31, 41, 321, 243) or (0, 0, 0, 0)
    before = planes.read(frame, x0, y0, x1, y1)
    after = np.clip(before + 20.0, 0, 255).astype(np.uint8)
    mask = np.zeros(before.shape[:2], np.float32)
    kept = [bytes(plane) for plane in frame.planes]
    planes.blend(frame, x0, y0, before, after, mask)
    assert kept == [bytes(plane) for plane in frame.planes]

    mask[16:96, 16:96] = 1
    untouched = [planes.samples(frame, i).copy() for i in range(len(frame.planes))]
    planes.blend(frame, x0, y0, before, after, mask)
    got = planes.read(frame, x0, y0, x1, y1)
    assert np.abs(got[20:92, 20:92].astype(int) - after[20:92, 20:92]).mean() < 1.5
    luma = planes.samples(frame, 0)
    assert np.array_equal(luma[: y0 + 16], untouched[0][: y0 + 16])
    assert np.array_equal(luma[y0 + 96 :], untouched[0][y0 + 96 :])


def test_align_grows_to_whole_chroma_samples_and_stops_at_an_odd_edge() -> None:
    frame = frame_of("yuv420p")
    assert planes.align(frame, 3, 5, 7, 9) == (2, 4, 8, 10)
    assert planes.align(frame, 300, 240, 400, 300) == (300, 240, 321, 243)
    assert planes.align(frame, -50, -50, -10, 20) is None


@pytest.mark.parametrize("form", sorted(planes.LAYOUTS))
def test_a_crop_is_what_lies_there(form: str) -> None:
    rng = np.random.default_rng(0)
    frame = av.VideoFrame(96, 64, form)
    for plane in range(len(frame.planes)):
        rows = planes.samples(frame, plane)
        rows[:] = rng.integers(0, 200, rows.shape)
    frame.colorspace, frame.color_range = 1, 2
    part = planes.crop(frame, 16, 24, 64, 48)
    assert (part.width, part.height, part.format.name) == (48, 24, form)
    assert np.array_equal(planes.read(part, 0, 0, 48, 24)[4:-4, 4:-4], planes.read(frame, 16, 24, 64, 48)[4:-4, 4:-4])
