"""The world's physics: a gripper that follows its actions, and things it pushes or carries.

Axes: x to the right, y away from the viewer, z up; metres; the table is z = 0. One step is one video frame. The world
is quasi-static: nothing moves unless it is pushed, carried or falls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

STATE_DIM = 8
ACTION_DIM = 7
STATE_NAMES = ("x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z", "finger_left", "finger_right")
ACTION_NAMES = ("delta_x", "delta_y", "delta_z", "delta_roll", "delta_pitch", "delta_yaw", "gripper")

MAX_STEP = 0.05
"""Metres a frame that an action of 1 commands."""
MAX_TURN = 0.08
"""Radians a frame that an action of 1 commands."""
FINGER_SPEED = 0.04
FINGER_RANGE = (0.03, 0.11)
"""Distance of each finger from the middle of the gripper: closed, open."""
GRIP_BELOW = 0.06
"""Fingers closer than this push, and hold what is between them."""
GRIP_RADIUS = 0.05
GRASP_RADIUS = 0.04
FALL_SPEED = 0.08
LOW = np.array([-0.45, -0.02, 0.05], np.float32)
HIGH = np.array([0.45, 0.66, 0.5], np.float32)
"""Corners of the workspace of the gripper."""


@dataclass(frozen=True)
class Thing:
    """An object: `shape` is "cube", "ball" or "can"; radius in metres (half the edge of a cube)."""

    colour: str
    shape: str
    radius: float

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class World:
    """Everything that changes from frame to frame.

    state   float32 [8]: position of the gripper, axis-angle (it turns about z alone), two finger positions
    things  the objects;  places  float32 [M, 3]: their centres
    held    index of the object in the gripper, -1 for none
    """

    state: NDArray[np.float32]
    things: tuple[Thing, ...]
    places: NDArray[np.float32]
    held: int = -1


def advance(state: NDArray[np.float32], action: NDArray[np.float32]) -> NDArray[np.float32]:
    """The robot's next state, float32 [8]: a function of its state and action alone.

    Args:
        state: float32 [8], see `STATE_NAMES`; metres and radians.
        action: float32 [7] in [-1, 1]: motion in units of MAX_STEP and MAX_TURN, gripper -1 to open, +1 to close.
    """
    action = np.clip(action, -1, 1)
    closed, opened = FINGER_RANGE
    following = state.copy()
    following[:3] = np.clip(state[:3] + MAX_STEP * action[:3], LOW, HIGH)
    following[3:6] = state[3:6] + MAX_TURN * action[3:6]
    following[6:] = np.clip(state[6:] - FINGER_SPEED * action[6], closed, opened)
    return following.astype(np.float32)


def step(world: World, action: NDArray[np.float32]) -> World:
    """The world one frame later."""
    state = advance(world.state, action)
    places = world.places.copy()
    gripping = bool(state[6] < GRIP_BELOW)
    held = world.held if gripping else -1
    if held >= 0:
        places[held] += state[:3] - world.state[:3]
    elif gripping:
        held = _grasped(state, places)
        if held < 0:
            _push(state, world.things, places)
    for index, thing in enumerate(world.things):
        if index != held:
            places[index, 2] = max(thing.radius, places[index, 2] - FALL_SPEED)
    return replace(world, state=state, places=places, held=held)


def _grasped(state: NDArray[np.float32], places: NDArray[np.float32]) -> int:
    offsets = np.linalg.norm(places - state[:3], axis=1)
    nearest = int(np.argmin(offsets))
    return nearest if offsets[nearest] < GRASP_RADIUS else -1


def _push(state: NDArray[np.float32], things: tuple[Thing, ...], places: NDArray[np.float32]) -> None:
    """Move what overlaps the closed gripper out of its way, then what that overlaps; stays on the table."""
    movers = [(state[:2], GRIP_RADIUS, float(state[2]) - GRIP_RADIUS)]
    waiting = set(range(len(things)))
    while movers:
        centre, radius, bottom = movers.pop()
        for index in sorted(waiting):
            gap = places[index, :2] - centre
            distance = float(np.linalg.norm(gap))
            reach = radius + things[index].radius
            if distance >= reach or bottom > 2 * things[index].radius:
                continue
            direction = gap / distance if distance > 1e-6 else np.array([1, 0], np.float32)
            places[index, :2] = np.clip(centre + direction * reach, (-0.6, -0.15), (0.6, 0.8))
            waiting.discard(index)
            movers.append((places[index, :2], things[index].radius, 0.0))
