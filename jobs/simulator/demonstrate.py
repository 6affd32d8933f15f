"""One scripted demonstration with disturbances, so that it shows recoveries.

Disturbances move the hand and the objects. The label is the script's action in the resulting state (as in DART, arXiv
1703.09327). The executed action is recorded, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .expert import Expert
from .libero import LiberoEnvironment

LEAST_NOISE = 0.2
"""Share of the noise that the slowest motions get."""

STEPS_AFTER = 4
"""Observations recorded once the goal is reached, so that letting go has actions too."""


@dataclass(frozen=True)
class Disturbance:
    """How an episode is made harder, see `jobs.closed_loop.collect.settings`. All zero: the script alone."""

    noise: float
    memory: float
    burst: float
    burst_steps: int
    away: int
    moved: float


class Demonstration:
    """A running demonstration: at every step the script gives an action, and a disturbed one is executed.

    Args:
        environment: the task.
        start: index of one of the task's start states; None: things are placed at random.
        seed: of the places and the disturbances.
        disturbance: how it is made harder.
        hold: simulator steps that each action is kept for; one observation is recorded for each of them together.
        limit: simulator steps after which the episode ends unsuccessfully.

    Raises:
        ValueError: the script cannot reach the task's goal.
    """

    def __init__(
        self,
        environment: LiberoEnvironment,
        start: int | None,
        seed: int,
        disturbance: Disturbance,
        hold: int,
        limit: int,
    ) -> None:
        rng = np.random.default_rng(seed)
        environment.seed = seed
        environment.reset(None if start is None else environment.task.starts[start])
        self._environment, self._hold, self._limit, self._left = environment, hold, limit, STEPS_AFTER
        self._expert = Expert(environment)
        _move_thing(environment, self._expert.thing, rng, disturbance.moved)
        self._pushes = _Pushes(rng, disturbance)
        for _ in range(int(rng.integers(disturbance.away + 1))):
            _hold(environment, np.array([*rng.uniform(-1, 1, 3), 0.0, 0.0, 0.0, -1.0]), hold)
        environment.steps, self._success = 0, environment.succeeded()
        self._place = self._expert.scene().thing
        self._rows: list[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]] = []

    @property
    def over(self) -> bool:
        """The demonstration has ended: some steps after the goal, or at the step limit."""
        return self._environment.steps >= self._limit or self._left <= 0

    def step(self, other: np.ndarray | None = None) -> None:
        """Record observation and label. Execute the label, or `other` until the goal is reached, with disturbances."""
        wanted = self._expert.action()
        done = wanted if other is None or self._success else other
        if not self._success:
            done = self._pushes.disturbed(done)
        self._rows.append((self._environment.images(), self._environment.state(), wanted, done))
        self._success = _hold(self._environment, done, self._hold) or self._success
        self._left -= self._success

    def result(self) -> dict[str, Any]:
        """The recording so far: N observations, each taken before its action.

        frames    uint8 RGB [N, H, W, 3] by camera
        state     float32 [N, 8]
        actions   float32 [N, 7], the script's actions, in the controller's units of -1..1
        executed  float32 [N, 7], the executed actions
        place     float32 [3], where the thing is in the first observation, metres in the world's axes
        success   the goal was reached
        """
        images, states, actions, executed = zip(*self._rows, strict=True)
        return {
            "frames": {name: np.stack([image[name] for image in images]) for name in self._environment.cameras},
            "state": np.stack(states),
            "actions": np.stack(actions).astype(np.float32),
            "executed": np.stack(executed).astype(np.float32),
            "place": self._place.astype(np.float32),
            "success": self._success,
        }


class _Pushes:
    """Correlated noise and occasional pushes."""

    def __init__(self, rng: np.random.Generator, disturbance: Disturbance) -> None:
        self._rng, self._settings = rng, disturbance
        self._sigma = rng.uniform(0.0, disturbance.noise) if disturbance.noise else 0.0
        self._noise = np.zeros(3)
        self._push, self._left = np.zeros(3), 0

    def disturbed(self, wanted: np.ndarray) -> np.ndarray:
        settings, rng = self._settings, self._rng
        fresh = rng.normal(0.0, 1.0, 3) * self._sigma * np.sqrt(1 - settings.memory**2)
        self._noise = settings.memory * self._noise + fresh
        if self._left == 0 and rng.random() < settings.burst:
            self._push, self._left = rng.uniform(-0.7, 0.7, 3), settings.burst_steps
        push = self._push if self._left else np.zeros(3)
        self._left = max(0, self._left - 1)
        noise = self._noise * np.clip(np.abs(wanted[:3]).max(), LEAST_NOISE, 1.0)
        return np.array([*np.clip(wanted[:3] + noise + push, -1.0, 1.0), *wanted[3:]])


def _hold(environment: LiberoEnvironment, action: np.ndarray, steps: int) -> bool:
    """Carry an action out for some steps; whether the goal was reached at the last of them."""
    reached = False
    for _ in range(steps):
        reached = environment.step(action.tolist())
    return reached


def _move_thing(environment: LiberoEnvironment, thing: str, rng: np.random.Generator, most: float) -> None:
    env = environment.wrapped.env
    shift = rng.uniform(-most, most, 2)
    joint = env.get_object(thing).joints[-1]
    place = np.array(env.sim.data.get_joint_qpos(joint))
    place[:2] += shift
    env.sim.data.set_joint_qpos(joint, place)
    env.sim.forward()
