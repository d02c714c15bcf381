"""Yaw and pitch of faces from their five points."""

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_enhance.imaging import crop
from stream_enhance.imaging.pose import NOSE_AHEAD, NOSE_ASIDE, NOSE_DOWN, yaw_pitch


def turned(yaw: float, pitch: float, tilt: float = 0.0, side: float = 40.0) -> NDArray[np.float32]:
    """Five points of a face of the module's own proportions, seen from far away; degrees."""
    y, p, t = np.radians([yaw, pitch, tilt])
    eye, height = 1.0, 1.2
    across = eye / 2 * np.cos(y)
    down = height * np.cos(p)
    nose = [NOSE_ASIDE * eye * np.sin(y), NOSE_DOWN * down + NOSE_AHEAD * height * np.sin(p)]
    points = np.array([[-across, 0], [across, 0], nose, [-across * 0.8, down], [across * 0.8, down]]) * side
    turn = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    turned_points: NDArray[np.float32] = (points @ turn.T + 100).astype(np.float32)[None]
    return turned_points


@pytest.mark.parametrize("yaw", [-60.0, -20.0, 0.0, 35.0])
@pytest.mark.parametrize("pitch", [-30.0, 0.0, 25.0])
@pytest.mark.parametrize("tilt", [-40.0, 0.0, 15.0])
def test_angles_come_back_whatever_the_tilt(yaw: float, pitch: float, tilt: float) -> None:
    found = yaw_pitch(turned(yaw, pitch, tilt))
    assert found[0][0] == pytest.approx(yaw, abs=0.01)
    assert found[1][0] == pytest.approx(pitch, abs=0.01)


def test_size_does_not_matter() -> None:
    small, large = (yaw_pitch(turned(30, 10, 5, side)) for side in (6.0, 600.0))
    assert np.allclose(small, large, atol=1e-3)


def test_the_frontal_template_is_nearly_frontal() -> None:
    yaw, pitch = yaw_pitch(crop.TEMPLATE[None] * 100)
    assert abs(yaw[0]) < 0.1
    assert abs(pitch[0]) < 12


def test_points_that_coincide_give_finite_angles() -> None:
    yaw, pitch = yaw_pitch(np.full((2, 5, 2), 7.0, np.float32))
    assert yaw.tolist() == [0, 0]
    assert np.isfinite(pitch).all()


def test_no_faces() -> None:
    yaw, pitch = yaw_pitch(np.zeros((0, 5, 2), np.float32))
    assert yaw.shape == pitch.shape == (0,)
