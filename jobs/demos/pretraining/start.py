"""What a policy's training starts from."""

from __future__ import annotations

from enum import StrEnum


class Start(StrEnum):
    """What a policy's training starts from.

    SCRATCH        random weights
    SHUFFLED       a world model whose predictor got the latent actions of another sample: the control
    OTHER_TARGETS  a world model that had to tell the future of another sample: likewise
    CLONED         behaviour cloning on the world model's samples: their actions, and no world model
    PRETRAINED     a world model
    """

    SCRATCH = "scratch"
    SHUFFLED = "shuffled"
    OTHER_TARGETS = "other_targets"
    CLONED = "cloned"
    PRETRAINED = "pretrained"

    def world_model(self, seed: int) -> str:
        """Name of the run that it starts from."""
        return f"{self.value}-seed-{seed}"

    @property
    def words(self) -> tuple[str, ...]:
        """Settings of that run which differ from a world model's."""
        return _WORDS.get(self, ())


_WORDS = {
    Start.SHUFFLED: ("model.predictor.steered_by=shuffled",),
    Start.OTHER_TARGETS: ("model.loss.other_targets=true",),
    Start.CLONED: ("model.loss.action=1", "model.loss.world_model_on_robot=0"),
}

STARTS = (Start.SCRATCH, Start.SHUFFLED, Start.PRETRAINED)
"""Of `vlajepa demo-pretraining`, in the order of its table."""
