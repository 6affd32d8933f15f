"""Who acts in the closed loop: a policy on batches of observations, or the script in the simulator itself.

E environments at a time, T actions in a chunk, A action width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jobs.closed_loop.interface import Policy, RobotObservation
from jobs.closed_loop.process import Simulator
from pipeline.errors import SettingsError

WIDTH = 7
"""Of an action: metres, radians, gripper (see `pipeline.sources.vectors`)."""

STATE = 8
"""Of LIBERO's robot: position, rotation vector, two fingers."""


@dataclass(frozen=True)
class Moment:
    """What one environment shows, waiting for actions.

    pictures     uint8 RGB [H, W, 3] by the simulator's camera, upright
    state        float32 [8]
    instruction  what the policy is told
    seed         of the policy's noise
    simulator    whose moment it is
    """

    pictures: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    instruction: str
    seed: int
    simulator: Simulator


class Actor(Protocol):
    """Gives actions to environments that wait."""

    def act(self, moments: Sequence[Moment | None]) -> list[NDArray[np.float32] | None]:
        """Actions float32 [n, 7] (metres, radians, gripper 1 open) for every moment; None where none waits."""
        ...


class PolicyActor:
    """A policy that sees a LIBERO robot.

    The batch has E rows whatever waits, each environment its own, so that an episode's actions do not depend on which
    others are under way.

    Args:
        policy: whose actions are carried out.
        cameras: view of the policy -> camera of the simulator.
        execute: actions of a chunk that are carried out before the policy is asked again.
        turned: pictures of the policy's build are turned by 180 degrees, as OpenVLA's copies of LIBERO are.
        blank: pictures are replaced by grey: what the state alone is worth to this policy.

    Raises:
        SettingsError: the policy is none for this robot.
    """

    def __init__(
        self, policy: Policy, cameras: Mapping[str, str], execute: int | None, turned: bool = False, blank: bool = False
    ) -> None:
        known = policy.interface
        if known.action != WIDTH or known.state not in (0, STATE):
            raise SettingsError(
                f"LIBERO's robot has {STATE} numbers of state and {WIDTH} of action; the policy of {known.source} has "
                f"{known.state} and {known.action}"
            )
        if set(cameras) != set(known.views):
            raise SettingsError(f"cameras must name the views {', '.join(known.views)}, got {', '.join(cameras)}")
        if execute is not None and not 1 <= execute <= known.chunk:
            raise SettingsError(f"execute must be 1..{known.chunk}, the policy's chunk, got {execute}")
        self._policy, self._cameras = policy, dict(cameras)
        self._execute, self._turned, self._blank = execute or known.chunk, turned, blank

    def act(self, moments: Sequence[Moment | None]) -> list[NDArray[np.float32] | None]:
        """See `Actor.act`."""
        filler = next(moment for moment in moments if moment is not None)
        rows = [filler if moment is None else moment for moment in moments]
        chunks = self._policy.act([self._seen(row) for row in rows], [row.seed for row in rows])
        return [
            None if moment is None else chunk[: self._execute] for moment, chunk in zip(moments, chunks, strict=True)
        ]

    def _seen(self, moment: Moment) -> RobotObservation:
        images = {view: self._picture(moment.pictures[camera]) for view, camera in self._cameras.items()}
        return RobotObservation(images, moment.instruction, moment.state[: self._policy.interface.state])

    def _picture(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._blank:
            return np.full_like(picture, 128)
        return np.ascontiguousarray(picture[:, ::-1]) if self._turned else picture


class ScriptActor:
    """The script of `jobs.simulator.expert`, which sees the simulator's state: what the set-up itself allows."""

    def act(self, moments: Sequence[Moment | None]) -> list[NDArray[np.float32] | None]:
        """See `Actor.act`; one action each."""
        return [None if moment is None else _wish(moment.simulator)[None] for moment in moments]


def _wish(simulator: Simulator) -> Any:
    return simulator.ask("wishes")["action"]
