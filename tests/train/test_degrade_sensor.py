"""The sensor's and the recorder's cameras: what they return lines up with the truth, repeats, and is degraded."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from stream_enhance.imaging.crop import cut
from tests.train.portraits import draw
from train import degrade_held_out, degrade_sensor
from train.common.images import Image
from train.degrade_held_out import reduce_noise
from train.degrade_sensor import Processor, process

SIDE, CENTER, HEIGHT = 200, (100.0, 106.0), 144.0


def filmed(module: ModuleType, seed: int) -> Any:
    rng, image = np.random.default_rng(seed), draw(1, SIDE)
    if module is degrade_sensor:
        return degrade_sensor.film(image, CENTER, HEIGHT, rng, face_px=48.0)
    return degrade_held_out.record(image, CENTER, HEIGHT, 48.0, rng)


def distance(a: Image, b: Image) -> float:
    return float(np.abs(a.astype(np.float32) - b).mean())


@pytest.mark.parametrize("module", [degrade_sensor, degrade_held_out])
def test_the_same_seed_gives_the_same_frame_and_another_gives_another(module: ModuleType) -> None:
    first = filmed(module, 3)
    assert np.array_equal(first.frame, filmed(module, 3).frame)
    assert not np.array_equal(first.frame, filmed(module, 4).frame)


@pytest.mark.parametrize("module", [degrade_sensor, degrade_held_out])
def test_the_frame_lies_where_its_affine_says(module: ModuleType) -> None:
    """Shifted by three pixels either way, the truth fits worse."""
    right = wrong = 0.0
    for seed in range(6):
        seen = filmed(module, seed)
        clean = seen.clean if module is degrade_sensor else draw(1, SIDE)
        side = len(seen.frame)
        right += distance(seen.frame, cut(clean, seen.to_clean, side))
        away = []
        for step in ((3, 0), (-3, 0), (0, 3), (0, -3)):
            affine = seen.to_clean.copy()
            affine[:, 2] += affine[:, :2] @ np.array(step, np.float32)
            away.append(distance(seen.frame, cut(clean, affine, side)))
        wrong += min(away)
    assert 0.5 < right / 6 < wrong / 6


def test_recursive_noise_reduction_leaves_a_ghost_of_what_has_gone() -> None:
    dark, bright = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 104, np.uint8)
    still = Processor(temporal=0.5, threshold=20, spatial=0, chroma=0, sharpen=0, radius=1)
    assert 101 <= process([dark, bright], still)[-1].mean() <= 103
    assert process([dark, bright], Processor(0, 20, 0, 0, 0, 1))[-1].mean() == 104


def test_blocks_that_move_keep_no_ghost() -> None:
    dark, bright = np.full((16, 16, 3), 20, np.uint8), np.full((16, 16, 3), 220, np.uint8)
    camera = degrade_held_out.draw_camera(32, np.random.default_rng(0))
    camera = type(camera)(**{**vars(camera), "ghosting": 0.8, "still_below": 5.0})
    assert reduce_noise([dark, bright], camera)[-1].mean() == 220
    assert 20 < reduce_noise([dark, dark + 4], camera)[-1].mean() < 24


def test_light_survives_its_round_trip() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert np.array_equal(degrade_held_out.from_light(degrade_held_out.to_light(values)), values)
