"""A checkpoint as a policy: a robot's images, state and instruction in, actions in the build's units out."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.common.policy.committed import Committed
from jobs.common.policy.device import pick_device
from jobs.common.policy.load_model import load_model
from jobs.common.policy.robot_interface import RobotInterface, RobotObservation, check_observation, student_batch
from model.act_graph import ActGraphs
from model.action_head.continuing import soft_mask
from model.checkpoint.averages import acting_weights
from model.checkpoint.folders import find_checkpoint
from model.checkpoint.state_file import checkpoint_sha256, read_state
from model.checkpoint.vouched import vouched
from model.normalize import MinMaxScaler, statistics_id
from pipeline.errors import BuildError, RunError, SettingsError
from pipeline.format.json.typed_json import from_json
from pipeline.format.schema import Observation


class CheckpointPolicy:
    """The model of a checkpoint, on a device.

    Attributes:
        sha256: of the checkpoint, see `checkpoint_sha256`.
        weights: which of its weights act, see `acting_weights`.
        clipped: values of the state so far that were clipped at `model.state_bound`; see `_count_clipped`.

    Args:
        checkpoint: a run's folder (its newest checkpoint) or a checkpoint's.
        device: "auto", "cpu" or "cuda".
        cuda_graphs: on CUDA, record the model's call once for each number of observations and length of prompts.

    Raises:
        BuildError: there is no checkpoint, or it has no robot interface (an imported one).
        SettingsError: it was trained on human video alone, the backbone it started from cannot be found, or CUDA is set
            and there is none.
    """

    def __init__(self, checkpoint: Path, device: str = "auto", cuda_graphs: bool = False) -> None:
        self.device = pick_device(device)
        self.checkpoint = find_checkpoint(checkpoint)
        state = read_state(self.checkpoint)
        self.step = _step(self.checkpoint, state)
        self.sha256 = checkpoint_sha256(self.checkpoint)
        self.vouchers = vouched(state)
        self.weights = acting_weights(self.checkpoint, state)
        interface = _interface(self.checkpoint, state)
        self.model = load_model(self.checkpoint).to(self.device)
        statistics = statistics_id(self.model.state_scaler, self.model.action_scaler)
        self.interface = replace(interface, statistics=statistics)
        self._graphs = ActGraphs(self.model) if cuda_graphs and self.device.type == "cuda" else None
        self.clipped = 0

    @property
    def trained_states(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Ends of the range by which the state is scaled, of training, float32 [S] each, in the build's units; None
        without a state."""
        return None if self.model.state_scaler is None else _ends(self.model.state_scaler)

    @property
    def trained_actions(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """The same of the actions, float32 [A] each."""
        return None if self.model.action_scaler is None else _ends(self.model.action_scaler)

    def act(self, observations: Sequence[RobotObservation], seeds: Sequence[int]) -> NDArray[np.float32]:
        """See `Policy.act`. Noise is drawn on the CPU, so that it does not depend on the device."""
        shown, start = self._prepared(observations, seeds)
        if self._graphs:
            return self._finite(self._graphs.act(shown, start))
        with self._precision():
            return self._finite(self.model.act(shown, start=start))

    def act_continuing(
        self, observations: Sequence[RobotObservation], seeds: Sequence[int], committed: Sequence[Committed | None]
    ) -> NDArray[np.float32]:
        """See `Policy.act_continuing`. It takes about twice the time of `act` in the action head, and no CUDA graph."""
        chunk, action = self.interface.chunk, self.interface.action
        earlier, weights = torch.zeros(len(committed), chunk, action), torch.zeros(len(committed), chunk)
        for row, one in enumerate(committed):
            if one is not None:
                one.require_fitting(chunk, action)
                known = len(one.actions)
                earlier[row, :known] = torch.from_numpy(np.asarray(one.actions, np.float32).copy())
                earlier[row, known:] = earlier[row, known - 1]
                weights[row] = soft_mask(one.delay, known, chunk)
        shown, start = self._prepared(observations, seeds)
        with self._precision():
            led = self.model.act_continuing(shown, start, earlier.to(self.device), weights.to(self.device))
        found = self._finite(led)
        for row, one in enumerate(committed):
            if one is not None:
                found[row, : one.delay] = one.actions[: one.delay]
        return found

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else contextlib.nullcontext()

    def _finite(self, actions: torch.Tensor) -> NDArray[np.float32]:
        found: NDArray[np.float32] = actions.float().cpu().numpy()
        if not np.isfinite(found).all():
            raise RunError(f"{self.checkpoint}: the policy's actions are not finite; it cannot be used")
        return found

    def _prepared(
        self, observations: Sequence[RobotObservation], seeds: Sequence[int]
    ) -> tuple[Observation[torch.Tensor], torch.Tensor]:
        """What the model is shown, and the noise that it starts from."""
        for observation in observations:
            check_observation(observation, self.interface)
        head = (self.interface.chunk, self.interface.action)
        noise = [torch.randn(head, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        batch = student_batch(observations, self.interface)
        self._count_clipped(torch.from_numpy(batch.state).to(self.device))
        shown = Observation(
            images=torch.from_numpy(batch.images).to(self.device),
            instruction=batch.instruction,
            state=torch.from_numpy(batch.state).to(self.device),
        )
        return shown, torch.stack(noise).to(self.device)

    def _count_clipped(self, state: torch.Tensor) -> None:
        """Count values that the model clips; say so the first time, and whenever their number has grown tenfold."""
        outside = self.model.outside(state)
        found = int(outside.sum())
        if found and (not self.clipped or len(str(self.clipped + found)) > len(str(self.clipped))):
            row, channel = (int(place) for place in outside.nonzero()[0])
            print(
                f"warning: {self.clipped + found:,} values of the state so far are far outside their range in the "
                f"training data and clipped at model.state_bound={self.model.settings.state_bound:g}, now channel "
                f"{channel} at {float(state[row, channel]):g}; check units and order of the state",
                file=sys.stderr,
                flush=True,
            )
        self.clipped += found


def _step(checkpoint: Path, state: Mapping[str, Any]) -> int:
    if type(state.get("step")) is not int:
        raise BuildError(f"{checkpoint}/state.json: step must be a whole number, found {state.get('step')!r:.80}")
    return int(state["step"])


def _interface(checkpoint: Path, state: Mapping[str, Any]) -> RobotInterface:
    sizes, stored = state.get("model_sizes", {}), state.get("robot")
    if not isinstance(sizes, dict) or not sizes.get("action"):
        raise SettingsError(
            f"{checkpoint} was trained on human video alone and cannot act; fine-tune it on a robot build"
        )
    if stored is None:
        raise BuildError(
            f"{checkpoint}/state.json has no robot interface, as one that was imported; fine-tune it on the robot's "
            "build with init_from="
        )
    try:
        found = from_json(RobotInterface, stored, "robot")
        ours = {"views": len(found.views), "state": found.state, "chunk": found.chunk, "action": found.action}
        for name, value in ours.items():
            if sizes.get(name) != value:
                raise ValueError(f"robot.{name} is {value}, the model's is {sizes.get(name)!r:.80}")
        return found
    except ValueError as error:
        raise BuildError(f"{checkpoint}/state.json: {error}") from error


def _ends(scaler: MinMaxScaler) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    middle, half = (buffer.float().cpu().numpy() for buffer in (scaler.center, scaler.half_range))
    return middle - half, middle + half
