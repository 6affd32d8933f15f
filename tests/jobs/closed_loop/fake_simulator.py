"""A world of one point, in the place of a simulator: `ask` answers as `jobs.simulator.worker.Worker` does.

The point has to reach x = 0.3 + 0.01 x task; its first image has the start state in the red channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jobs.closed_loop.process import SimulatorDied
from jobs.simulator.libero import CHANNELS

ABOUT: dict[str, Any] = {"versions": {"fake": "1"}}
ROBOT: dict[str, Any] = {"benchmark": "libero", "control_hz": 20, "state": 8}
ROBOT |= {"cameras": ["agentview", "robot0_eye_in_hand"]}
ROBOT |= {"channels": {kind: list(groups) for kind, groups in CHANNELS.items()}}
SIZE = 32


class FakeSimulator:
    """Dies in the episodes for which `dies(start)` holds, at the first action."""

    started = 0

    def __init__(self, *_: Any, dies: Callable[[int], bool] = lambda start: False) -> None:
        type(self).started += 1
        self.about = ABOUT
        self.opened: dict[str, Any] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.closed = False
        self._dies = dies
        self._x, self._start, self._steps, self._limit = 0.0, 0, 0, 0

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.requests.append((do, arguments))
        return getattr(self, f"_{do}")(**arguments)

    def close(self) -> None:
        self.closed = True

    def _tasks(self, suite: str) -> dict[str, Any]:
        rows = [{"name": f"t{i}", "instruction": f"reach place {i}", "starts": 50, "limit": 40} for i in range(3)]
        return {**ROBOT, "tasks": rows}

    def _open(self, **arguments: Any) -> dict[str, Any]:
        self.opened = arguments
        return {"instruction": f"reach place {arguments['task']}"}

    def _reset(self, start: int, limit: int) -> dict[str, Any]:
        self._x, self._start, self._steps, self._limit = 0.0, start, 0, limit
        return self._observation()

    def _act(self, actions: np.ndarray, record_video: bool) -> dict[str, Any]:
        if self._dies(self._start):
            raise SimulatorDied("the fake simulator died")
        images = []
        for action in actions:
            for _ in range(self.opened["hold"]):
                self._x += float(np.clip(action[0], -0.05, 0.05))
                self._steps += 1
            images.append(self._observation()["images"]["agentview"])
            if self._over():
                break
        over = self._over()
        rest = {} if over else self._observation()
        video = np.stack(images) if record_video else np.zeros((0, SIZE, SIZE, 3), np.uint8)
        answer = {"steps": self._steps, "success": self._succeeded(), "swapped_instruction_success": self._swapped()}
        return {**rest, "video": video, "actions": len(images), **answer, "over": over}

    def _expert_action(self) -> dict[str, Any]:
        return {"action": np.array([0.05, 0, 0, 0, 0, 0, 1], np.float32)}

    def _succeeded(self) -> bool:
        return self._x >= 0.3 + 0.01 * self.opened["task"]

    def _swapped(self) -> bool | None:
        """The other task's goal is x = 0.25 x its index; that of task 0 is unknown."""
        other = self.opened.get("instruction_task")
        return self._x >= 0.25 * other if other else None

    def _over(self) -> bool:
        return self._succeeded() or bool(self._swapped()) or self._steps >= self._limit

    def _observation(self) -> dict[str, Any]:
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        image[..., 0], image[:, : SIZE // 2, 1] = self._start, 255
        state = np.array([self._x, *[0.0] * 7], np.float32)
        return {
            "images": {"agentview": image, "robot0_eye_in_hand": image[::-1].copy()},
            "state": state,
            "instruction": f"reach place {self.opened['task']}",
        }
