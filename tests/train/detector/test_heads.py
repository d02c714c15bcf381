"""Heads turned in depth: where face and points go, and what is seen of them."""

import numpy as np
import pytest

from stream_enhance.imaging.crop import TEMPLATE
from tests.train import portraits
from train.detector.boxes import labels
from train.detector.data.heads import turned_head
from train.detector.data.people import Cutout, cut_out


@pytest.fixture(scope="module")
def someone() -> Cutout:
    return cut_out(portraits.draw(1), np.array([52.0, 42.0, 96.0, 136.0]), TEMPLATE * 200)


def turned(someone: Cutout, yaw: float, pitch: float) -> Cutout:
    return turned_head(someone, yaw, pitch, np.random.default_rng(0))


def test_an_unturned_head_is_where_it_was(someone: Cutout) -> None:
    straight = turned(someone, 0, 0)
    assert np.abs(straight.face.xyxy - someone.face.xyxy).max() < 2
    assert np.abs(straight.face.points[0, [0, 1, 3, 4]] - someone.face.points[0, [0, 1, 3, 4]]).max() < 1
    x, y = someone.face.points[0, 0, :2].astype(int)
    assert (
        np.abs(
            straight.rgb[y - 3 : y + 4, x - 3 : x + 4].astype(int) - someone.rgb[y - 3 : y + 4, x - 3 : x + 4]
        ).mean()
        < 30
    )


@pytest.mark.parametrize("side", [1, -1])
def test_a_head_turned_aside_shows_one_eye_and_a_narrow_face(someone: Cutout, side: int) -> None:
    straight, profile = turned(someone, 0, 0).face, turned(someone, side * 1.35, 0).face
    assert side * (profile.points[0, 2, 0] - straight.points[0, 2, 0]) > 10, (
        "the nose goes to the side that the head is turned to"
    )
    far = 1 if side > 0 else 0
    assert profile.points[0, far].tolist() == [0, 0, 0], "the other eye is out of sight"
    assert profile.points[0, 1 - far, 2] == 1
    assert np.ptp(profile.xyxy[0, [0, 2]]) < 0.75 * np.ptp(straight.xyxy[0, [0, 2]])


def test_a_bowed_head_shows_hair_and_its_face_low(someone: Cutout) -> None:
    straight, bowed = turned(someone, 0, 0), turned(someone, 0, 0.7)
    assert (bowed.face.points[0, :3, 1] > straight.face.points[0, :3, 1] + 5).all()
    assert np.ptp(bowed.face.xyxy[0, [1, 3]]) < np.ptp(straight.face.xyxy[0, [1, 3]])
    x, y = (int(v) for v in straight.face.points[0, :2, :2].mean(0))
    brow = np.s_[y - 25 : y - 15, x - 5 : x + 5]
    assert bowed.rgb[brow].mean() < straight.rgb[brow].mean() - 15, "where the brow was is hair, which is darker"


def test_backs_of_heads_stay_and_chance_is_the_generators(someone: Cutout) -> None:
    behind = Cutout(someone.rgb, someone.alpha, labels())
    assert turned(behind, 1.0, 0.5) is behind
    assert np.array_equal(turned(someone, 0.8, 0.3).rgb, turned(someone, 0.8, 0.3).rgb)
