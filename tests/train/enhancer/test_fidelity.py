"""The fidelity measurement rewards what nears the truth, counts harm and painted faces, and says what is missing."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stream_enhance.errors import InputError
from tests.train import portraits
from train.common.images import Image
from train.enhancer import fidelity
from train.enhancer.cli import main
from train.enhancer.data import read_faces
from train.enhancer.fidelity import clean_faces, groups, measure, painted, rank_one, summary
from train.enhancer.film import Faces, film_faces, load

pytest.importorskip("onnx")

from tests.train.enhancer.test_evaluate import write_enhancer


def embed(patches: Sequence[Image]) -> NDArray[np.float32]:
    """Coarse colours, less their mean, as unit vectors: an embedder of three lines."""
    small = np.stack([cv2.resize(p, (8, 8), interpolation=cv2.INTER_AREA).ravel() for p in patches]).astype(np.float32)
    small -= small.mean(1, keepdims=True)
    return small / np.linalg.norm(small, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portraits.write_folder(tmp_path_factory.mktemp("fidelity") / "faces", people=4)


@pytest.fixture(scope="module")
def faces(folder: Path) -> Faces:
    return film_faces(read_faces(folder), (24, 48))


def test_filming_gives_each_face_at_each_size_with_its_truth(faces: Faces) -> None:
    assert faces.low.shape == faces.clean.shape == (8, 256, 256, 3)
    assert faces.px.tolist() == [24, 48] * 4
    assert not np.array_equal(faces.low, faces.clean)


def test_the_truth_gains_and_noise_harms(faces: Faces) -> None:
    truth = measure(faces, lambda low: faces.clean, ("0.5", "1.0"), {"coarse": embed})
    found = summary(faces, truth, ("0.5", "1.0"))["24"]
    assert found["1.0"]["psnr"][0] > found["0.5"]["psnr"][0] > 0
    assert found["1.0"]["coarse"][0] > 0
    assert found["1.0"]["harm coarse"][0] == 0
    assert found["1.0"]["rank1 coarse"] == 1
    noise = np.random.default_rng(0).integers(0, 256, faces.low.shape, dtype=np.uint8)
    noisy = measure(faces, lambda low: noise, ("1.0",), {"coarse": embed})
    found = summary(faces, noisy, ("1.0",))["24"]["1.0"]
    assert found["psnr"][2] < 0
    assert found["harm coarse"][0] == 1


def test_the_table_is_a_strength_of_each_face_by_its_size_and_sharpness(faces: Faces) -> None:
    table = measure(faces, lambda low: faces.clean, ("table", "0.7"), {})["psnr"]
    assert (table[:, 0] < table[:, 1]).all()
    assert (table[:, 1] <= table[:, 2] + 0.01).all(), "0.7 at most"
    sharp = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    assert fidelity.share_of(sharp, 200) == 0


def test_rank_one_counts_only_the_right_person(faces: Faces) -> None:
    vectors = np.zeros((8, 2, 4))
    for k in range(8):
        vectors[k, 0, k // 2] = 1  # the truth of person k // 2
        vectors[k, 1, (k // 2 + (k >= 4)) % 4] = 1  # the first two people are found, the others taken for the next
    assert rank_one(faces, vectors)[:, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


def test_clean_faces_lose_nothing_where_nothing_is_done(faces: Faces) -> None:
    found = clean_faces(faces, lambda low: low, ("1.0",))
    assert {px: row["1.0"] for px, row in found.items()} == {"64": [0, 0, 0], "96": [0, 0, 0], "128": [0, 0, 0]}


def test_only_squares_that_were_silent_before_count_as_painted() -> None:
    squares = np.stack([np.full((256, 256, 3), v, np.uint8) for v in (10, 10, 200)])
    found = painted(squares, lambda s: s + 50, ("0.2", "1.0"), lambda patch: float(patch.mean() > 40))
    assert found == {"squares": 2, "painted": {"0.2": 0, "1.0": 2}}


def test_groups_follow_the_labels_in_the_names_and_leave_out_small_ones() -> None:
    count = 2 * fidelity.FEWEST
    young = [f"{20 if k % 2 else 60}_{k % 2}_1_x.jpg" for k in range(count)]
    blank = np.zeros((count, 1, 1, 3), np.uint8)
    people = np.array([f"p{k}" for k in range(count)])
    px = np.full(count, 24)
    some = Faces(blank, blank, px, np.arange(count), np.array(["utkface_nc"] * count), np.array(young), people)
    found = {label: int(at.sum()) for label, at in groups(some)}
    assert found["origin Black"] == count
    assert found["sex woman"] == found["age under 25"] == fidelity.FEWEST
    assert not dict(groups(some.only(people == "p1")))


def test_the_commands_film_and_measure(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fidelity, "DlibEmbedder", lambda: embed)
    model, out = write_enhancer(tmp_path / "same.onnx"), tmp_path / "out.json"
    filmed = tmp_path / "faces.npz"
    assert main(["film", "--faces", str(folder), "--sizes", "24", "--out", str(filmed)]) == 0
    order = ["fidelity", "--faces", str(filmed), "--model", f"same={model}", "--dlib", "--json", str(out)]
    assert main(order) == 0
    found = json.loads(out.read_text())["same"]["24"]["1.0"]
    assert found["psnr"] == [0, 0, 0]
    assert found["dlib"] == [0, 0, 0]
    assert "24 px, strength 1.0" in capsys.readouterr().out
    assert main(order) == 2  # the JSON is there already
    assert main([*order, "--overwrite", "--sizes", "99"]) == 2
    assert main([*order, "--overwrite", "--strengths", "table", "much"]) == 2


def test_a_file_that_film_did_not_write_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", low=np.zeros(1))
    with pytest.raises(InputError, match=r"other\.npz: not a set of faces"):
        load(tmp_path / "other.npz")
