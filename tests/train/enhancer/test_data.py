"""Pairs are aligned as the runtime aligns them, people are kept apart, and bad images are named."""

from pathlib import Path

import numpy as np
import pytest

from stream_enhance.errors import InputError
from stream_enhance.imaging.crop import TEMPLATE
from tests.train import portraits
from train.common.drawn_faces import POINTS
from train.degrade import Ranges
from train.enhancer import data, shards
from train.enhancer.cli import main

MILD = Ranges(chance=dict.fromkeys(Ranges().chance, 0.0), face_px=(90, 96), tilt_degrees=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portraits.write_folder(tmp_path_factory.mktemp("faces") / "all", people=8)


def test_low_and_clean_show_the_same_thing_at_the_same_place(folder: Path) -> None:
    pairs = data.FolderPairs(data.read_faces(folder), 128, MILD, augment=False)
    pair = pairs.pair(0, np.random.default_rng(0))
    assert pair.low.shape == pair.clean.shape == (128, 128, 3)
    assert np.corrcoef(pair.low.ravel(), pair.clean.ravel())[0, 1] > 0.97
    assert np.allclose(pair.points, TEMPLATE * 128 - 0.5, atol=1.0)


def test_a_mirrored_pair_is_mirrored_in_both_images_and_its_points(folder: Path) -> None:
    pair = data.FolderPairs(data.read_faces(folder), 64, MILD, augment=False).pair(1, np.random.default_rng(0))
    other = data.mirrored(pair)
    assert np.array_equal(other.low, pair.low[:, ::-1])
    assert np.array_equal(other.clean, pair.clean[:, ::-1])
    assert other.points[0, 0] == pytest.approx(63 - pair.points[1, 0])
    assert np.allclose(data.mirrored(other).points, pair.points)


def test_light_changes_both_images_alike() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    pair = data.tinted(data.Pair(image, image.copy(), np.zeros((5, 2), np.float32)), np.random.default_rng(4))
    assert np.array_equal(pair.low, pair.clean)
    assert not np.array_equal(pair.low, image)


def test_nobody_is_on_both_sides_of_the_split(tmp_path: Path) -> None:
    faces = data.read_faces(portraits.write_folder(tmp_path / "f", people=10, each=3, side=80))
    seen, unseen = data.split(faces, 0.2)
    assert len(seen) == 24
    assert len(unseen) == 6
    assert not {p.person for p in seen} & {p.person for p in unseen}
    assert {p.path for p in data.split(faces[::-1], 0.2)[1]} == {p.path for p in unseen}


def test_one_person_cannot_be_split(tmp_path: Path) -> None:
    faces = data.read_faces(portraits.write_folder(tmp_path / "f", people=1, each=3, side=80))
    with pytest.raises(InputError, match="1 people cannot be split"):
        data.split(faces)


def test_corrupt_and_small_images_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = portraits.write_folder(tmp_path / "f", people=4, side=100)
    (root / "drawn/1_0.png").write_bytes(b"no image")
    lines = (root / "index.csv").read_text().splitlines()
    small = lines[3].split(",")
    small[5] = "20"
    (root / "index.csv").write_text("\n".join([*lines[:3], ",".join(small), *lines[4:]]))
    kept = data.usable(data.read_faces(root))
    assert [p.path.name for p in kept] == ["0_0.png", "3_0.png"]
    assert "1_0.png: not an image" in caplog.text
    assert "2_0.png: its face is 20 pixels high" in caplog.text
    assert "2 of 4 images left out" in caplog.text


def test_an_empty_folder_and_a_missing_one_are_errors(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        data.read_faces(tmp_path / "empty")
    with pytest.raises(InputError, match="no such folder"):
        data.read_faces(tmp_path / "nowhere")


def test_shards_give_back_what_was_degraded(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    main(["shards", "--faces", str(folder), "--out", str(out), "--count", "12", "--held-out", "0.25"])
    pairs = shards.ShardPairs(out, 64, augment=False)
    assert len(pairs) == 12
    for index in range(12):
        seen, points = pairs.seen(index)
        assert np.allclose(points, TEMPLATE * 200, atol=0.01)
        assert 16 <= seen.face_px <= 96
        middle = data.points_in(seen.to_clean, points).mean(0) / seen.frame.shape[0]
        assert np.all(np.abs(middle - 0.5) < 0.1)
    a, b = (pairs.pair(3, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(a.low, b.low)
    assert np.array_equal(a.clean, b.clean)


def test_fresh_samples_are_nearly_good_faces_in_the_same_light(folder: Path, tmp_path: Path) -> None:
    main(["shards", "--faces", str(folder), "--out", str(tmp_path), "--count", "8", "--held-out", "0.25"])
    pairs = shards.ShardPairs([tmp_path, tmp_path], 128, augment=False, fresh=0.999)
    assert len(pairs) == 16
    for index in range(16):
        pair = pairs.pair(index, np.random.default_rng(index))
        apart = pair.low.astype(np.float64) - pair.clean
        assert np.abs(apart.mean((0, 1))).max() < 6
        assert (apart**2).mean() < 0.5 * max(pair.clean.var(), 40)


@pytest.mark.parametrize(("text", "named"), [("noise: 3", "noise"), ("face_px: [", "not YAML"), (None, "No such file")])
def test_ranges_that_cannot_be_used_are_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, named: str
) -> None:
    path = tmp_path / "ranges.yaml"
    if text is not None:
        path.write_text(text)
    assert main(["shards", "--faces", str(folder), "--out", str(tmp_path / "s"), "--ranges", str(path)]) == 2
    assert named in capsys.readouterr().err


def test_jostled_points_keep_their_shape() -> None:
    points = (TEMPLATE * 200).astype(np.float32)
    moved = [data.jostled(points, np.random.default_rng(k), share=1) for k in range(50)]
    apart = [np.linalg.norm(m[0] - m[1]) / np.linalg.norm(m[0] - m[4]) for m in moved]
    assert np.allclose(apart, apart[0], atol=1e-4)
    assert np.ptp([m[0, 0] for m in moved]) > 4


def test_no_shards_is_an_error_that_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"python -m train\.enhancer shards"):
        shards.ShardPairs(tmp_path)


def test_faces_that_are_alike_are_one_person() -> None:
    near = np.array([[1, 0, 0], [0.9, 0.3, 0], [0, 0, 1], [0.05, 0, 1]], np.float32)
    labels = data.same_people(near, 0.8)
    assert labels[0] == labels[1] != labels[2] == labels[3]


def test_heatmaps_peak_at_the_points() -> None:
    maps = data.heatmaps((TEMPLATE * 64).astype(np.float32), 64)
    assert maps.shape == (4, 64, 64)
    row, column = np.unravel_index(maps[2].argmax(), (64, 64))
    assert (column, row) == pytest.approx(TEMPLATE[2] * 64, abs=0.6)
    assert maps.max() <= 1


def write_scface(root: Path, people: int = 5) -> None:
    import csv

    import cv2

    for folder in ("mugshot_frontal_original_all", "surveillance_cameras_all"):
        (root / folder).mkdir(parents=True)
    rows = []
    for person in range(1, people + 1):
        files = {f"mugshot_frontal_original_all/{person:03d}_frontal.jpg": 200}
        files |= {f"surveillance_cameras_all/{person:03d}_cam{k}_{d}.jpg": 40 for k in (1, 5, 6) for d in (1, 3)}
        for name, side in files.items():
            cv2.imwrite(str(root / name), portraits.draw(person, side)[:, :, ::-1])
            rows.append([name, *(TEMPLATE * side).ravel()])
    with open(root / "points.csv", "w", newline="") as file:
        csv.writer(file).writerows([["file", *(f"{p}_{a}" for p in POINTS for a in "xy")], *rows])


def test_scface_is_read_as_its_owners_lay_it_out(tmp_path: Path) -> None:
    from train.enhancer.scface import ScfacePairs, read_scface

    write_scface(tmp_path)
    seen, unseen = read_scface(tmp_path, infrared=False, held_out=0.2)
    assert (len(seen), len(unseen)) == (16, 4)
    assert not {m.person for m in seen} & {m.person for m in unseen}
    assert all("cam6" not in m.probe.name for m in seen + unseen)
    assert len(read_scface(tmp_path, infrared=True, held_out=0.2)[0]) == 24
    pair = ScfacePairs(seen, 96).pair(0, np.random.default_rng(0))
    assert np.corrcoef(pair.low.ravel(), pair.clean.ravel())[0, 1] > 0.8  # aligned, though differently large


def test_another_layout_than_scfaces_is_an_error(tmp_path: Path) -> None:
    from train.enhancer.scface import read_scface

    with pytest.raises(InputError, match="mugshot_frontal_original_all"):
        read_scface(tmp_path, infrared=False)
