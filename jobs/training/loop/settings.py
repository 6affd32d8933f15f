"""Settings of the training loop."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path

from jobs.common.policy.image_ablation import ImageAblation
from jobs.training.metrics.sink_settings import SinkSettings
from pipeline.format.enums import AuditLevel, Device, Verify
from pipeline.format.settings import checked, setting


class CoTraining(StrEnum):
    """How human video and robots share the steps.

    JOINT      one optimiser step on the sum of their losses
    ALTERNATE  the reference's way, two optimiser steps an iteration (robot, then video), each of which moves the
               schedule on: it ends after half of `steps` iterations, and learning rates stay at their final values
    """

    JOINT = "joint"
    ALTERNATE = "alternate"


class Strategy(StrEnum):
    """How several ranks hold the model: each whole, or in parts (FSDP2: parameters, gradients and moments)."""

    DDP = "ddp"
    FSDP = "fsdp"


class OnCorrupt(StrEnum):
    """What happens at a sample that is not what the audited manifest lists: the run stops, or goes on without it."""

    STOP = "stop"
    SKIP = "skip"


@checked
class TrainerSettings:
    """The training loop: section `trainer`. Defaults are the reference's.

    A resumed run must have the same settings where they decide what it learns; the others may change.
    """

    steps: int = setting("optimiser steps of the run", default=50_000, at_least=1)
    warmup_steps: int = setting("steps over which the learning rates rise, at most `steps`", default=5_000, at_least=0)
    batch_size: int = setting(
        "samples of each kind (robot, human video) in a global batch, over all ranks; the builds of a kind share them "
        "by `weights`, in multiples of mixture_unit",
        default=32,
        at_least=1,
    )
    mixture_unit: int = setting(
        "a build's share of a batch is a multiple of this, which the number of ranks must divide", default=8, at_least=1
    )
    accumulate: int = setting(
        "each rank's part of a batch passes through the model in so many pieces", default=1, at_least=1
    )
    co_training: CoTraining = setting(
        "with both kinds: joint, one optimiser step on the sum of their losses; alternate, the reference's way, two "
        "optimiser steps an iteration",
        default=CoTraining.JOINT,
    )
    lr_backbone: float = setting("peak learning rate of the backbone", default=1e-5, above=0, below=math.inf)
    lr_action_head: float = setting("peak learning rate of the action head", default=1e-4, above=0, below=math.inf)
    lr_rest: float = setting("peak learning rate of the rest", default=3e-5, above=0, below=math.inf)
    lr_final_backbone: float = setting(
        "learning rate of the backbone at the end of the cosine, at most its peak; the reference's is a thirtieth",
        default=3.333e-7,
        at_least=0,
        below=math.inf,
    )
    lr_final_action_head: float = setting(
        "learning rate of the action head there", default=3.333e-6, at_least=0, below=math.inf
    )
    lr_final_rest: float = setting("learning rate of the rest there", default=1e-6, at_least=0, below=math.inf)
    beta1: float = setting("AdamW's decay of the first moment", default=0.9, at_least=0, below=1)
    beta2: float = setting("AdamW's decay of the second moment", default=0.95, at_least=0, below=1)
    weight_decay: float = setting("AdamW's weight decay", default=1e-8, at_least=0, below=math.inf)
    clip_norm: float = setting("largest norm of the gradients", default=1.0, above=0)
    ema: float = setting(
        "decay of an exponential moving average of the trained weights, which held-out numbers, serve, evaluate, "
        "export and init_from take; 0: none, as the reference trains",
        default=0.0,
        at_least=0,
        below=1,
    )
    seed: int = setting("of the order of samples and of the noise", default=0)
    device: Device = setting("where the run computes", default=Device.AUTO, decides=False)
    bf16: bool = setting(
        "on CUDA, compute in bfloat16 with rounded copies of float32 weights", default=True, decides=False
    )
    strategy: Strategy = setting("of several ranks: ddp, or fsdp (FSDP2)", default=Strategy.DDP, decides=False)
    rank_timeout_s: float = setting(
        "of several ranks: one on which the others wait for so long is named and ends the run",
        default=900.0,
        decides=False,
        unit="seconds",
        above=0,
        below=math.inf,
    )
    compile: bool = setting(
        "torch.compile of the model, block by block: about a minute at the start", default=False, decides=False
    )
    cuda_graphs: bool = setting(
        "with bf16 on one CUDA device, record forward and backward passes once for each set of shapes",
        default=True,
        decides=False,
    )
    collect_every: int = setting(
        "steps between collections of Python's garbage, on all ranks at once; 0: whenever Python likes",
        default=50,
        decides=False,
        at_least=0,
    )
    threads: int = setting("threads that read samples; 0: the training thread", default=2, decides=False, at_least=0)
    ahead: int = setting("steps kept ready or being read", default=4, decides=False, at_least=1)
    streams: int = setting(
        "canonical streams the order of samples is cut into; ranks must divide it", default=64, at_least=1
    )
    block_shards: int = setting("shards of a block within which samples are shuffled", default=4, at_least=1)
    verify: Verify = setting(
        "compare samples with the audited manifest: every_sample by SHA-256 each time; once: the first time, then by a "
        "quick keyed hash that is kept in cache_folder; off: not",
        default=Verify.ONCE,
        decides=False,
    )
    on_corrupt: OnCorrupt = setting(
        "stop, or skip: a sample that is not what the audited manifest lists counts for nothing and is listed in "
        "skipped.jsonl",
        default=OnCorrupt.STOP,
    )
    max_skipped_share: float = setting(
        "share of the samples seen that may be skipped; more stop the run",
        default=0.01,
        decides=False,
        at_least=0,
        at_most=1,
    )
    audit_level: AuditLevel = setting(
        "least depth of the clean verdict that every build must have", default=AuditLevel.SHARDS, decides=False
    )
    public_key: Path | None = setting(
        "PEM file of the ed25519 key that must have signed the verdict of every build; null: anybody's verdict is "
        "accepted, and run.json names the key it claims",
        default=None,
        decides=False,
    )
    cache_folder: Path | None = setting(
        "cache of remote shards, and of what was verified; null: vlajepa in $XDG_CACHE_HOME or ~/.cache",
        default=None,
        decides=False,
    )
    cache_gb: float = setting("size of that cache, 10^9 bytes", default=200.0, decides=False, unit="GB", above=0)
    prefetch: int = setting("steps ahead for which remote shards are fetched", default=64, decides=False, at_least=0)
    shift: int = setting(
        "augmentation: each image of the student is moved by up to so many pixels, its edge repeated (DrQ, arXiv "
        "2004.13649: 4 of 84); 0: none, as the reference trains",
        default=0,
        unit="pixels",
        at_least=0,
    )
    image_ablation: ImageAblation = setting(
        "grey: the student's images are grey, in training and in held-out losses: what the state alone can do",
        default=ImageAblation.NONE,
    )
    eval_every: int = setting(
        "steps between held-out losses; 0: only at the end", default=500, decides=False, at_least=0
    )
    eval_samples: int = setting(
        "samples of each build's validation split used for them (latent actions are exchanged between samples)",
        default=256,
        decides=False,
        at_least=2,
    )
    eval_partners: int = setting(
        "samples that each of them gets latent actions and images from, of each kind of pair",
        default=4,
        decides=False,
        at_least=1,
    )
    eval_batch: int = setting("of these at a time", default=16, decides=False, at_least=2)
    save_every: int = setting(
        "steps between checkpoints; the last step is always saved", default=1000, decides=False, at_least=1
    )
    keep: int = setting("newest checkpoints that stay", default=2, decides=False, at_least=1)
    keep_every: int = setting(
        "checkpoints of every so many steps stay for good; 0: none", default=0, decides=False, at_least=0
    )
    async_save: bool = setting(
        "write checkpoints while training goes on, from a copy in the host's memory", default=True, decides=False
    )
    divergence: float | None = setting(
        "stop when the loss is so many times its running mean; null: only when it is not finite",
        default=10.0,
        decides=False,
        above=1,
    )
    log_every: int = setting("steps between lines of metrics", default=10, decides=False, at_least=1)
    count_flops: bool = setting(
        "estimate FLOPs of a step at the start, for TFLOP/s and MFU", default=True, decides=False
    )
    device_flops: float | None = setting(
        "dense bfloat16 peak of a device; null: by its name, if it is a known one",
        default=None,
        decides=False,
        unit="FLOP/s",
        above=0,
    )
    wandb: str | None = setting("project of Weights & Biases; null: none", default=None, decides=False)
    mlflow: str | None = setting(
        "experiment of MLflow, on the server of MLFLOW_TRACKING_URI; null: none", default=None, decides=False
    )
    metrics_port: int | None = setting(
        "port at which Prometheus reads the newest numbers, 0: a free one; null: none",
        default=None,
        decides=False,
        at_least=0,
        at_most=65535,
    )
    metrics_host: str = setting("address that `metrics_port` is opened on", default="127.0.0.1", decides=False)
    stop_after: int | None = setting(
        "end the run after this step without shortening the schedule; null: run to `steps`",
        default=None,
        decides=False,
        at_least=1,
    )
    num_workers: int | None = setting(
        "workers that Ray Train starts; null: this process, or those of torchrun",
        default=None,
        decides=False,
        at_least=1,
    )
    use_gpu: bool = setting("each Ray worker reserves a GPU", default=False, decides=False)
    cpus_per_worker: float = setting("processors that each Ray worker reserves", default=1.0, decides=False, at_least=0)
    max_failures: int = setting("restarts after a Ray worker died", default=3, decides=False, at_least=0)

    @property
    def sinks(self) -> SinkSettings:
        """Where the numbers of the run go besides metrics.jsonl."""
        return SinkSettings(self.wandb, self.mlflow, self.metrics_port, self.metrics_host)

    @property
    def last_step(self) -> int:
        """The step this call ends at."""
        return min(self.steps, self.stop_after or self.steps)

    def __post_init__(self) -> None:
        if self.audit_level is AuditLevel.MANIFEST:
            raise ValueError("audit_level must be shards or deeper: at level manifest no shard is read")
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps must be at most steps={self.steps}, got {self.warmup_steps}")
