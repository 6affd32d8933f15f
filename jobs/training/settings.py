"""What `vlajepa train` can be told: dataclasses that check their values where they enter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from jobs.training.loop.settings import TrainerSettings
from model.settings import ModelSettings
from pipeline.format.schema import Sizes


@dataclass(frozen=True)
class TrainCluster:
    """The Ray cluster of `trainer.num_workers`: null: a Ray of its own on this machine; "auto" or "HOST:PORT"."""

    address: str | None = None


@dataclass(frozen=True)
class Stage:
    """One training of several in a row: an experiment, names of builds (see `stages.py`), settings of its own."""

    experiment: str
    builds: tuple[str, ...]
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainConfig:
    """`vlajepa train`.

    builds       finished, audited builds, folders or addresses (s3://, gs://, https://); all with targets of the
                 same encoder and number of steps
    weights      one number a build: how the builds of a kind (robot, human video) share a batch; none: by their samples
    resume       "auto": from the last checkpoint in `out` if there is one; "never": refuse if there is one
    stages       train these in a row instead, each from the weights of the one before, in folders of `out`, on builds
                 of sample data;  stage_settings  of every stage, as on the command line
    allow_leaky  accept builds stamped leaky (mode `clip`); for comparison only
    init_from    weights a new run starts from: a run's folder (its newest checkpoint), a checkpoint folder, a LeRobot
                 vla_jepa folder or the reference's `.pt`; actions and state are scaled by the builds' ranges all the
                 same. A resumed run ignores it
    fine_tuning  init_from has to be given
    reinitialise  parts that start afresh, for another robot: of action_encoder, action_decoder, state_encoder
    """

    out: Path
    builds: tuple[str, ...]
    model: ModelSettings
    trainer: TrainerSettings
    weights: tuple[float, ...] = ()
    cluster: TrainCluster = TrainCluster()
    stages: tuple[Stage, ...] = ()
    stage_settings: tuple[str, ...] = ()
    init_from: Path | None = None
    fine_tuning: bool = False
    reinitialise: tuple[str, ...] = ()
    resume: str = "auto"
    allow_leaky: bool = False

    def __post_init__(self) -> None:
        if not self.builds and not self.stages:
            raise ValueError("builds must be a list of at least one build folder, got none")
        if self.fine_tuning and self.init_from is None:
            raise ValueError(
                "init_from must name the weights that fine-tuning starts from (a run's folder, a checkpoint, …), got "
                "null; fine_tuning=false starts from the backbone alone"
            )
        if self.weights and len(self.weights) != len(self.builds):
            raise ValueError(f"weights must be one number a build ({len(self.builds)}), got {len(self.weights)}")
        if not all(math.isfinite(weight) and weight > 0 for weight in self.weights):
            raise ValueError(f"weights must be above 0, got {list(self.weights)}")
        if self.resume not in ("auto", "never"):
            raise ValueError(f"resume must be one of auto, never, got {self.resume!r}")


@dataclass(frozen=True)
class EstimateConfig:
    """`vlajepa estimate`.

    builds       builds of the run; none: `sizes` and `kinds` say what they would be
    sizes        of the robot builds
    kinds        "robot" or "video" for each build
    batch_size   samples of each build on one device
    bf16         under autocast, as on CUDA
    instruction  of every sample
    steps        of the run
    flops        dense bfloat16 peak of the device, FLOP/s (A100: 312e12, its data sheet)
    utilisation  share of it that is assumed
    """

    model: ModelSettings
    sizes: Sizes
    builds: tuple[Path, ...] = ()
    kinds: tuple[str, ...] = ("robot", "video")
    batch_size: int = 32
    bf16: bool = True
    instruction: str = "pick up the bottle and put it on the plate"
    steps: int = 50_000
    flops: float = 312e12
    utilisation: float = 0.4

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.kinds or not set(self.kinds) <= {"robot", "video"}:
            raise ValueError(f"kinds must be a list of robot and video, got {list(self.kinds)}")
        if not (self.flops > 0 and 0 < self.utilisation <= 1):
            raise ValueError(f"flops must be above 0 and utilisation in (0, 1], got {self.flops}, {self.utilisation}")


@dataclass(frozen=True)
class ImportConfig:
    """`vlajepa import`: a released checkpoint as one of this system.

    checkpoint    the reference's `.pt` file or a LeRobot vla_jepa folder
    out           checkpoint folder to write
    sizes         what the checkpoint was trained for
    reinitialise  parts that get fresh weights instead: of action_encoder, action_decoder, state_encoder
    """

    checkpoint: Path
    out: Path
    model: ModelSettings
    sizes: Sizes
    reinitialise: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportConfig:
    """`vlajepa export`: a checkpoint for another system.

    checkpoint  a step-… folder of a run
    out         folder (lerobot) or file (starvla) to write
    format      "lerobot" or "starvla"
    cameras     names of the views in order, for lerobot
    encoder_path  the target encoder LeRobot loads beside the policy
    """

    checkpoint: Path
    out: Path
    format: str = "lerobot"
    cameras: tuple[str, ...] = ()
    encoder_path: str = "facebook/vjepa2-vitl-fpc64-256"

    def __post_init__(self) -> None:
        if self.format not in ("lerobot", "starvla"):
            raise ValueError(f"format must be one of lerobot, starvla, got {self.format!r}")
