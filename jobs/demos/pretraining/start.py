"""What a policy's training starts from."""

from __future__ import annotations

from enum import StrEnum


class Start(StrEnum):
    """What a policy's training starts from.

    SCRATCH     random weights
    SHUFFLED    a world model whose predictor got the latent actions of another sample: the control
    PRETRAINED  a world model
    """

    SCRATCH = "scratch"
    SHUFFLED = "shuffled"
    PRETRAINED = "pretrained"

    def world_model(self, seed: int) -> str:
        """Name of the run that it starts from."""
        return f"{self.value}-seed-{seed}"
