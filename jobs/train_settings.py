"""What `vlajepa train` can be told: dataclasses that check their values where they enter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.settings import ModelSettings


@dataclass(frozen=True)
class TrainerSettings:
    """The training loop. Reference: 50K steps, 5K of warm-up, 32 samples a GPU, learning rates as below.

    batch_size       samples of each build in a global batch
    lr_*             peak learning rates of backbone, action head and the rest; cosine to lr_final after warm-up
    verify           compare the SHA-256 of every sample read with the audited manifest
    eval_every       steps between held-out losses; 0: only at the end
    eval_samples     samples of each build's validation split used for them
    save_every       steps between checkpoints; the last step is always saved
    keep             how many checkpoints are kept
    stop_after       end the run after this step without shortening the schedule; null: run to `steps`
    """

    steps: int = 50_000
    warmup_steps: int = 5_000
    batch_size: int = 32
    lr_backbone: float = 1e-5
    lr_action_head: float = 1e-4
    lr_rest: float = 3e-5
    lr_final: float = 1e-6
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 1e-8
    clip_norm: float = 1.0
    seed: int = 0
    device: str = "auto"
    bf16: bool = True
    threads: int = 2
    ahead: int = 4
    streams: int = 64
    block_shards: int = 4
    verify: bool = True
    eval_every: int = 500
    eval_samples: int = 256
    save_every: int = 1000
    keep: int = 2
    log_every: int = 10
    stop_after: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "ahead", "streams", "block_shards", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("warmup_steps", "eval_every", "threads", "weight_decay", "lr_final"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("lr_backbone", "lr_action_head", "lr_rest", "clip_norm", "log_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.eval_samples < 2:
            raise ValueError(f"eval_samples must be at least 2 (latent actions are exchanged), got {self.eval_samples}")
        if self.stop_after is not None and self.stop_after < 1:
            raise ValueError(f"stop_after must be null or at least 1, got {self.stop_after}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps must be at most steps={self.steps}, got {self.warmup_steps}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device must be one of auto, cpu, cuda, got {self.device!r}")


@dataclass(frozen=True)
class TrainConfig:
    """`vlajepa train`.

    builds       finished, audited builds; all with targets of the same encoder and number of steps
    resume       "auto": from the last checkpoint in `out` if there is one; "never": refuse if there is one
    allow_leaky  accept builds stamped leaky (mode `clip`); for comparison only
    init_from    weights a new run starts from: a checkpoint folder, a LeRobot vla_jepa folder or the reference's `.pt`;
                 actions and state are scaled by the builds' ranges all the same. A resumed run ignores it
    reinitialise  parts that start afresh, for another robot: of action_encoder, action_decoder, state_encoder
    """

    out: Path
    builds: tuple[Path, ...]
    model: ModelSettings
    trainer: TrainerSettings
    init_from: Path | None = None
    reinitialise: tuple[str, ...] = ()
    resume: str = "auto"
    allow_leaky: bool = False

    def __post_init__(self) -> None:
        if not self.builds:
            raise ValueError("builds must be a list of at least one build folder, got none")
        if self.resume not in ("auto", "never"):
            raise ValueError(f"resume must be one of auto, never, got {self.resume!r}")
