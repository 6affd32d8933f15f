"""Where LIBERO-Plus puts the third-person camera.

One after the other: up and around about a place above the middle of the scene, away from that place, and the camera's
own direction aside and down. Each result is rounded to four decimals, as in its scenes, also where nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from .names import View

PIVOT = np.array([0.0, 0.0, 0.8])
"""Metres; the same in all scenes."""

DECIMALS = 4


def viewpoint(place: Sequence[float], quaternion: Sequence[float], view: View) -> tuple[np.ndarray, np.ndarray]:
    """A camera's place float64 [3] in metres and quaternion float64 [4], w first, of length 1 to about four decimals.

    Args:
        place: of LIBERO's camera, metres.
        quaternion: of LIBERO's camera, w first.
        view: what is changed.
    """
    at, turned = np.array(place, np.float64), np.array(quaternion, np.float64)
    if view.up:
        up = _about("y", -view.up)
        at, turned = _rounded(PIVOT + up.apply(at - PIVOT)), _turned(turned, up)
    around = _about("z", view.around)
    at, turned = _rounded(around.apply(at)), _turned(turned, around)
    if view.distance != 100:
        at = _rounded(PIVOT + view.distance / 100 * (at - PIVOT))
    if view.aside:
        turned = _turned(turned, _about("z", view.aside))
    if view.down:
        turned = _turned(turned, _about("y", -view.down))
    return at, turned


def _about(axis: str, degrees: float) -> Rotation:
    return Rotation.from_euler(axis, degrees, degrees=True)


def _turned(quaternion: np.ndarray, by: Rotation) -> np.ndarray:
    return _rounded(np.roll((by * Rotation.from_quat(np.roll(quaternion, -1))).as_quat(), 1))


def _rounded(values: np.ndarray) -> np.ndarray:
    """By Python's own rounding, which differs from NumPy's at ties."""
    return np.array([round(float(value), DECIMALS) for value in values])
