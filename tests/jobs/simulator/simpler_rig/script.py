"""A policy for one start of one task: the way of the hand as it is written down here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.common.policy.robot_interface import RobotInterface, RobotObservation

NEAR = 0.01
"""Metres from a point at which it is reached."""


@dataclass(frozen=True)
class Way:
    """Points of the tool in the robot's base frame, one after the other: x, y, z (m) and gripper (1 open).

    gripper_steps  are waited where the gripper changes
    gain, fastest  of the motion that is asked for: part of what is left, metres a step
    """

    points: tuple[tuple[float, float, float, float], ...]
    gripper_steps: int
    gain: float
    fastest: float


STACK = Way(
    (
        (0.357, 0.078, 0.12, 1.0),
        (0.357, 0.078, 0.02, 1.0),
        (0.357, 0.078, 0.02, 0.0),
        (0.357, 0.078, 0.12, 0.0),
        (0.357, -0.022, 0.12, 0.0),
        (0.357, -0.022, 0.055, 0.0),
        (0.357, -0.022, 0.055, 1.0),
        (0.357, -0.022, 0.15, 1.0),
    ),
    gripper_steps=4,
    gain=0.7,
    fastest=0.018,
)
"""The WidowX stacks the cubes of start 0. SimplerEnv puts the green one at (-0.21, -0.05) in the world, the yellow one
at (-0.21, 0.05), and the robot at (0.147, 0.028), turned by half."""


class Script:
    """Goes straight to each point, by what the state says."""

    def __init__(self, way: Way, fps: float, state: int) -> None:
        self.interface = RobotInterface("script", ("image",), 96, 90, fps=fps, state=state, chunk=1, action=7)
        self.way, self.at, self._waited = way, 0, 0

    def act(self, observations: Sequence[RobotObservation], seeds: Sequence[int]) -> NDArray[np.float32]:
        """See `Policy.act`; one observation."""
        here = np.asarray(observations[0].state, np.float64)[:3]
        self._waited += 1
        left = self._left(here)
        if self.at < len(self.way.points) - 1 and np.linalg.norm(left) < NEAR and self._waited > self._pause():
            self.at, self._waited = self.at + 1, 0
            left = self._left(here)
        length = max(float(np.linalg.norm(left)), 1e-9)
        motion = left / length * min(self.way.fastest, self.way.gain * length)
        return np.array([[[*motion, 0.0, 0.0, 0.0, self.way.points[self.at][3]]]], np.float32)

    def _left(self, here: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array(self.way.points[self.at][:3]) - here

    def _pause(self) -> int:
        points = self.way.points
        return self.way.gripper_steps if self.at and points[self.at][3] != points[self.at - 1][3] else 0
