"""The script of an episode: a task drawn at random, and the motion that carries it out.

The gripper starts anywhere and the task is drawn independently of the scene, so the first frame does not show which
object will move, or where to: the instruction does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.sample_world.variety import FULL, Variety
from pipeline.sample_world.world import (
    ACTION_DIM,
    FINGER_RANGE,
    GRIP_RADIUS,
    HIGH,
    LOW,
    MAX_STEP,
    MAX_TURN,
    STATE_DIM,
    Thing,
    World,
    step,
)

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("cube", "ball", "can")
OPEN, CLOSE = -1.0, 1.0
TRAVEL_Z = 0.32
PUSH_Z = 0.07
SPACING = 0.27
ACTION_NOISE = 0.04
REACHED = 0.015
DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0)}
CARRY = 0.45
"""Metres that a thing is carried, if the workspace does not end before."""
CARRY_WAYS = {"left": (-1.0, 0.0, 0.0), "right": (1.0, 0.0, 0.0), "up": (0.0, 0.0, 1.0)}
HOME = (0.0, 0.28, 0.36)
RADIUS = 0.095
"""Of things that are all alike."""


@dataclass(frozen=True)
class Task:
    """What is to happen: a kind of `variety.TASKS`; `other` and `direction` where the kind has them."""

    kind: str
    thing: int
    direction: str = ""
    other: int = -1


@dataclass(frozen=True)
class Rollout:
    """A played episode of N frames. worlds[t+1] = step(worlds[t], actions[t]); actions float32 [N, 7]."""

    task: Task
    worlds: tuple[World, ...]
    actions: NDArray[np.float32]

    def filmed(self, stride: int) -> Rollout:
        """Every `stride`-th frame; an action is then the mean of those until the next frame."""
        actions = self.actions.reshape(-1, stride, ACTION_DIM).mean(1)
        return Rollout(self.task, self.worlds[::stride], actions)


@dataclass(frozen=True)
class _Waypoint:
    """Go there with this gripper command; then stay until `hold` frames have passed."""

    place: tuple[float, float, float]
    grip: float
    hold: int = 0


def make_world(rng: np.random.Generator, variety: Variety = FULL) -> World:
    """Three things of different colours, apart from each other, and the gripper somewhere above."""
    colours = rng.permutation(COLOURS[: variety.colours])[:3]
    if variety.shapes:
        things = tuple(Thing(str(c), str(rng.choice(SHAPES)), float(rng.uniform(0.085, 0.105))) for c in colours)
    else:
        things = tuple(Thing(str(c), SHAPES[0], RADIUS) for c in colours)
    spots: list[NDArray[np.float64]] = []
    while len(spots) < len(things):
        spot = rng.uniform((-0.36, 0.06), (0.36, 0.5))
        if all(np.linalg.norm(spot - other) > SPACING for other in spots):
            spots.append(spot)
        elif rng.random() < 0.02:
            spots.clear()
    places = np.array([(*spot, thing.radius) for spot, thing in zip(spots, things, strict=True)], np.float32)
    return World(_start(rng) if variety.random_start else _home(), things, places)


def _start(rng: np.random.Generator) -> NDArray[np.float32]:
    state = np.zeros(STATE_DIM, np.float32)
    state[:3] = rng.uniform((-0.35, 0.1, 0.28), (0.35, 0.5, 0.42))
    state[5] = rng.uniform(-0.3, 0.3)
    state[6:] = rng.choice(FINGER_RANGE)
    return state


def _home() -> NDArray[np.float32]:
    state = np.zeros(STATE_DIM, np.float32)
    state[:3], state[6:] = HOME, FINGER_RANGE[1]
    return state


def draw_task(rng: np.random.Generator, world: World, variety: Variety = FULL) -> Task:
    """A task for the scene; the kinds are equally likely."""
    thing, other = (int(i) for i in rng.permutation(len(world.things))[:2])
    kind = str(rng.choice(variety.tasks))
    if kind == "push":
        return Task(kind, thing, direction=str(rng.choice(tuple(DIRECTIONS))))
    if kind == "carry":
        return Task(kind, thing, direction=str(rng.choice(tuple(CARRY_WAYS))))
    return Task(kind, thing, other=other if kind == "approach" else -1)


def play(
    rng: np.random.Generator, world: World, task: Task, steps: tuple[int, int], variety: Variety = FULL
) -> Rollout:
    """Carry a task out.

    Args:
        steps: shortest and longest length, in steps of the world. A task that is over sooner is followed by idle
            sweeps, never by standing still; one that takes longer is cut.
    """
    shortest, longest = steps
    length = int(rng.integers(shortest, longest + 1))
    controller = _Controller(rng, _waypoints(world, task), variety.motor_noise)
    worlds, actions = [world], []
    for _ in range(length):
        actions.append(controller.action(worlds[-1]))
        worlds.append(step(worlds[-1], actions[-1]))
    return Rollout(task, tuple(worlds[:length]), np.stack(actions))


def _waypoints(world: World, task: Task) -> list[_Waypoint]:
    x, y, z = (float(v) for v in world.places[task.thing])
    radius = world.things[task.thing].radius
    if task.kind == "push":
        return _sweep((x, y), DIRECTIONS[task.direction], radius, 0.5)
    if task.kind == "carry":
        way = CARRY_WAYS[task.direction]
        end = (x + CARRY * way[0], y + CARRY * way[1], z + CARRY * way[2])
        return [_Waypoint((x, y, z), OPEN), _Waypoint((x, y, z), CLOSE, hold=2), _Waypoint(end, CLOSE)]
    if task.kind == "lift":
        return [
            _Waypoint((x, y, TRAVEL_Z), OPEN),
            _Waypoint((x, y, z), OPEN),
            _Waypoint((x, y, z), CLOSE, hold=3),
            _Waypoint((x, y, 0.45), CLOSE),
        ]
    target = world.places[task.other, :2] - world.places[task.thing, :2]
    distance = float(np.linalg.norm(target))
    along = (float(target[0]) / distance, float(target[1]) / distance)
    return _sweep((x, y), along, radius, distance - radius - world.things[task.other].radius)


def _sweep(spot: tuple[float, float], way: tuple[float, float], radius: float, length: float) -> list[_Waypoint]:
    """Come down behind a thing and push it along `way` for `length` metres."""
    back = radius + GRIP_RADIUS + 0.03
    begin = (spot[0] - way[0] * back, spot[1] - way[1] * back)
    ahead = length - radius - GRIP_RADIUS
    end = (spot[0] + way[0] * ahead, spot[1] + way[1] * ahead)
    return [
        _Waypoint((*begin, TRAVEL_Z), CLOSE),
        _Waypoint((*begin, PUSH_Z), CLOSE),
        _Waypoint((*end, PUSH_Z), CLOSE),
        _Waypoint((*end, TRAVEL_Z), CLOSE),
    ]


class _Controller:
    """Drives the gripper from waypoint to waypoint at full speed, if asked for with a little motor noise."""

    def __init__(self, rng: np.random.Generator, waypoints: Sequence[_Waypoint], noisy: bool) -> None:
        self._rng = rng
        self._noisy = noisy
        self._waiting = list(waypoints)
        self._stayed = 0
        self._yaw = 0.0
        self._turn()

    def action(self, world: World) -> NDArray[np.float32]:
        """The command for the present frame, float32 [7] in [-1, 1]."""
        position = world.state[:3].astype(np.float64)
        # Without motor noise it stays where its task ends: an idle sweep would carry the thing away again, by chance
        while self._reached(position) and (self._noisy or len(self._waiting) > 1):
            done = self._waiting.pop(0)
            self._stayed = 0
            self._turn()
            if not self._waiting:
                self._waiting.append(self._idle(position, done.grip))
        goal = self._waiting[0]
        self._stayed += 1
        way = (_inside(goal.place) - position) / MAX_STEP
        length = float(np.linalg.norm(way))
        action = np.zeros(ACTION_DIM)
        action[:3] = way / max(1.0, length)
        if self._noisy:
            action[:3] += self._rng.normal(0, ACTION_NOISE, 3)
        action[5] = (self._yaw - float(world.state[5])) / MAX_TURN
        action[6] = goal.grip
        return np.clip(action, -1, 1).astype(np.float32)

    def _reached(self, position: NDArray[np.float64]) -> bool:
        goal = self._waiting[0]
        return bool(np.linalg.norm(_inside(goal.place) - position) < REACHED) and self._stayed >= goal.hold

    def _turn(self) -> None:
        if self._noisy:
            self._yaw = float(self._rng.uniform(-0.4, 0.4))

    def _idle(self, position: NDArray[np.float64], grip: float) -> _Waypoint:
        side = -1.0 if position[0] > 0 else 1.0
        x, y, z = self._rng.uniform((0.25, 0.05, 0.28), (0.42, 0.5, 0.34))
        return _Waypoint((side * float(x), float(y), float(z)), grip)


def _inside(place: tuple[float, float, float]) -> NDArray[np.float64]:
    return np.clip(np.asarray(place, np.float64), LOW, HIGH)
