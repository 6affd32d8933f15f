"""The simulator's process: answers requests in order, over standard input and output.

A request is {"do": NAME, …}, its answer {"ok": …} or {"error": text}. Output of the simulator's packages goes to
standard error. The process ends with its input.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from . import libero, simpler, simpler_tasks
from .demonstrate import Disturbance, Showing
from .versions import installed_versions
from .wire import receive, send


class Worker:
    """Holds the open environment. Each public method is a request."""

    def __init__(self) -> None:
        self._tasks: dict[str, list[Any]] = {}
        self._environment: Any = None
        self._showing: Any = None
        self._told: list[list[str]] | None = None
        self._watched: list[list[str]] | None = None
        self._hold = 1

    def hello(self) -> dict[str, Any]:
        """Versions of the simulators' packages."""
        return {"versions": installed_versions()}

    def tasks(self, suite: str) -> dict[str, Any]:
        """A suite's benchmark, its robot, and its tasks.

        control_hz  steps per second;  cameras  names, videos show the first;  state  width of the robot's state
        tasks       name, instruction, number of start states and step limit (or None) of each
        """
        listed = self._list(suite)
        if suite in simpler_tasks.SUITES:
            robot = listed[0].kind
            rows = [{**_named(task), "limit": task.limit} for task in listed]
            about = {"benchmark": "simpler_env", "control_hz": robot.control_hz, "cameras": [robot.camera]}
            return {**about, "state": simpler.state_width(robot), "tasks": rows}
        limit: int | None = None
        with suppress(ValueError):  # the caller sets the limit of an unknown suite
            limit = libero.step_limit(suite)
        rows = [{**_named(task), "limit": limit} for task in listed]
        about = {"benchmark": "libero", "control_hz": libero.CONTROL_HZ, "cameras": list(libero.CAMERAS)}
        return {**about, "state": libero.STATE, "tasks": rows}

    def open(
        self,
        suite: str,
        task: int,
        pixels: int,
        shadows: bool,
        hold: int,
        perturbation: dict[str, Any] | None = None,
        told: int | None = None,
    ) -> dict[str, Any]:
        """Make a task's environment; each action is repeated for `hold` steps.

        `told` is the task whose instruction the policy gets instead; in LIBERO its goal is checked, too.

        SimplerEnv's images have the size of its cameras, whatever `pixels` says; its shadows are its ray tracing.
        """
        if self._environment is not None:
            self._environment.close()
        chosen, self._told = self._list(suite)[task], None
        if suite in simpler_tasks.SUITES:
            self._environment = simpler.SimplerEnvironment(chosen, simpler.View(ray_tracing=shadows))
        else:
            self._environment = libero.LiberoEnvironment(chosen, libero.View(pixels, shadows=shadows))
            self._told = None if told is None else libero.goal_of(self._list(suite)[told])
        self._hold = hold
        if perturbation is not None:
            from .perturb.perturb import perturbed

            self._environment = perturbed(self._environment, perturbation)
        return {"instruction": self._environment.instruction}

    def reset(self, start: int, limit: int) -> dict[str, Any]:
        """Begin an episode that ends after `limit` steps at the latest."""
        self._environment.begin(start, limit)
        # A goal that holds at the start says nothing about the policy.
        self._watched = None if self._told is None or self._environment.holds(self._told) else self._told
        return self._observation()

    def act(self, actions: np.ndarray, film: bool) -> dict[str, Any]:
        """Carry out actions float32 [n, 7] (metres, radians, gripper 1 open) until success or the limit.

        An episode also ends when the goal of the other instruction is reached (`told`). `told` is None without another
        instruction, if the scene lacks its objects, or if its goal held at the start. `film` adds an image of the first
        camera after every action.
        """
        environment = self._environment
        seen: list[np.ndarray] = []
        success, told, over = False, None, False
        for action in actions:
            raw = environment.command(action)
            for _ in range(self._hold):
                success = environment.step(raw)
                told = None if self._watched is None else environment.holds(self._watched)
                over = success or bool(told) or environment.steps >= environment.limit
                if over:
                    break
            if film:
                seen.append(environment.images()[environment.view.cameras[0]])
            if over:
                break
        rest = {} if over else self._observation()
        images = np.stack(seen) if seen else np.zeros((0, 1, 1, 3), np.uint8)
        return {**rest, "film": images, "steps": environment.steps, "success": success, "told": told, "over": over}

    def demonstrate(self, start: int | None, seed: int, limit: int, disturbance: dict[str, Any]) -> dict[str, Any]:
        """One scripted episode; arrays as in `demonstrate.Demonstration`."""
        showing = Showing(self._environment, start, seed, Disturbance(**disturbance), self._hold, limit)
        while not showing.over:
            showing.step()
        return dict(vars(showing.result()))

    def show(self, start: int | None, seed: int, limit: int, disturbance: dict[str, Any]) -> dict[str, Any]:
        """Begin an episode in which a policy may act in the script's place."""
        self._showing = Showing(self._environment, start, seed, Disturbance(**disturbance), self._hold, limit)
        return {**self._observation(), "over": False}

    def go_on(self, steps: int, actions: np.ndarray | None) -> dict[str, Any]:
        """Carry out actions float32 [n, 7] (metres, radians, gripper 1 open), or as many `steps` of the script."""
        for i in range(steps):
            if not self._showing.over:
                self._showing.step(None if actions is None else self._environment.command(actions[i]))
        if not self._showing.over:
            return {**self._observation(), "over": False}
        return {**vars(self._showing.result()), "over": True}

    def wishes(self) -> dict[str, Any]:
        """The script's action in the present state, in a policy's units: float32 [7]."""
        from .expert import Expert

        raw = Expert(self._environment).action()
        motion = np.concatenate([raw[:3] * libero.METRES, raw[3:6] * libero.RADIANS])
        return {"action": np.array([*motion, 1.0 if raw[6] < 0 else 0.0], np.float32)}

    def _list(self, suite: str) -> list[Any]:
        if suite not in self._tasks:
            self._tasks[suite] = (simpler_tasks if suite in simpler_tasks.SUITES else libero).list_tasks(suite)
        return self._tasks[suite]

    def _observation(self) -> dict[str, Any]:
        environment = self._environment
        return {"pictures": environment.images(), "state": environment.state(), "instruction": environment.instruction}


def _named(task: Any) -> dict[str, Any]:
    return {"name": task.name, "instruction": task.instruction or task.name, "starts": len(task.starts)}


def main() -> None:
    """Serve until the input ends."""
    source, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of the simulators must not get into the answers
    worker = Worker()
    while True:
        try:
            request = receive(source)
        except EOFError:
            return
        try:
            method: Callable[..., dict[str, Any]] = getattr(worker, request.pop("do"))
            send(answers, {"ok": method(**request)})
        except Exception as error:  # the caller decides what an error means
            traceback.print_exc()
            send(answers, {"error": f"{type(error).__name__}: {error}"})
