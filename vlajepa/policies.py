"""A checkpoint that acts, by the code that the policy server runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.common.policy.checkpoint_policy import CheckpointPolicy
from jobs.common.policy.robot_interface import RobotInterface, RobotObservation
from pipeline.errors import SettingsError


def load_policy(checkpoint: str | Path, device: str = "auto") -> LoadedPolicy:
    """The model of a checkpoint.

    Args:
        checkpoint: a run's folder, of which the newest checkpoint is taken, or a step-… folder.
        device: "auto" (CUDA where there is one), "cpu" or "cuda".

    Raises:
        BuildError: there is no checkpoint, it is damaged, or it was imported and has no robot interface.
        SettingsError: it was trained on human video alone, its backbone cannot be found, or there is no such device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"device must be one of auto, cpu, cuda, got {device!r}")
    return LoadedPolicy(CheckpointPolicy(Path(checkpoint).expanduser(), device))


class LoadedPolicy:
    """A policy. Made by `load_policy`."""

    def __init__(self, policy: CheckpointPolicy) -> None:
        self._policy = policy

    @property
    def checkpoint(self) -> Path:
        """Its folder."""
        return self._policy.checkpoint

    @property
    def interface(self) -> RobotInterface:
        """The cameras, sizes and rate that it was trained with."""
        return self._policy.interface

    @property
    def builds(self) -> tuple[str, ...]:
        """The builds that it was trained on, each with its verdict."""
        return tuple(f"{voucher.build}: {voucher.verdict}" for voucher in self._policy.vouchers)

    def act(
        self,
        images: Mapping[str, NDArray[np.uint8]],
        instruction: str,
        state: NDArray[np.float32] | Sequence[float] = (),
        seed: int = 0,
    ) -> NDArray[np.float32]:
        """A chunk of actions for one observation: float32 [T, A] in the build's units, `interface.fps` a second.

        Args:
            images: uint8 RGB [H, W, 3] of any size, by view.
            instruction: of the task.
            state: [S] in the build's units; empty for a robot without state.
            seed: of the noise that the actions start from; equal seeds and observations give equal actions.

        Raises:
            ValueError: the observation does not fit the interface; the message names what is missing.
            RunError: the actions are not finite.
        """
        observation = RobotObservation(images, instruction, np.asarray(state, np.float32))
        chunk: NDArray[np.float32] = self._policy.act([observation], [seed])[0]
        return chunk

    def __repr__(self) -> str:
        i = self.interface
        return (
            f"<policy {self.checkpoint}: views {', '.join(i.views)}; state {i.state}, chunk {i.chunk} x {i.action} at "
            f"{i.fps:g} a second; trained on {'; '.join(self.builds)}>"
        )
