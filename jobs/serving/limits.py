"""What an observation may be, so that no client can make the policy slow or its actions infinite.

S: state width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.common.policy.committed import Committed
from jobs.common.policy.robot_interface import RobotObservation

LONGEST_SIDE = 4096
"""Pixels. An image of one line, as long as a message allows, would take seconds to resize and gigabytes."""

_SMALLEST_RANGE = 1.0
"""In the source's units: a joint that hardly moved in training may move at the robot."""


Ends = tuple[NDArray[np.float32], NDArray[np.float32]]
"""The smallest and the largest value of each channel."""


@dataclass(frozen=True)
class InputLimits:
    """Bounds of an observation.

    characters   of the instruction, at most
    low, high    of the state, float32 [S]; None: any finite state
    actions      the same two of the actions that a robot is committed to, float32 [A] each; None: any finite ones
    """

    characters: int
    low: NDArray[np.float32] | None = None
    high: NDArray[np.float32] | None = None
    actions: Ends | None = None

    @classmethod
    def around(cls, characters: int, margin: float, states: Ends | None, actions: Ends | None = None) -> InputLimits:
        """Limits by what a policy was trained on.

        Args:
            margin: how far beyond the range of training a number may lie, in sizes of that range (of at least 1).
            states, actions: smallest and largest ones of training, float32 [S] and [A] each; None: unknown.
        """
        low, high = (None, None) if states is None else _widened(states, margin)
        return cls(characters, low, high, None if actions is None else _widened(actions, margin))

    def check(self, observation: RobotObservation) -> None:
        """Raise ValueError, with the limit, for an observation beyond it."""
        for view, image in observation.images.items():
            if max(image.shape) > LONGEST_SIDE:
                size = f"{image.shape[1]} x {image.shape[0]}"
                raise ValueError(f"image {view!r} may have {LONGEST_SIDE} pixels a side, got {size}")
        length = len(observation.instruction)
        if length > self.characters:
            raise ValueError(f"the instruction may have {self.characters} characters, got {length}")
        if self.low is None or self.high is None:
            return
        beyond = np.flatnonzero((observation.state < self.low) | (observation.state > self.high))
        if len(beyond):
            at = int(beyond[0])
            raise ValueError(
                f"state[{at}] must be {self.low[at]:g} to {self.high[at]:g}, got {observation.state[at]:g}; the policy "
                "was trained on other values: check units and order"
            )

    def check_committed(self, committed: Committed | None) -> None:
        """Raise ValueError, with the limit, for actions that no such policy gave: they would spoil a batch."""
        if committed is None or self.actions is None:
            return
        low, high = self.actions
        beyond = np.argwhere((committed.actions < low) | (committed.actions > high))
        if len(beyond):
            row, at = beyond[0].tolist()
            raise ValueError(
                f"committed[{row}][{at}] must be {low[at]:g} to {high[at]:g}, got {committed.actions[row, at]:g}; send "
                "the rest of the chunk that the policy gave"
            )

    def middle(self, width: int) -> NDArray[np.float32]:
        """A state, float32 [S], that is allowed."""
        if self.low is None or self.high is None:
            return np.zeros(width, np.float32)
        return self.low / np.float32(2) + self.high / np.float32(2)

    def describe(self) -> dict[str, Any]:
        """For the server's metadata."""
        known: dict[str, Any] = {
            "instruction_characters": self.characters,
            "image_side": LONGEST_SIDE,
            "state": None,
        }
        if self.low is not None and self.high is not None:
            known["state"] = {"low": self.low.tolist(), "high": self.high.tolist()}
        return known


def _widened(trained: Ends, margin: float) -> Ends:
    low, high = (ends.astype(np.float64) for ends in trained)
    room, most = margin * np.maximum(high - low, _SMALLEST_RANGE), np.finfo(np.float32).max
    least, largest = (np.clip(ends, -most, most).astype(np.float32) for ends in (low - room, high + room))
    return least, largest
