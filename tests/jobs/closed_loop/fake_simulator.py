"""A world of one point, in the place of a simulator: `ask` answers as `jobs.simulator.worker.Worker` does.

The point has to reach x = 0.3 + 0.01 x task; its first picture spells the start state in the red channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jobs.closed_loop.process import SimulatorDied

ABOUT = {"versions": {"fake": "1"}}
ROBOT = {"benchmark": "libero", "control_hz": 20, "cameras": ["agentview", "robot0_eye_in_hand"], "state": 8}
SIZE = 32


class FakeSimulator:
    """Dies in the episodes that `dies(start)` says, once it is asked to act."""

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
        return self._seen()

    def _act(self, actions: np.ndarray, film: bool) -> dict[str, Any]:
        if self._dies(self._start):
            raise SimulatorDied("the fake simulator died")
        pictures = []
        for action in actions:
            for _ in range(self.opened["hold"]):
                self._x += float(np.clip(action[0], -0.05, 0.05))
                self._steps += 1
            pictures.append(self._seen()["pictures"]["agentview"])
            if self._over():
                break
        over = self._over()
        rest = {} if over else self._seen()
        film_pictures = np.stack(pictures if film else []) if film else np.zeros((0, SIZE, SIZE, 3), np.uint8)
        answer = {"steps": self._steps, "success": self._succeeded(), "told": self._told(), "over": over}
        return {**rest, "film": film_pictures, **answer}

    def _wishes(self) -> dict[str, Any]:
        return {"action": np.array([0.05, 0, 0, 0, 0, 0, 1], np.float32)}

    def _succeeded(self) -> bool:
        return self._x >= 0.3 + 0.01 * self.opened["task"]

    def _told(self) -> bool | None:
        """What is told instead is to reach x = 0.25 x told; of 0 nothing is known."""
        told = self.opened.get("told")
        return self._x >= 0.25 * told if told else None

    def _over(self) -> bool:
        return self._succeeded() or bool(self._told()) or self._steps >= self._limit

    def _seen(self) -> dict[str, Any]:
        picture = np.zeros((SIZE, SIZE, 3), np.uint8)
        picture[..., 0], picture[:, : SIZE // 2, 1] = self._start, 255
        state = np.array([self._x, *[0.0] * 7], np.float32)
        return {
            "pictures": {"agentview": picture, "robot0_eye_in_hand": picture[::-1].copy()},
            "state": state,
            "instruction": f"reach place {self.opened['task']}",
        }
