"""The camera and the bad images of LIBERO-Plus. That they are its own is checked beside its code, in `plus_rig`."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.simulator.libero_plus.bad_images import SIZE, behind_glass, blurred, cloud, motion, spoiled
from jobs.simulator.libero_plus.names import View
from jobs.simulator.libero_plus.viewpoint import PIVOT, viewpoint

PLACE = (0.65861317, 0.0, 1.61035002)
QUATERNION = (0.63801777, 0.30484974, 0.30484986, 0.63801777)


def test_without_a_change_the_camera_is_rounded() -> None:
    place, turned = viewpoint(PLACE, QUATERNION, View())
    assert place.tolist() == [0.6586, 0.0, 1.6104]
    assert turned.tolist() == [0.638, 0.3048, 0.3048, 0.638]


def test_around_turns_camera_and_direction_about_the_vertical() -> None:
    place, turned = viewpoint(PLACE, QUATERNION, View(around=90))
    np.testing.assert_allclose(place, [0, 0.6586, 1.6104], atol=1e-4)
    x, y, z = _looks(np.array(QUATERNION))
    np.testing.assert_allclose(_looks(turned), [-y, x, z], atol=1e-3)


def test_up_raises_it_about_the_pivot_at_the_same_distance() -> None:
    place, _ = viewpoint(PLACE, QUATERNION, View(up=15))
    assert place[2] > PLACE[2] + 0.1
    assert np.linalg.norm(place - PIVOT) == pytest.approx(np.linalg.norm(np.array(PLACE) - PIVOT), abs=1e-3)


def test_distance_is_from_the_pivot_and_keeps_the_direction() -> None:
    place, turned = viewpoint(PLACE, QUATERNION, View(distance=200))
    np.testing.assert_allclose(place - PIVOT, 2 * (np.array([0.6586, 0, 1.6104]) - PIVOT), atol=1e-4)
    assert turned.tolist() == [0.638, 0.3048, 0.3048, 0.638]


def test_aside_and_down_turn_the_camera_where_it_is() -> None:
    before = _looks(np.array(QUATERNION))
    for view in (View(aside=10), View(down=10)):
        place, turned = viewpoint(PLACE, QUATERNION, view)
        assert place.tolist() == [0.6586, 0.0, 1.6104]
        degrees = np.degrees(np.arccos(np.clip(_looks(turned) @ before, -1, 1)))
        assert 5 < degrees < 10.1


def _looks(quaternion: np.ndarray) -> np.ndarray:
    """Where a camera looks: against its own z axis."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return -np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    rows, columns = np.indices((SIZE, SIZE))
    return np.stack([rows, columns, (rows + columns) // 2], -1).astype(np.uint8)


@pytest.mark.parametrize("noise", [1, 10, 11, 20, 21, 30, 31, 40, 41, 50])
def test_each_noise_changes_an_image_and_is_repeatable(image: np.ndarray, noise: int) -> None:
    once, again = (spoiled(image, noise, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert once.dtype == np.uint8
    assert once.shape == image.shape
    assert (once != image).any()


def test_noise_grows_with_its_number() -> None:
    sharp = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    for first in (1, 11, 21, 41):
        weak, strong = (spoiled(sharp, noise, np.random.default_rng(3)).std() for noise in (first, first + 9))
        assert strong < weak < sharp.std()


def test_noise_is_for_images_of_256_pixels_alone() -> None:
    with pytest.raises(ValueError, match=r"images of 256 x 256 pixels, got \[128, 128, 3\]"):
        spoiled(np.zeros((128, 128, 3), np.uint8), 1, np.random.default_rng(0))


def test_motion_trails_in_one_direction() -> None:
    dot = np.zeros((SIZE, SIZE, 3), np.uint8)
    dot[100, 100] = 255
    rows, columns = np.nonzero(motion(dot, 5, 2, degrees=0)[..., 0])
    assert set(rows) == {100}
    assert columns.max() == 100
    assert columns.min() < 97


def test_the_cloud_is_from_0_to_1_and_finer_where_it_decays_less() -> None:
    smooth, rough = (cloud(decay, np.random.default_rng(1)) for decay in (3.0, 1.3))
    for found in (smooth, rough):
        assert (found.min(), found.max()) == (0, 1)
    assert np.abs(np.diff(rough, axis=0)).mean() > 2 * np.abs(np.diff(smooth, axis=0)).mean()


def test_glass_reaches_224_pixels_from_the_first(image: np.ndarray) -> None:
    values = image / 255.0
    changed = behind_glass(values, 0.5, 2, 1, np.random.default_rng(0)) - _twice_blurred(values, 0.5)
    assert np.abs(changed[10:200, 10:200]).max() > 0.005
    assert np.abs(changed[235:]).max() < 1e-6
    assert np.abs(changed[:, 235:]).max() < 1e-6


def _twice_blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    return blurred((blurred(values, sigma) * 255).astype(np.uint8) / 255.0, sigma)
