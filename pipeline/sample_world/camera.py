"""Pinhole cameras: where a point of the world lands in the image, and where a pixel meets the table.

Letters: S image size in pixels (square), M points. Image axes: u to the right, v down, from the top left corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Camera:
    """A camera at `position` looking at `target` (metres); `focal` in image sizes; `up` points up in the image."""

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    focal: float
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)

    @cached_property
    def axes(self) -> NDArray[np.float64]:
        """Unit vectors right, down and forward, [3, 3]."""
        forward = _unit(np.subtract(self.target, self.position))
        right = _unit(np.cross(forward, self.up))
        return np.stack([right, np.cross(forward, right), forward])

    def project(self, points: NDArray[np.floating], size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Image coordinates [M, 2] in pixels and distances [M] in metres of points [M, 3]."""
        local = (np.asarray(points, np.float64) - self.position) @ self.axes.T
        depth = np.maximum(local[:, 2], 0.02)
        return size * (0.5 + self.focal * local[:, :2] / depth[:, None]), depth

    def table_points(self, size: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Where each pixel's ray meets the table: xy [S, S, 2] in metres, and whether it does [S, S]."""
        ticks = ((np.arange(size) + 0.5) / size - 0.5) / self.focal
        right, down, forward = self.axes
        rays = ticks[None, :, None] * right + ticks[:, None, None] * down + forward
        falling = rays[..., 2] < -1e-3
        along = self.position[2] / np.where(falling, -rays[..., 2], 1.0)
        return (np.asarray(self.position[:2]) + along[..., None] * rays[..., :2]).astype(np.float32), falling


def front_camera(pan: float = 0.0) -> Camera:
    """Fixed, oblique, from the viewer's side; `pan` moves it sideways, in metres."""
    return Camera((pan, -0.5, 0.85), (pan, 0.34, 0.1), focal=1.15)


def wrist_camera(state: NDArray[np.float32]) -> Camera:
    """Rides on the gripper behind the fingers, looks down past them and turns with it."""
    x, y, z, yaw = float(state[0]), float(state[1]), float(state[2]), float(state[5])
    ahead = np.array([-np.sin(yaw), np.cos(yaw)])
    place = np.array([x, y]) - 0.28 * ahead
    look = np.array([x, y]) + 0.02 * ahead
    return Camera((float(place[0]), float(place[1]), z + 0.28), (float(look[0]), float(look[1]), z - 0.1), focal=0.8)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)
