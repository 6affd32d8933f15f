"""Rotations as datasets store them -> rotation vectors. N frames.

A vector's angle lies in 0..pi, so that it says the rotation alone: a quaternion q and -q, which are one rotation, give
one vector. At half a turn, where two vectors are one rotation, it is that whose first component is positive. So a
motion through half a turn makes the vector jump to nearly its negative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pipeline.errors import EpisodeError

ROTATION_GRID = 2.0**24
"""Rotation vectors are rounded to multiples of 1 / 2^24 radian (6e-8), far coarser than what two ways to compute one
differ by, so that none of their bits depends on the way, or is free to carry something else."""


def from_euler(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles about the fixed axes x, y, z, radians [N, 3] -> rotation vectors on the grid, [N, 3]."""
    return _rounded(Rotation.from_euler("xyz", angles))


def from_quaternion(values: NDArray[np.float64], field: str) -> NDArray[np.float64]:
    """Quaternions x, y, z, w, [N, 4] -> rotation vectors on the grid, [N, 3].

    Raises:
        EpisodeError: "bad-rotation": a length is not near 1; the message names the field.
    """
    return _rounded(_turns(values, field))


def pose_difference(target: NDArray[np.float64], base: NDArray[np.float64], field: str) -> NDArray[np.float64]:
    """From one pose to another, float64 [N, 6] each: x, y, z and Euler angles about the fixed axes x, y, z; or [N, 7]
    each: x, y, z and a quaternion x, y, z, w.

    Returns:
        float64 [N, 6]: target - base, and the rotation vector of R(target) R(base)^-1, both in the base frame of the
        robot (as `pose_diff` of DROID's own transformations does), that on the grid of ROTATION_GRID.

    Raises:
        EpisodeError: "bad-rotation": as `from_quaternion`.
    """
    turned = _turns(target[:, 3:], field) * _turns(base[:, 3:], field).inv()
    return np.concatenate([target[:, :3] - base[:, :3], _rounded(turned)], axis=1)


def _turns(values: NDArray[np.float64], field: str) -> Rotation:
    """Of angles [N, 3], or quaternions [N, 4]."""
    if values.shape[1] == 3:
        return Rotation.from_euler("xyz", values)
    length = np.linalg.norm(values, axis=1)
    if (np.abs(length - 1) > 0.05).any():
        frame = int(np.abs(length - 1).argmax())
        raise EpisodeError("bad-rotation", f"{field} at frame {frame} has length {length[frame]:.3g}, a rotation has 1")
    return Rotation.from_quat(values)


def _rounded(turns: Rotation) -> NDArray[np.float64]:
    vectors: NDArray[np.float64] = np.rint(turns.as_rotvec() * ROTATION_GRID) / ROTATION_GRID
    return vectors
