import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import stream_enhance
from stream_enhance import Config, Pipeline
from stream_enhance.errors import InputError, ModelError, SinkError, SourceError
from stream_enhance.report import Report
from stream_enhance.run import Run
from stream_enhance.sources.open import open_source
from tests.conftest import Models
from tests.media import FACE, image, images_of, luma_of, make_video, psnr, pts_of

FACE_ROWS = slice(round(FACE[1]) - 6, round(FACE[1]) + 6)
FACE_COLUMNS = slice(round(FACE[0]) - 6, round(FACE[0]) + 6)


def balanced(report: Report) -> bool:
    return report.frames_in == report.frames_out + report.frames_dropped


def decoded(png: bytes) -> NDArray[Any]:
    """(H, W, 3) RGB."""
    bgr = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    return bgr[:, :, ::-1]


def test_a_run_enhances_the_face_leaves_the_rest_and_says_what_it_did(
    models: Models, clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    config = models.config(sink={"crf": 12}, overlay={"watermark": False}, enhancer={"cache_tolerance": 0})
    with Pipeline(config) as pipeline:
        report = pipeline.run(str(clip), str(out))
    assert (report.frames_in, report.frames_out, report.frames_dropped) == (12, 12, 0)
    assert report.faces_enhanced == 12
    assert report.tracks == 1
    assert set(report.stages) == {"source", "detect", "enhance", "overlay", "sink"}
    assert set(report.latency_ms) == {"p50", "p95", "p99"}
    assert {m["provider"] for m in report.models.values()} == {"cpu"}
    for before, after in zip(luma_of(clip), luma_of(out), strict=True):
        gain = after[FACE_ROWS, FACE_COLUMNS].mean() - before[FACE_ROWS, FACE_COLUMNS].mean()
        assert gain > 15, "the tiny network brightens"
        assert psnr(before[:, :40], after[:, :40]) > 42
    assert pts_of(out) == pts_of(clip)


def test_the_metadata_says_by_what_faces_were_changed(models: Models, clip: Path, tmp_path: Path) -> None:
    for kind, word in (
        ("unet", "ENHANCED"),
        ("classical", "changed by classical filters"),
        ("none", "no face was changed"),
    ):
        out = tmp_path / f"{kind}.mp4"
        with Pipeline(models.config(enhancer={"kind": kind})) as pipeline:
            pipeline.run(str(clip), str(out))
        with av.open(str(out)) as container:
            assert word in container.metadata["comment"]


def test_frames_gives_finished_images_without_a_sink(models: Models, clip: Path) -> None:
    with Pipeline(models.config()) as pipeline:
        images = [p.image.to_ndarray(format="rgb24") for p in pipeline.frames(str(clip))]
    originals = images_of(clip)
    assert len(images) == len(originals) == 12
    gain = images[5].astype(int)[FACE_ROWS, FACE_COLUMNS] - originals[5][FACE_ROWS, FACE_COLUMNS]
    assert gain.mean() > 15


@pytest.mark.timeout(20)
def test_leaving_frames_early_ends_its_threads(models: Models, clip: Path) -> None:
    before = set(threading.enumerate())
    with Pipeline(models.config()) as pipeline:
        going = pipeline.frames(str(clip))
        next(going)
        going.close()
        assert set(threading.enumerate()) <= before


def test_detections_become_supervisions(models: Models, clip: Path) -> None:
    pytest.importorskip("supervision")
    with Pipeline(models.config()) as pipeline:
        image = next(pipeline.frames(str(clip)))
    detections = image.enhanced.scene.faces.to_supervision()
    assert len(detections) == 1
    assert detections.tracker_id.tolist() == [1]


class Endless:
    """A clip that never ends, quick or slow."""

    def __init__(self, clip: Path, live: bool = False, pause: float = 0.0) -> None:
        self._source, self._pause = open_source(str(clip)), pause
        self.info = replace(self._source.info, live=live)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def frames(self, side_packets: bool = True) -> Generator[Any, None, None]:
        first = next(self._source.frames())
        for i in range(10_000_000):
            image = first.image.reformat(format="yuv444p").reformat(format="yuv420p")
            yield replace(first, stream=self.info, image=image, index=i, pts=i * 512, captured_at=time.monotonic())
            time.sleep(self._pause)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("how", ["stop", "cancel", "duration"])
def test_every_frame_that_came_in_went_out_or_is_counted_dropped(
    models: Models, clip: Path, tmp_path: Path, live: bool, how: str
) -> None:
    def watch(run: Run) -> None:
        if run.done > 20 and (not live or run.line.channels[0].dropped):
            if how == "stop":
                run.stop()
            elif how == "cancel":
                run.cancel()

    with Pipeline(models.config()) as pipeline:
        limit = 1.0 if how == "duration" else None
        report = pipeline.run(Endless(clip, live), str(tmp_path / "out.mp4"), duration=limit, watch=watch)
    assert balanced(report)
    assert report.frames_out > 0
    if how == "stop" and not live:
        assert report.frames_dropped == 0
    if live and how == "stop":
        assert report.frames_dropped > 0, "a source this quick must lose frames, and only where they are counted"


@pytest.mark.timeout(30)
@pytest.mark.parametrize("stage", ["detector", "enhancer", "overlay"])
def test_an_error_in_any_stage_reaches_run_and_nothing_is_left_running(
    models: Models, clip: Path, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Pipeline):
        pass

    def breaks(self: Pipeline, *_: bool) -> Callable[[Any], Generator[Any, None, None]]:
        def run(items: Any) -> Generator[Any, None, None]:
            yield from ()
            for _ in items:
                raise RuntimeError("boom")

        run.counts = run.detected = run.tracks = None  # type: ignore[attr-defined]
        return run

    monkeypatch.setattr(Broken, stage, breaks)
    before = set(threading.enumerate())
    with Broken(models.config()) as pipeline, pytest.raises(RuntimeError, match="boom") as raised:
        pipeline.run(str(clip), str(tmp_path / "out.mp4"))
    assert "in stage" in raised.value.__notes__[0]
    assert set(threading.enumerate()) <= before
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("error", [RuntimeError("no more"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_an_error_in_watch_ends_the_run(models: Models, long_clip: Path, tmp_path: Path, error: BaseException) -> None:
    def watch(run: Run) -> None:
        if run.done > 5:
            raise error

    before = set(threading.enumerate())
    with Pipeline(models.config()) as pipeline:
        with pytest.raises(type(error)):
            pipeline.run(long_clip, tmp_path / "out.mp4", watch=watch)
        assert set(threading.enumerate()) <= before
    assert not (tmp_path / "out.mp4").exists()


def test_no_output_at_all_is_refused(models: Models, clip: Path) -> None:
    with Pipeline(models.config()) as pipeline, pytest.raises(SinkError, match="no output"):
        pipeline.run(clip, [])


def test_one_pipeline_runs_many_sources(models: Models, tmp_path: Path) -> None:
    with Pipeline(models.config()) as pipeline:
        for i, count in enumerate((3, 5)):
            source = make_video(tmp_path / f"in{i}.mp4", frames=count)
            assert pipeline.run(str(source), str(tmp_path / f"out{i}.mp4")).frames_out == count


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.onnx: no such model file"):
        Pipeline(Config.model_validate({"detector": {"model": str(tmp_path / "nowhere.onnx")}}))


def test_a_provider_that_cannot_be_had_is_an_error_not_the_cpu(models: Models) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ModelError, match="cuda"):
        Pipeline(models.config().model_copy(update={"provider": "cuda"}))


def test_the_gallery_has_each_track(models: Models, clip: Path, tmp_path: Path) -> None:
    with Pipeline(models.config()) as pipeline:
        pipeline.run(str(clip), str(tmp_path / "out.mp4"), gallery=tmp_path / "faces")
    assert (tmp_path / "faces" / "index.html").is_file()
    assert len(list((tmp_path / "faces").glob("*.png"))) >= 2


@pytest.mark.parametrize("mode", ["panel", "side_by_side"])
def test_modes_that_draw_beside_the_image_make_a_larger_one(
    models: Models, clip: Path, tmp_path: Path, mode: str
) -> None:
    out = tmp_path / "out.mp4"
    with Pipeline(models.config(overlay={"mode": mode})) as pipeline:
        pipeline.run(str(clip), str(out))
    shape = images_of(out)[0].shape
    assert (shape[1] == 320) if mode == "side_by_side" else (shape[0] > 120)
    assert np.isfinite(shape).all()


def test_each_still_of_a_folder_is_looked_at_by_itself(tmp_path: Path) -> None:
    """Doubtful faces too, which in a video would have to be seen twice; and nothing of one image is in the next."""
    from skimage.data import astronaut, rocket

    face = cv2.resize(astronaut(), (360, 360))[:, :, ::-1]
    sky = cv2.resize(rocket(), (640, 360))[:, :, ::-1]
    (tmp_path / "in").mkdir()
    for i, left in enumerate([0, None, 280, None]):
        image = sky.copy()
        if left is not None:
            image[:, left : left + 360] = face
        cv2.imwrite(str(tmp_path / "in" / f"{i}.png"), image)
    with Pipeline(Config.model_validate({"detector": {"every": 2}, "enhancer": {"kind": "none"}})) as pipeline:
        found = [image.enhanced.scene.faces for image in pipeline.frames(str(tmp_path / "in"))]
    assert [len(faces) for faces in found] == [1, 0, 1, 0]
    assert found[0].xyxy[0, 0] + 280 == pytest.approx(found[2].xyxy[0, 0], abs=8)


def test_paths_do_wherever_a_name_does(models: Models, clip: Path, tmp_path: Path) -> None:
    with Pipeline(models.config()) as pipeline:
        assert len(list(pipeline.frames(clip))) == 12
        report = pipeline.run(clip, tmp_path / "out.mp4", gallery=str(tmp_path / "faces"))
        assert report.frames_out == 12
        assert pipeline.run(clip, [tmp_path / "a.mp4", str(tmp_path / "b.mkv")]).frames_out == 12
    assert (tmp_path / "faces" / "index.html").is_file()


def test_one_array_is_enhanced_and_is_not_changed(models: Models) -> None:
    given = image(0)
    before = given.copy()
    with Pipeline(models.config(overlay={"watermark": False})) as pipeline:
        result = pipeline.enhance(given)
        again = pipeline.enhance(given)
    assert np.array_equal(given, before)
    assert (result.image.shape, str(result.image.dtype)) == (given.shape, "uint8")
    gain = result.image.astype(int)[FACE_ROWS, FACE_COLUMNS] - given[FACE_ROWS, FACE_COLUMNS]
    assert gain.mean() > 15
    assert np.array_equal(result.image[:, :40], given[:, :40]), "RGB in, the same RGB out"
    assert len(result.faces) == len(again.faces) == 1
    assert np.array_equal(result.image, again.image), "nothing is carried from call to call"
    assert np.array_equal(decoded(result._repr_png_()), result.image)


def test_the_overlay_modes_and_other_enhancers_do_for_one_array(models: Models) -> None:
    config = models.config(overlay={"mode": "side_by_side", "scale": 2}, enhancer={"kind": "classical"})
    with Pipeline(config) as pipeline:
        assert pipeline.enhance(image(0)).image.shape == (240, 640, 3)
    with Pipeline(models.config(enhancer={"kind": "none"})) as pipeline:
        assert np.array_equal(pipeline.enhance(image(0)).image, image(0))


@pytest.mark.parametrize("shape", [(120, 160), (120, 160, 4), (0, 160, 3)])
def test_an_array_of_another_shape_is_refused(models: Models, shape: tuple[int, ...]) -> None:
    with Pipeline(models.config()) as pipeline, pytest.raises(InputError, match=r"give uint8 \(H, W, 3\), RGB"):
        pipeline.enhance(np.zeros(shape, np.uint8))


def test_a_files_name_is_refused_where_an_array_is_wanted(models: Models) -> None:
    with Pipeline(models.config()) as pipeline, pytest.raises(InputError, match="is a str; give an array"):
        pipeline.enhance("group.jpg")  # type: ignore[arg-type]


def test_floats_are_refused(models: Models) -> None:
    with Pipeline(models.config()) as pipeline, pytest.raises(InputError, match="float64"):
        pipeline.enhance(np.zeros((120, 160, 3)))  # type: ignore[arg-type]


@pytest.mark.timeout(20)
def test_a_source_that_fails_midway_ends_frames_with_its_own_error(models: Models, clip: Path) -> None:
    class Failing(Endless):
        def frames(self, side_packets: bool = True) -> Generator[Any, None, None]:
            yield next(super().frames())
            raise SourceError("the disk is gone")

    for _ in range(5):  # which thread hears of it first is a matter of chance
        with Pipeline(models.config()) as pipeline, pytest.raises(SourceError, match="the disk is gone"):
            list(pipeline.frames(Failing(clip)))


def test_a_frame_shows_itself_upright_in_a_notebook(models: Models, tmp_path: Path) -> None:
    path = make_video(tmp_path / "turned.mp4", frames=1, rotation=90)
    with Pipeline(models.config()) as pipeline:
        (frame,) = pipeline.frames(path)
    assert frame.to_rgb().shape == (160, 120, 3)
    assert np.array_equal(decoded(frame._repr_png_()), frame.to_rgb())


def test_every_exported_name_is_there() -> None:
    assert all(getattr(stream_enhance, name) is not None for name in stream_enhance.__all__)
    assert set(stream_enhance.__all__) <= set(dir(stream_enhance))


def test_importing_needs_no_network_library() -> None:
    code = "import stream_enhance, sys; print({'av', 'cv2', 'numpy', 'onnxruntime', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
