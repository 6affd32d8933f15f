"""Rotations as unit quaternions, float64 [N, 4] in the order w, x, y, z."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SMALL = 1e-4
"""Sine of half an angle below which angle / sine is taken from its series: 2 + s^2 / 3, wrong by 1e-17 there."""


def from_euler(angles: Array) -> Array:
    """Turns about the fixed axes x, then y, then z, radians [N, 3]: R = Rz(c) Ry(b) Rx(a)."""
    x, y, z = (_about(axis, angles[:, axis]) for axis in range(3))
    return product(z, product(y, x))


def from_xyzw(values: Array) -> Array:
    """Quaternions with the real part last, [N, 4], of any length.

    Raises:
        ValueError: one has no length.
    """
    length = np.linalg.norm(values, axis=1, keepdims=True)
    if not (length > 1e-6).all():
        raise ValueError(f"the quaternion of row {int(np.argmin(length))} has no length")
    return (values / length)[:, [3, 0, 1, 2]]


def to_vector(turns: Array) -> Array:
    """Axis times angle, radians [N, 3]; the angle lies in 0..pi, and the first component of half a turn is positive."""
    # q and -q are one rotation: the one whose first number is positive turns by pi at most
    first = np.take_along_axis(turns, np.argmax(turns != 0, axis=1, keepdims=True), axis=1)
    shortest = np.where(first < 0, -turns, turns)
    sine = np.linalg.norm(shortest[:, 1:], axis=1, keepdims=True)
    angle = 2 * np.arctan2(sine, shortest[:, :1])
    large = sine > _SMALL
    return shortest[:, 1:] * np.where(large, angle / np.where(large, sine, 1), 2 + sine**2 / 3)


def product(left: Array, right: Array) -> Array:
    """The right rotation, then the left one: R(left) R(right)."""
    w, v = left[:, :1], left[:, 1:]
    u, r = right[:, :1], right[:, 1:]
    real = w * u - (v * r).sum(axis=1, keepdims=True)
    return np.concatenate([real, w * r + u * v + np.cross(v, r)], axis=1)


def inverse(turns: Array) -> Array:
    """The rotation back."""
    return turns * np.array([1.0, -1.0, -1.0, -1.0])


def _about(axis: int, angles: Array) -> Array:
    turns = np.zeros((len(angles), 4))
    turns[:, 0], turns[:, 1 + axis] = np.cos(angles / 2), np.sin(angles / 2)
    return turns
