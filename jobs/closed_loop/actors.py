"""What acts in the closed loop: a policy on batches of observations, or the script in the simulator itself.

E environments at a time, T actions in a chunk, A action width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jobs.closed_loop.ensemble import EnsembleMode, Ensembler
from jobs.closed_loop.process import Simulator
from jobs.common.policy.committed import Committed
from jobs.common.policy.image_ablation import GREY_LEVEL, ImageAblation
from jobs.common.policy.robot_interface import Policy, RobotObservation
from pipeline.errors import SettingsError

WIDTH = 7
"""Of an action: metres, radians, gripper (see `pipeline.sources.episode.vectors`)."""


@dataclass(frozen=True)
class EnvironmentState:
    """The observation of an environment that waits for actions.

    images       uint8 RGB [H, W, 3] by the simulator's camera, upright
    state        float32 [S]
    instruction  the text that the policy gets
    seed         of the policy's noise
    simulator    that it is from
    first        observation of its episode
    carried_out  actions of its last chunk that were carried out; None: all that were given
    """

    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    instruction: str
    seed: int
    simulator: Simulator
    first: bool = False
    carried_out: int | None = None


class Actor(Protocol):
    """Gives actions to environments that wait."""

    def act(self, envs: Sequence[EnvironmentState | None]) -> list[NDArray[np.float32] | None]:
        """Actions float32 [n, 7] (metres, radians, gripper 1 open) for every environment; None where none waits."""
        ...


class PolicyActor:
    """A policy that sees a robot.

    The batch always has E rows, one for each environment, so that an episode's actions do not depend on which others
    are running.

    Args:
        policy: whose actions are carried out.
        cameras: view of the policy -> camera of the simulator.
        state: numbers of the robot's state.
        execute: actions of a chunk that are carried out before the policy is queried again; None: all, or 1 where
            chunks are averaged.
        turned: images of the policy's build are turned by 180 degrees, as OpenVLA's copies of LIBERO are.
        image_ablation: `GREY`: images are replaced by grey: what the state alone is worth to this policy.
        ensemble: how chunks that overlap are averaged, see `ensemble.EnsembleMode`.
        horizon: actions of a chunk that averaging may use; None: all.
        delay: actions that are carried out between an observation and the chunk made from it. The chunk begins with
            them, as the one before had them, and goes on from them (see `Policy.act_continuing`); the first of an
            episode is waited for. After a new instruction too they are carried out, but what the earlier chunk had
            beyond them counts no more. 0: the world stands still meanwhile.

    Raises:
        SettingsError: the policy does not fit this robot.
    """

    def __init__(
        self,
        policy: Policy,
        cameras: Mapping[str, str],
        state: int,
        execute: int | None = None,
        turned: bool = False,
        image_ablation: ImageAblation = ImageAblation.NONE,
        ensemble: EnsembleMode = EnsembleMode.NONE,
        horizon: int | None = None,
        delay: int = 0,
    ) -> None:
        known = policy.interface
        if known.action != WIDTH or known.state not in (0, state):
            raise SettingsError(
                f"the robot has {state} numbers of state and {WIDTH} of action; the policy of {known.source} has "
                f"{known.state} and {known.action}"
            )
        if set(cameras) != set(known.views):
            raise SettingsError(f"cameras must name the views {', '.join(known.views)}, got {', '.join(cameras)}")
        self._execute = execute or (known.chunk if ensemble is EnsembleMode.NONE else 1)
        self._horizon = horizon or known.chunk
        for name, value, most in (("horizon", self._horizon, known.chunk), ("execute", self._execute, self._horizon)):
            if not 1 <= value <= most:
                raise SettingsError(f"{name} must be 1..{most} for the policy's chunk of {known.chunk}, got {value}")
        if delay and (ensemble is not EnsembleMode.NONE or not delay <= self._execute <= known.chunk - delay):
            raise SettingsError(
                f"delay={delay} needs chunks that are not averaged, and execute={delay}..{known.chunk - delay}, so "
                f"that the chunk of {known.chunk} still has the actions of the delay; execute is {self._execute}"
            )
        self._delay, self._carried_out = delay, dict[int, NDArray[np.float32]]()
        self._policy, self._cameras = policy, dict(cameras)
        self._turned, self._image_ablation, self._ensemble = turned, image_ablation, ensemble
        self._ensemblers: dict[int, tuple[str, Ensembler]] = {}

    def act(self, envs: Sequence[EnvironmentState | None]) -> list[NDArray[np.float32] | None]:
        """See `Actor.act`."""
        filler = next(env for env in envs if env is not None)
        rows = [filler if env is None else env for env in envs]
        asked = [self._observation(row) for row in rows], [row.seed for row in rows]
        committed = [self._committed(row, env) for row, env in enumerate(envs)]
        going_on = any(one is not None for one in committed)
        chunks = self._policy.act_continuing(*asked, committed) if going_on else self._policy.act(*asked)
        self._carried_out = dict(enumerate(chunks))
        return [
            None if env is None else self._actions(row, env, chunk)
            for row, (env, chunk) in enumerate(zip(envs, chunks, strict=True))
        ]

    def _committed(self, row: int, env: EnvironmentState | None) -> Committed | None:
        """The rest of the chunk that this environment is carrying out."""
        if not self._delay or env is None or env.first or row not in self._carried_out:
            return None
        left = self._carried_out[row][self._execute if env.carried_out is None else env.carried_out :]
        instruction, _ = self._ensemblers.get(row, (None, None))
        return Committed(left if instruction == env.instruction else left[: self._delay], self._delay)

    def _actions(self, row: int, env: EnvironmentState, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        instruction, ensembler = self._ensemblers.get(row, (None, None))
        if ensembler is None or env.first or instruction != env.instruction:  # what was wanted before counts no more
            ensembler = Ensembler(self._ensemble, self._execute, self._horizon)
            self._ensemblers[row] = (env.instruction, ensembler)
        ensembler.add(chunk)
        return np.stack([ensembler.next() for _ in range(self._execute)])

    def _observation(self, env: EnvironmentState) -> RobotObservation:
        images = {view: self._image(env.images[camera]) for view, camera in self._cameras.items()}
        return RobotObservation(images, env.instruction, env.state[: self._policy.interface.state])

    def _image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._image_ablation is ImageAblation.GREY:
            return np.full_like(image, GREY_LEVEL)
        return np.ascontiguousarray(image[:, ::-1]) if self._turned else image


class ScriptActor:
    """The script of `jobs.simulator.expert`, which sees the simulator's state: what the set-up itself allows."""

    def act(self, envs: Sequence[EnvironmentState | None]) -> list[NDArray[np.float32] | None]:
        """See `Actor.act`; one action each."""
        return [None if env is None else env.simulator.ask("expert_action")["action"][None] for env in envs]
