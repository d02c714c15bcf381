"""Occluders hide what they should, leave the rest alone, and give faces that training reads."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_enhance.imaging.crop import TEMPLATE
from tests.train.portraits import draw, write_folder
from train.common.images import Image
from train.enhancer.cli import main
from train.enhancer.data import read_index
from train.enhancer.occlude import SHARES, Kind, occlude

SIDE = 200
FIVE = (TEMPLATE * SIDE).astype(np.float32)


def changed(kind: Kind, seed: int = 0, texture: Image | None = None) -> NDArray[np.int_]:
    """(H, W): how far each pixel of a drawn face moved."""
    face = draw(1, SIDE)
    return np.asarray(np.abs(occlude(face, FIVE, kind, np.random.default_rng(seed), texture).astype(int) - face).sum(2))


@pytest.mark.parametrize("kind", get_args(Kind))
def test_something_is_hidden_and_most_of_the_image_is_not(kind: Kind) -> None:
    moved = changed(kind) > 15
    assert 0.005 < moved.mean() < 0.5


def test_a_mask_hides_the_mouth_and_not_the_eyes() -> None:
    for seed in range(8):
        moved = changed("mask", seed)
        mouth = FIVE[3:].mean(0).astype(int)
        assert moved[mouth[1] + 4, mouth[0]] > 15
        for x, y in FIVE[:2].astype(int):
            assert moved[y, x] == 0


def test_sunglasses_hide_both_eyes_only() -> None:
    moved = changed("sunglasses")
    x, y = FIVE[3:].mean(0).astype(int)
    assert moved[y, x] == 0
    assert all(moved[y + 4, x + 9] > 15 for x, y in FIVE[:2].astype(int))


def test_an_object_shows_its_texture() -> None:
    texture = np.zeros((8, 8, 3), np.uint8)
    texture[..., 1] = 255
    out = occlude(draw(1, SIDE), FIVE, "object", np.random.default_rng(0), texture)
    assert (out == [0, 255, 0]).all(2).mean() > 0.002


def test_the_shares_are_all_of_the_kinds() -> None:
    assert set(SHARES) == set(get_args(Kind))
    assert sum(SHARES.values()) == pytest.approx(1)


def test_the_command_writes_faces_that_training_reads(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "faces", people=4)
    order = ["occlude", "--faces", str(folder), "--held-out", "0", "--count", "5", "--out", str(tmp_path / "out")]
    assert main(order) == 0
    people = {p.person for p in read_index(folder)}
    found = read_index(tmp_path / "out")
    assert len(found) == 5
    assert {p.person for p in found} <= people
    assert main(order) == 2  # it is there already
