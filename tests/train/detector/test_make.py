"""Shards are pure functions of the recipe and their number; what is missing is named in one line."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("ultralytics")

import torch

from stream_enhance.errors import InputError
from train.detector import teacher as detector_teacher
from train.detector.boxes import labels, read_list
from train.detector.data import make as detector_data
from train.detector.data.people import cut_out
from train.detector.data.scenes import Real, Scene
from train.detector.initial_weights import build
from train.detector.recipe import Recipe, Shards, load_recipe

ROOT = Path(__file__).parents[3]
FIRST = "configs/train/detector/01_first.yaml"


def recipe(cache: Path) -> Recipe:
    shipped = load_recipe(ROOT / "configs/train/detector/01_first.yaml")
    nowhere = {"detect": cache / "detect", "faces": cache / "faces", "backgrounds": cache / "backgrounds"}
    return shipped.model_copy(update={"cache": cache, **nowhere})


@pytest.fixture(scope="module")
def sources() -> detector_data.Sources:
    """One drawn person, one noisy place, one drawn photograph."""
    rng = np.random.default_rng(0)
    image = np.full((300, 260, 3), (60, 120, 60), np.uint8)
    cv2.ellipse(image, (130, 320), (110, 100), 0, 0, 360, (40, 40, 90), -1)
    cv2.ellipse(image, (130, 140), (60, 80), 0, 0, 360, (200, 160, 140), -1)
    points = np.array([[105, 125], [155, 125], [130, 150], [112, 180], [148, 180]], np.float64)
    box = np.array([70.0, 60.0, 120.0, 160.0])
    place = cv2.resize(rng.integers(0, 255, (16, 32, 3), dtype=np.uint8), (256, 128)).astype(np.uint8)
    photograph = Real(image, labels([[70, 60, 190, 220]]), np.zeros((0, 4), np.float32))
    return detector_data.Sources([cut_out(image, box, points)], [place], [photograph], np.ones(1))


def test_a_shard_is_the_same_every_time_and_fits_its_images(sources: detector_data.Sources, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    teacher = build("yolov8n-pose.yaml").eval()
    with torch.no_grad():
        teacher.model[-1].cv3[0][-1].bias += 8  # an untrained network that fires on every small cell
    part = Shards(side=96, shards=1, per_shard=10, face_px=(12, 40), made=0.6)
    for name in ("a", "b"):
        detector_data.make_shard(recipe(tmp_path / name), part, 0, sources, teacher)
    first, second = (detector_data.read_shard(tmp_path / name / "96" / "000.npz") for name in ("a", "b"))
    assert np.array_equal(first[0], second[0])
    assert all(np.array_equal(first[2][key], second[2][key]) for key in first[2])
    images, clean, held = first
    assert images.shape == clean.shape == (10, 96, 96, 3)
    assert not np.array_equal(images, clean), "the camera degrades them"
    assert len(held["xyxy"]) == len(held["image"]) == len(held["points"]) > 0
    assert held["xyxy"].min() >= 0
    assert held["xyxy"].max() <= 96
    assert held["t_boxes"].shape == (len(held["t_cell"]), 64)
    assert (held["t_box_score"] <= held["t_score"]).all()
    assert len(held["weight"]) == len(held["xyxy"])
    made = held["made"]
    assert made.any()
    assert (~made).any()
    empty = made & ~np.isin(np.arange(10), held["image"])
    assert not np.isin(held["t_image"], np.flatnonzero(empty)).any(), "no face, so nothing of what the teacher sees"


def test_the_enlarged_images_cells_are_the_images_own_at_half_the_stride() -> None:
    """One cell each of strides 8, 16 and 32 of a 128 pixel image, seen from a 64 pixel one."""
    scores = torch.full((1, 1, 256 + 64 + 16), -9.0)
    scores[0, 0, 16 * 5 + 6] = 2.0  # stride 8: row 5, column 6
    scores[0, 0, 256 + 8 * 3 + 1] = 3.0  # stride 16: row 3, column 1
    scores[0, 0, 256 + 64 + 4 * 2 + 2] = 4.0  # stride 32
    large = {"scores": scores, "boxes": torch.ones(1, 64, 336), "kpts": torch.ones(1, 15, 336)}
    out = {"boxes": np.zeros((1, 64, 84), np.float32), "kpts": np.zeros((1, 15, 84), np.float32)}
    box_score, score = np.zeros((1, 84), np.float32), np.zeros((1, 84), np.float32)
    detector_teacher.merge_enlarged(large, np.array([0]), out, box_score, score)
    assert np.flatnonzero(score[0] > 0.5).tolist() == [8 * 2 + 3, 8 * 3 + 1, 64 + 4 * 2 + 2]
    assert np.flatnonzero(box_score[0] > 0.5).tolist() == [8 * 3 + 1, 64 + 4 * 2 + 2]
    assert out["boxes"][0, :, 8 * 3 + 1].min() == 1


def test_a_small_face_that_the_teacher_does_not_see_is_worth_nothing() -> None:
    blank = np.zeros((64, 64, 3), np.uint8)
    faces = labels([[8, 8, 18, 20], [30, 30, 50, 60]])
    scene = Scene(blank, blank, faces, (), np.ones(2, np.float32))
    centre = detector_teacher.side_grids(scene)
    score = np.zeros(len(centre), np.float32)
    assert detector_teacher.weight(scene, True, score, centre).tolist() == [1, 1]
    assert detector_teacher.weight(scene, False, score, centre).tolist() == [0, 0.5]
    score[:] = 0.7
    assert detector_teacher.weight(scene, False, score, centre).tolist() == [1, 1]


def test_the_stations_images_are_learnt_from_or_measured_on_never_both(tmp_path: Path) -> None:
    (tmp_path / "detect").mkdir()
    (tmp_path / "detect" / "cctv_pseudo.txt").write_text("images/a.jpg\nimages/b.jpg\nimages/c.jpg\n")
    split = recipe(tmp_path).model_copy(update={"station": ("b",)})
    assert [path.stem for path in detector_data.station_list(split, learnt=True)] == ["b"]
    assert [path.stem for path in detector_data.station_list(split, learnt=False)] == ["a", "c"]
    assert len(recipe(tmp_path).station) == 20, "half of the forty"
    with pytest.raises(InputError, match="no d; correct `station` in the recipe"):
        detector_data.station_list(split.model_copy(update={"station": ("d",)}), learnt=True)


def test_other_numbers_and_other_parts_make_other_images(sources: detector_data.Sources) -> None:
    part = Shards(side=96, shards=1, face_px=(12, 40), made=1.0)
    scenes = [detector_data.one_image(sources, part, np.random.default_rng([1, n]))[0].seen for n in (0, 1)]
    assert not np.array_equal(scenes[0], scenes[1])
    tiny = part.model_copy(update={"name": "tiny"})
    assert (part.folder, tiny.folder) == ("96", "96-tiny")


def test_face_free_crops_touch_no_face(sources: detector_data.Sources) -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    image[150:250, 150:250] = 255
    one = Real(image, labels([[150, 150, 250, 250]]), np.zeros((0, 4), np.float32))
    crops = detector_data.empty_crops([one], np.random.default_rng(0), 20)
    assert len(crops) == 20
    assert all(crop.max() == 0 for crop in crops)


def test_the_evaluations_people_are_nobody_elses() -> None:
    names = {"csusa_portraits": "gov_a.jpg", "faker_synth": "male_10.jpg", "congress225": "A000022.jpg"}
    rows = [{"set": name, "file": f"{name}/{file}"} for name, file in names.items()]
    assert [detector_data.held_out(row) for row in rows] == [True, True, False]
    assert not detector_data.held_out({"set": "faker_synth", "file": "faker_synth/male_11.jpg"})
    assert not detector_data.held_out({"set": "csusa_portraits", "file": "csusa_portraits/house_b.jpg"})


def test_missing_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"index\.csv: no index of portraits"):
        detector_data.read_people(recipe(tmp_path))
    with pytest.raises(InputError, match="no backgrounds"):
        detector_data.read_places(recipe(tmp_path))
    with pytest.raises(InputError, match=r"train\.txt: no such list"):
        read_list(tmp_path / "detect" / "train.txt")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["train", "none.yaml", "--out", "nowhere"], "none.yaml: cannot be read (No such file or directory)"),
        (["--recipe", "none.yaml"], "none.yaml: cannot be read (No such file or directory)"),
        (["export", "nowhere/last.pt", "--out", "nowhere.onnx"], "nowhere/last.pt: no checkpoint"),
        (["eval", FIRST, "--only", "nobody"], "nobody: no such detector; choose from"),
        (["export", "nowhere/last.pt", "--out", "engines/yolov8n-face.onnx"], "exists already; name another file"),
    ],
)
def test_the_command_ends_with_one_line_and_code_2(words: list[str], what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "train.detector", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert what in lines[0]
    assert "Traceback" not in done.stderr
