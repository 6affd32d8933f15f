"""Settings of `vlajepa demo-pretraining`."""

from __future__ import annotations

from pathlib import Path

from jobs.demos.pretraining.start import STARTS, Start
from model.settings import HeadInput
from pipeline.format.settings import checked, setting


@checked
class DemoPretrainingConfig:
    """`vlajepa demo-pretraining`."""

    out: Path = setting("folder that is made", default=Path("demo-pretraining-out"), decides=False)
    episodes: int = setting("of pretraining, whose actions are not used", default=1000, at_least=16)
    twins: int = setting(
        "held-out scenes, each under two instructions, so twice as many cases", default=100, at_least=8
    )
    demonstrations: tuple[int, ...] = setting(
        "numbers of demonstrations that policies are fine-tuned on: the first of these episodes, with actions",
        default=(50, 100),
        at_least=16,
        decides=False,
    )
    seeds: tuple[int, ...] = setting(
        "of weights, order and noise of the trainings; the world's is `world_seed`", default=(0,), decides=False
    )
    starts: tuple[Start, ...] = setting(
        "what policies start from: random weights, a world model, or one of its controls",
        default=STARTS,
        decides=False,
    )
    reads: tuple[HeadInput, ...] = setting(
        "tokens of the student that the action head reads: one policy each", default=(HeadInput.LATENT,), decides=False
    )
    predictor_layers: int = setting(
        "blocks of the predictor; one alone cannot look up which thing an instruction names: the student has to",
        default=1,
        at_least=1,
    )
    student_layers: int = setting("decoder layers of the student", default=2, at_least=2)
    pretrain_steps: int = setting("training steps of a world model", default=3600, at_least=50)
    steps: int = setting("training steps of a policy", default=300, at_least=1)
    lr_backbone: float = setting("peak learning rate of a policy's student", default=1e-3, above=0)
    lr_action_head: float = setting("peak learning rate of a policy's action head", default=2e-3, above=0)
    lr_rest: float = setting("peak learning rate of a policy's predictor", default=2e-3, above=0)
    world_seed: int = setting("of the sample world's scenes", default=0, at_least=0)
    at_a_time: int = setting(
        "commands at a time, among which the processor cores are divided", default=1, decides=False, at_least=1
    )

    def __post_init__(self) -> None:
        for name in ("demonstrations", "seeds", "starts", "reads"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be different values, at least one, got {list(values)}")
        if max(self.demonstrations) > self.episodes:
            raise ValueError(
                f"demonstrations must be at most episodes={self.episodes}, got {max(self.demonstrations)}; a "
                "demonstration is one of them"
            )
