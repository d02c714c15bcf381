"""What goes wrong at a user's: each through the real command line, with real files."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnx
import pytest

from tests.conftest import Command, Models
from tests.media import (
    FACE,
    PATCH,
    SIZE,
    flv_with_times,
    images_of,
    luma_of,
    make_detector,
    make_enhancer,
    make_video,
    planes_of,
    psnr,
    pts_of,
    raw_h264,
)

pytestmark = pytest.mark.timeout(90)

EXACT = ["--set", "overlay.watermark=false", "--set", "sink.crf=12", "--set", "enhancer.cache_tolerance=0"]


# ── Not a video ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_such_file(command: Command, tmp_path: Path) -> None:
    result = command("run", tmp_path / "none.mp4", "-o", tmp_path / "out.mp4")
    assert result.code == 2
    assert "none.mp4: no such file" in result.error
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("verb", ["run", "batch"])
def test_a_folder_without_videos(command: Command, tmp_path: Path, verb: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("nothing here")
    result = command(verb, tmp_path / "in", "-o", tmp_path / "out/")
    assert result.code == 2
    assert "holds no" in result.error


@pytest.mark.parametrize(
    "content", [b"", b"plain words\n" * 500, bytes(range(256)) * 40], ids=["empty", "text", "noise"]
)
def test_not_a_video(command: Command, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.mp4").write_bytes(content)
    result = command("run", tmp_path / "in.mp4", "-o", tmp_path / "out.mp4")
    assert result.code == 2
    assert "in.mp4: cannot be opened" in result.error
    assert not list(tmp_path.glob("out*"))


def test_no_video_stream(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), format="s16", layout="mono")
        sound.sample_rate = 16000
        container.mux([*stream.encode(sound), *stream.encode(None)])
    result = command("run", path, "-o", tmp_path / "out.mp4")
    assert result.code == 2
    assert "sound.mp4: holds no video stream" in result.error


def test_zero_frames(command: Command, tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "header.mkv").write_bytes(whole[: whole.index(b"\x1f\x43\xb6\x75")])  # all before the first cluster
    data = bytearray(make_video(tmp_path / "whole.mp4").read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    (tmp_path / "zeros.mp4").write_bytes(data)
    for name, says in (("header.mkv", "cannot be opened"), ("zeros.mp4", "not one frame could be decoded")):
        result = command("run", tmp_path / name, "-o", tmp_path / "out.mp4")
        assert result.code == 2
        assert f"{name}: {says}" in result.error
        assert not list(tmp_path.glob("out*"))


# ── Damaged ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_truncated_in_the_middle(command: Command, tmp_path: Path, suffix: str) -> None:
    whole = make_video(
        tmp_path / f"whole.{suffix}",
        100,
        sound=True,
        options={"g": "10"},
        container_options={"movflags": "faststart"} if suffix == "mp4" else None,
    )
    path = tmp_path / f"cut.{suffix}"
    data = whole.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10 + 1])
    result = command("run", path, "-o", tmp_path / "out.mp4")
    assert result.code == 0
    assert 30 < result.report["frames_out"] < 90
    assert result.report["frames_out"] == len(luma_of(tmp_path / "out.mp4"))
    if suffix != "ts":  # a transport stream does not say how long it should be
        assert "warning: " in result.err


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_flipped_bytes_are_never_a_crash_or_a_hang(command: Command, tmp_path: Path, suffix: str) -> None:
    whole = make_video(
        tmp_path / f"whole.{suffix}",
        40,
        sound=True,
        options={"g": "12"},
        container_options={"movflags": "faststart"} if suffix == "mp4" else None,
    )
    path, damaged = tmp_path / f"flipped.{suffix}", 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        data = np.fromfile(whole, np.uint8)
        where = rng.integers(2500, len(data), len(data) // 700)
        data[where] ^= rng.integers(1, 256, len(where), dtype=np.uint8)
        data.tofile(path)
        result = command("run", path, "-o", tmp_path / "out.mp4", "--overwrite")
        assert result.code == 0, f"seed {seed}: {result.err}"
        assert 0 < result.report["frames_out"] == len(luma_of(tmp_path / "out.mp4"))
        damaged += result.report["packets_corrupt"]
    assert damaged > 0


# ── Unusual images ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("overlay", ["inplace", "panel", "side_by_side"])
def test_size_and_pixel_format_changing_midway(command: Command, tmp_path: Path, overlay: str) -> None:
    data = b""
    for size, form in ((SIZE, "yuv420p"), ((320, 240), "yuv420p"), ((96, 64), "yuv444p"), (SIZE, "yuv420p")):
        data += raw_h264(tmp_path / "part.h264", [size], 6, form).read_bytes()
    (tmp_path / "in.h264").write_bytes(data)
    result = command("run", tmp_path / "in.h264", "-o", tmp_path / "out.mp4", "--overlay", overlay)
    assert result.code == 0
    assert result.report["frames_out"] == 24
    assert len({p.shape for p in images_of(tmp_path / "out.mp4")}) == 1


@pytest.mark.parametrize("overlay", ["inplace", "panel", "side_by_side"])
@pytest.mark.parametrize("size", [(321, 243), (161, 121), (33, 17)])
def test_odd_sizes(command: Command, tmp_path: Path, size: tuple[int, int], overlay: str) -> None:
    path = make_video(tmp_path / "in.mkv", 4, size, codec="ffv1")
    result = command("run", path, "-o", tmp_path / "out.mp4", "--overlay", overlay, *EXACT)
    assert result.code == 0
    got, expected = luma_of(tmp_path / "out.mp4")[1], luma_of(path)[1]
    height, width = expected.shape
    assert got.shape[0] - height in range(2) or overlay == "panel"
    assert psnr(got[: height // 4, : width // 3], expected[: height // 4, : width // 3]) > 38


FORMATS = ["yuv420p10le", "yuv422p", "yuv422p10le", "yuv444p", "yuv444p10le", "gray", "gray10le", "yuv411p", "bgr0"]


@pytest.mark.parametrize("form", FORMATS)
def test_ten_bits_every_subsampling_and_grey(command: Command, tmp_path: Path, form: str) -> None:
    path = make_video(tmp_path / "in.mkv", 4, codec="ffv1", pixel_format=form)
    result = command("run", path, "-o", tmp_path / "out.mkv", *EXACT)
    assert result.code == 0
    assert result.report["faces_enhanced"] == 4
    for before, after in zip(images_of(path), images_of(tmp_path / "out.mkv"), strict=True):
        assert psnr(before[:, :40], after[:, :40]) > 33, "a wrong range or matrix is off by far more"
        assert gain(before, after) > 15


@pytest.mark.parametrize("space", [1, 5, 9], ids=["BT.709", "BT.601", "BT.2020"])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
def test_outside_faces_nothing_changes_but_by_the_encoder(
    command: Command, tmp_path: Path, space: int, full: bool
) -> None:
    path = make_video(tmp_path / "in.mp4", 6, (320, 240), space=space, full=full)
    result = command("run", path, "-o", tmp_path / "out.mp4", *EXACT)
    assert result.code == 0
    assert result.report["faces_enhanced"] == 6
    for before, after in zip(planes_of(path), planes_of(tmp_path / "out.mp4"), strict=True):
        for old, new in zip(before, after, strict=True):
            outside = np.ones(old.shape, bool)
            outside[old.shape[0] // 5 : -old.shape[0] // 5, old.shape[1] // 4 : -old.shape[1] // 4] = False
            assert psnr(old[outside], new[outside]) >= 45
        assert gain(before[0], after[0], 2) > 15
    with av.open(str(path)) as source, av.open(str(tmp_path / "out.mp4")) as out:
        old_frame, new_frame = next(source.decode(video=0)), next(out.decode(video=0))
        assert int(new_frame.colorspace) == int(old_frame.colorspace) == space
        assert (int(new_frame.color_range) == 2) == full


def gain(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any], scale: int = 1) -> float:
    """By how much the middle of the face became brighter."""
    x, y = round(FACE[0] * scale), round(FACE[1] * scale)
    part = np.s_[y - 6 * scale : y + 6 * scale, x - 6 * scale : x + 6 * scale]
    return float(after[part].mean() - before[part].mean())


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_rotation_metadata(command: Command, tmp_path: Path, angle: int) -> None:
    path = make_video(tmp_path / "in.mp4", 4, rotation=angle)
    result = command("run", path, "-o", tmp_path / "out.mp4", *EXACT)
    assert result.code == 0
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert round(next(container.decode(video=0)).rotation) % 360 == angle
    before, after = luma_of(path)[1], luma_of(tmp_path / "out.mp4")[1]
    shown_before, shown_after = np.rot90(before, angle // 90), np.rot90(after, angle // 90)
    left = 4 if angle != 180 else 0  # the detector's letterbox: 120 pixels in 128
    x, y = round(FACE[0]) - left, round(FACE[1])
    part = np.s_[y - 5 : y + 5, x - 5 : x + 5]
    assert shown_after[part].mean() - shown_before[part].mean() > 15, "the face is where a viewer sees it"


@pytest.mark.parametrize(
    "times",
    [
        [0, 40, 80, 20000, 20040, 20080, 90000],
        [0, 40, 40, 40, 80, 80, 120],
        [20000, 20040, 20080, 0, 40, 80, 120],
        [200, 160, 120, 80, 40, 0, 240],
    ],
    ids=["jump", "repeat", "set back", "run backwards"],
)
def test_times_that_jump_repeat_or_run_backwards(command: Command, tmp_path: Path, times: list[int]) -> None:
    path = flv_with_times(tmp_path / "in.flv", times)
    result = command("run", path, "-o", tmp_path / "out.mp4")
    assert result.code == 0
    assert result.report["frames_out"] == len(times)
    written = pts_of(tmp_path / "out.mp4")
    assert len(written) == len(times)
    assert all(a < b for a, b in pairwise(written))


@pytest.mark.parametrize("rate", [1, 120])
def test_slow_and_fast_frame_rates(command: Command, tmp_path: Path, rate: int) -> None:
    path = make_video(tmp_path / "in.mp4", 6, rate=rate)
    result = command("run", path, "-o", tmp_path / "out.mp4")
    assert result.code == 0
    assert result.report["faces_detected"] > 0
    assert pts_of(tmp_path / "out.mp4") == pts_of(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_one_frame_only(command: Command, tmp_path: Path, suffix: str) -> None:
    path = make_video(tmp_path / f"in.{suffix}", 1)
    result = command("run", path, "-o", tmp_path / "out.mp4")
    assert result.code == 0
    assert result.report["frames_out"] == len(luma_of(tmp_path / "out.mp4")) == 1
    assert result.report["faces_enhanced"] == 1


def test_a_folder_of_one_image(command: Command, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "only.png", 1, codec="png", pixel_format="rgb24", form="image2")
    result = command("run", tmp_path / "in", "-o", f"{tmp_path}/out/")
    assert result.code == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["only.png"]


def test_no_faces_at_all(command: Command, clip: Path, tmp_path: Path) -> None:
    nobody = make_detector(tmp_path / "nobody.onnx", boxes=())
    result = command("run", clip, "-o", tmp_path / "out.mp4", *EXACT, detector=nobody)
    assert result.code == 0
    assert (result.report["frames_out"], result.report["faces_detected"], result.report["tracks"]) == (12, 0, 0)
    for before, after in zip(luma_of(clip), luma_of(tmp_path / "out.mp4"), strict=True):
        assert psnr(before, after) > 45


def test_two_hundred_faces_in_a_frame(command: Command, tmp_path: Path) -> None:
    boxes = [(4 + 8 * i, 6 + 12 * j, 4, 6) for i in range(20) for j in range(10)]
    crowd = make_detector(tmp_path / "crowd.onnx", boxes)
    path = make_video(tmp_path / "in.mp4", 3, (640, 480))
    result = command("run", path, "-o", tmp_path / "out.mp4", *EXACT, "--set", "detector.every=1", detector=crowd)
    assert result.code == 0
    assert (result.report["faces_detected"], result.report["faces_enhanced"], result.report["tracks"]) == (
        600,
        600,
        200,
    )
    assert luma_of(tmp_path / "out.mp4")[1].mean() > luma_of(path)[1].mean() + 3


# ── Models and settings ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_model(command: Command, clip: Path, tmp_path: Path) -> None:
    result = command("run", clip, "-o", tmp_path / "out.mp4", enhancer=tmp_path / "gone.onnx")
    assert result.code == 2
    assert "gone.onnx: no such model file" in result.error


@pytest.mark.parametrize("kind", ["detector", "enhancer"])
def test_a_truncated_model(command: Command, models: Models, clip: Path, tmp_path: Path, kind: str) -> None:
    whole = getattr(models, kind).read_bytes()
    cut = tmp_path / "cut.onnx"
    for length in (0, len(whole) // 3, len(whole) - 20):
        cut.write_bytes(whole[:length])
        result = command("run", clip, "-o", tmp_path / "out.mp4", **{kind: cut})
        assert result.code == 2
        assert "cut.onnx" in result.error


def test_a_wrong_shaped_model(command: Command, models: Models, clip: Path, tmp_path: Path) -> None:
    wrong = {
        "takes one channel": {"enhancer": make_enhancer(tmp_path / "one.onnx", channels=1)},
        "another size than its card": {"enhancer": make_enhancer(tmp_path / "size.onnx", side=2 * PATCH)},
        "for another task": {"enhancer": models.detector},
        "for the other task": {"detector": models.enhancer},
    }
    for what, model in wrong.items():
        result = command("run", clip, "-o", tmp_path / "out.mp4", **model)
        assert result.code == 2, what
        assert ".onnx" in result.error
    assert not list(tmp_path.glob("out*"))


def test_a_detector_with_a_head_of_another_shape(command: Command, models: Models, clip: Path, tmp_path: Path) -> None:
    model = onnx.load(str(models.detector))
    rows = next(t for t in model.graph.initializer if t.name == "rows")
    tail = next(t for t in model.graph.initializer if t.name == "tail")
    rows.CopyFrom(onnx.numpy_helper.from_array(np.zeros((1, 3, 4), np.float32), "rows"))
    tail.CopyFrom(onnx.numpy_helper.from_array(np.array([3, 4], np.int64), "tail"))
    for i, size in enumerate((3, 4), 1):
        model.graph.output[0].type.tensor_type.shape.dim[i].dim_value = size
    onnx.save(model, str(tmp_path / "head.onnx"))
    result = command("run", clip, "-o", tmp_path / "out.mp4", detector=tmp_path / "head.onnx")
    assert result.code == 2
    assert "head.onnx" in result.error


@pytest.mark.parametrize("named", [True, False], ids=["named", "open"])
@pytest.mark.parametrize("kind", ["half the size", "one channel"])
def test_an_enhancer_that_gives_another_shape_than_it_takes(
    command: Command, models: Models, clip: Path, tmp_path: Path, kind: str, named: bool
) -> None:
    model = onnx.load(str(models.enhancer))
    model.graph.node[-1].output[0] = "whole"
    shape = [3, PATCH // 2, PATCH // 2] if kind == "half the size" else [1, PATCH, PATCH]
    last = (
        onnx.helper.make_node("AveragePool", ["whole"], ["output"], kernel_shape=[2, 2], strides=[2, 2])
        if kind == "half the size"
        else onnx.helper.make_node("ReduceMean", ["whole"], ["output"], axes=[1])
    )
    model.graph.node.append(last)
    for dim, size, name in zip(model.graph.output[0].type.tensor_type.shape.dim[1:], shape, "CHW", strict=True):
        dim.CopyFrom(onnx.TensorShapeProto.Dimension(**({"dim_value": size} if named else {"dim_param": name})))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "W"
    onnx.save(model, str(tmp_path / "other.onnx"))
    result = command("run", clip, "-o", tmp_path / "out.mp4", enhancer=tmp_path / "other.onnx")
    assert result.code == 2
    assert "other.onnx: gives (" in result.error
    assert result.error.endswith("; export it again")


def test_a_model_without_a_card(command: Command, models: Models, clip: Path, tmp_path: Path) -> None:
    model = onnx.load(str(models.enhancer))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "bare.onnx"))
    result = command("run", clip, "-o", tmp_path / "out.mp4", enhancer=tmp_path / "bare.onnx")
    assert result.code == 2
    assert "no card" in result.error


def test_an_unknown_config_key(command: Command, clip: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("detector:\n  sise: 320\n")
    result = command("run", clip, "-o", tmp_path / "out.mp4", "--config", settings)
    assert result.code == 2
    assert "unknown key detector.sise; did you mean detector.size?" in result.error
