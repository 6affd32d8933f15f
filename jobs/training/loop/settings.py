"""Settings of the training loop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs.common.image_ablation import ImageAblation

_AT_LEAST_ONE = (
    "steps", "batch_size", "mixture_unit", "accumulate", "ahead", "streams", "block_shards", "save_every", "keep",
    "stop_after", "num_workers",
)  # fmt: skip


_AT_LEAST_ZERO = (
    "warmup_steps", "eval_every", "threads", "weight_decay", "lr_final", "keep_every", "prefetch", "max_failures",
    "cpus_per_worker", "shift",
)  # fmt: skip


_CHOICES = {
    "device": ("auto", "cpu", "cuda"),
    "co_training": ("joint", "alternate"),
    "strategy": ("ddp", "fsdp"),
    "on_corrupt": ("stop", "skip"),
}


@dataclass(frozen=True)
class TrainerSettings:
    """The training loop. Reference: 50K steps, 5K of warm-up, 32 samples a GPU, learning rates as below.

    batch_size       samples of each kind (robot, human video) in a global batch, over all ranks; the builds of a kind
                     share them by `weights`, in multiples of mixture_unit, which the number of ranks must divide
    accumulate       each rank's part of a batch passes through the model in so many pieces
    co_training      with both kinds: "joint", one optimiser step on the sum of their losses; "alternate", the
                     reference's way, two optimiser steps an iteration (robot, then video), each of which moves the
                     schedule on: it ends after half of `steps` iterations, and learning rates stay at lr_final
    lr_*             peak learning rates of backbone, action head and the rest; cosine to lr_final after warm-up
    strategy         of several ranks: "ddp", or "fsdp" (FSDP2: parameters, gradients and moments in parts)
    compile          torch.compile of vision, predictor and action head, block by block (prompts change their lengths)
    verify           compare the SHA-256 of every sample read with the audited manifest
    on_corrupt       "stop", or "skip": a sample that is not what the audited manifest lists counts for nothing, and
                     stands in skipped.jsonl; more of them than max_skipped_share of the samples seen stop the run
    streams, block_shards  see pipeline/streaming/order.py;  threads, ahead  see pipeline/streaming/stream.py
    cache_folder     of remote shards; null: vlajepa in $XDG_CACHE_HOME or ~/.cache;  cache_gb  its size in 1e9 bytes
    prefetch         steps ahead for which remote shards are fetched
    shift            augmentation: each picture of the student is moved by up to so many pixels, its edge repeated
                     (DrQ, arXiv 2004.13649: 4 of 84); 0: none, as the reference trains
    image_ablation   "none", or "grey": the student's pictures are grey in training and in held-out losses, a control
                     for what the state alone can do
    eval_every       steps between held-out losses; 0: only at the end
    eval_samples     samples of each build's validation split used for them;  eval_batch  at a time
    save_every       steps between checkpoints; the last step is always saved
    keep, keep_every  the newest `keep` checkpoints stay, and those of every keep_every-th step for good (0: none)
    async_save       write checkpoints while training goes on, from a copy in the host's memory
    divergence       stop when the loss is this many times its running mean (null: only when it is not finite)
    count_flops      estimate FLOPs of a step at the start, for TFLOP/s and MFU
    device_flops     dense bfloat16 peak of a device, FLOP/s; null: by its name, if it is a known one
    wandb            project of Weights & Biases; null: none
    stop_after       end the run after this step without shortening the schedule; null: run to `steps`
    num_workers      null: this process, or those of torchrun; else Ray Train starts so many
    use_gpu, cpus_per_worker  what each of them reserves;  max_failures  restarts after a worker died
    """

    steps: int = 50_000
    warmup_steps: int = 5_000
    batch_size: int = 32
    mixture_unit: int = 8
    accumulate: int = 1
    co_training: str = "joint"
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
    strategy: str = "ddp"
    compile: bool = False
    threads: int = 2
    ahead: int = 4
    streams: int = 64
    block_shards: int = 4
    verify: bool = True
    on_corrupt: str = "stop"
    max_skipped_share: float = 0.01
    cache_folder: Path | None = None
    cache_gb: float = 200.0
    prefetch: int = 64
    shift: int = 0
    image_ablation: ImageAblation = ImageAblation.NONE
    eval_every: int = 500
    eval_samples: int = 256
    eval_batch: int = 16
    save_every: int = 1000
    keep: int = 2
    keep_every: int = 0
    async_save: bool = True
    divergence: float | None = 10.0
    log_every: int = 10
    count_flops: bool = True
    device_flops: float | None = None
    wandb: str | None = None
    stop_after: int | None = None
    num_workers: int | None = None
    use_gpu: bool = False
    cpus_per_worker: float = 1.0
    max_failures: int = 3

    @property
    def last_step(self) -> int:
        """The step this call ends at."""
        return min(self.steps, self.stop_after or self.steps)

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and value < 1:
                null = "null or " if name in ("stop_after", "num_workers") else ""
                raise ValueError(f"{name} must be {null}at least 1, got {value}")
        for name in _AT_LEAST_ZERO:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("lr_backbone", "lr_action_head", "lr_rest", "clip_norm", "log_every", "cache_gb"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("eval_samples", "eval_batch"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2 (latent actions are exchanged), got {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if not 0 <= self.max_skipped_share <= 1:
            raise ValueError(f"max_skipped_share must be 0..1, got {self.max_skipped_share}")
        if self.divergence is not None and not self.divergence > 1:
            raise ValueError(f"divergence must be null or above 1, got {self.divergence}")
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps must be at most steps={self.steps}, got {self.warmup_steps}")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
