"""The simulator's process: answers one request after the other, over its standard input and output.

A request is {"do": NAME, …}, its answer {"ok": …} or {"error": text}. What the simulator's packages print goes to the
error output. The process ends with its input.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from . import libero
from .demonstrate import Disturbance, demonstrate
from .wire import receive, send


class Worker:
    """Holds the open environment. Each public method is a request."""

    def __init__(self) -> None:
        self._tasks: dict[str, list[Any]] = {}
        self._environment: Any = None
        self._hold, self._limit = 1, 0

    def hello(self) -> dict[str, Any]:
        """Versions of the simulator's packages."""
        return {"versions": dict(libero.versions()), "control_hz": libero.CONTROL_HZ}

    def tasks(self, suite: str) -> dict[str, Any]:
        """Names, instructions and numbers of start states of a suite's tasks, and its step limit or None."""
        listed = self._list(suite)
        try:
            limit: int | None = libero.step_limit(suite)
        except ValueError:
            limit = None
        rows = [{"name": t.name, "instruction": t.instruction, "starts": len(t.starts)} for t in listed]
        return {"tasks": rows, "limit": limit}

    def open(
        self, suite: str, task: int, pixels: int, shadows: bool, hold: int, perturbation: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Make a task's environment; actions are kept for `hold` steps each."""
        if self._environment is not None:
            self._environment.close()
        view = libero.View(pixels, shadows=shadows)
        self._environment = libero.LiberoEnvironment(self._list(suite)[task], view)
        self._hold = hold
        if perturbation is not None:
            from .perturb import perturbed

            self._environment = perturbed(self._environment, perturbation)
        return {"instruction": self._environment.task.instruction}

    def reset(self, start: int, limit: int) -> dict[str, Any]:
        """Begin an episode that ends after `limit` steps at the latest."""
        self._environment.reset(self._environment.task.starts[start])
        self._limit = limit
        return {**self._observation(), "instruction": self._environment.task.instruction}

    def act(self, actions: np.ndarray, film: bool) -> dict[str, Any]:
        """Carry out actions float32 [n, 7] (metres, radians, gripper 1 open) until success or the limit.

        `film` asks for a picture of the first camera after every action.
        """
        seen, success = [], False
        for action in actions:
            raw = libero.command(action)
            for _ in range(self._hold):
                success = self._environment.step(raw)
                if success or self._environment.steps >= self._limit:
                    break
            if film:
                seen.append(self._environment.pictures()[self._environment.view.cameras[0]])
            if success or self._environment.steps >= self._limit:
                break
        over = success or self._environment.steps >= self._limit
        rest = {} if over else self._observation()
        return {**rest, "film": self._film(seen), "steps": self._environment.steps, "success": success, "over": over}

    def demonstrate(self, start: int | None, seed: int, limit: int, disturbance: dict[str, Any]) -> dict[str, Any]:
        """One scripted episode; arrays as in `demonstrate.Demonstration`."""
        found = demonstrate(self._environment, start, seed, Disturbance(**disturbance), self._hold, limit)
        return {**{k: v for k, v in vars(found).items() if k != "success"}, "success": found.success}

    def wishes(self) -> dict[str, Any]:
        """The script's action in the present state, in a policy's units: float32 [7]."""
        from .expert import Expert

        raw = Expert(self._environment).action()
        motion = np.concatenate([raw[:3] * libero.METRES, raw[3:6] * libero.RADIANS])
        return {"action": np.array([*motion, 1.0 if raw[6] < 0 else 0.0], np.float32)}

    def _list(self, suite: str) -> list[Any]:
        if suite not in self._tasks:
            self._tasks[suite] = libero.list_tasks(suite)
        return self._tasks[suite]

    def _observation(self) -> dict[str, Any]:
        return {"pictures": self._environment.pictures(), "state": self._environment.state()}

    def _film(self, seen: list[np.ndarray]) -> np.ndarray:
        size = self._environment.view.pixels
        return np.stack(seen) if seen else np.zeros((0, size, size, 3), np.uint8)


def main() -> None:
    """Serve until the input ends."""
    source, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what simulators print must not get into the answers
    worker = Worker()
    while True:
        try:
            request = receive(source)
        except EOFError:
            return
        try:
            method: Callable[..., dict[str, Any]] = getattr(worker, request.pop("do"))
            send(answers, {"ok": method(**request)})
        except Exception as error:  # the other side decides what an error means
            traceback.print_exc()
            send(answers, {"error": f"{type(error).__name__}: {error}"})
