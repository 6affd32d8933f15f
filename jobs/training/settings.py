"""Settings of the commands that train, and of those about checkpoints."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path

from jobs.training.loop.settings import TrainerSettings
from model.settings import ModelSettings
from pipeline.format.schema import Sizes
from pipeline.format.settings import checked, setting
from pipeline.planning.hardware import Hardware


class Resume(StrEnum):
    """Whether a run goes on from the last checkpoint in its folder, or refuses if there is one."""

    AUTO = "auto"
    NEVER = "never"


class CheckpointFormat(StrEnum):
    """Whose checkpoint is written: a LeRobot vla_jepa folder, or the reference's `.pt` file."""

    LEROBOT = "lerobot"
    STARVLA = "starvla"


@checked
class TrainCluster:
    """The Ray cluster of `trainer.num_workers`: section `cluster`."""

    address: str | None = setting(
        '"auto" or "HOST:PORT": a running cluster; null: a Ray of its own on this machine', default=None
    )


@checked
class Stage:
    """One training of several in a row."""

    experiment: str = setting("name of an experiment")
    builds: tuple[str, ...] = setting("names of builds of sample data, see `stages.py`")
    settings: tuple[str, ...] = setting("settings of its own, as on the command line", default=())


@checked
class TrainConfig:
    """`vlajepa train`."""

    out: Path = setting("folder of the run")
    builds: tuple[str, ...] = setting(
        "finished, audited builds: folders or addresses (s3://, gs://, https://), all with targets of the same encoder "
        "and number of steps"
    )
    model: ModelSettings = setting("the model", default_factory=ModelSettings)
    trainer: TrainerSettings = setting("the training loop", default_factory=TrainerSettings)
    weights: tuple[float, ...] = setting(
        "one number a build: how the builds of a kind (robot, human video) share a batch; none: by their samples",
        default=(),
    )
    cluster: TrainCluster = setting("where Ray runs", default_factory=TrainCluster)
    stages: tuple[Stage, ...] = setting(
        "train these in a row instead, each from the weights of the one before, in folders of `out`", default=()
    )
    stage_settings: tuple[str, ...] = setting("settings of every stage, as on the command line", default=())
    init_from: Path | None = setting(
        "weights a new run starts from: a run's folder (its newest checkpoint), a checkpoint folder (its moving "
        "averages, if it has any), a LeRobot vla_jepa folder or the reference's `.pt`; actions and state are scaled by "
        "the builds' ranges; a resumed run ignores it",
        default=None,
    )
    for_export: CheckpointFormat | None = setting(
        "refuse before training what `vlajepa export format=…` would refuse after it", default=None
    )
    fine_tuning: bool = setting("init_from has to be given", default=False)
    reinitialise: tuple[str, ...] = setting(
        "parts that start afresh, for another robot: of action_encoder, action_decoder, state_encoder", default=()
    )
    resume: Resume = setting(
        "auto: from the last checkpoint in `out` if there is one; never: refuse if there is one", default=Resume.AUTO
    )
    allow_leaky: bool = setting("accept builds stamped leaky (encoder mode clip); for comparison only", default=False)

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


REFERENCE_SIZES = Sizes(views=2, image_size=224, steps=3, tokens=256, width=1024, state=8, chunk=7, action=7)
"""Those of the reference's robot builds."""


@checked
class EstimateConfig:
    """`vlajepa estimate`."""

    model: ModelSettings = setting("the model", default_factory=ModelSettings)
    sizes: Sizes = setting("of the robot builds, where no builds are given", default=REFERENCE_SIZES)
    builds: tuple[Path, ...] = setting(
        "builds of the run; none: `sizes` and `kinds` say what they would be", default=()
    )
    kinds: tuple[str, ...] = setting('"robot" or "video" for each build', default=("robot", "video"))
    batch_size: int = setting("samples of each build on one device", default=32, at_least=1)
    bf16: bool = setting("under autocast, as on CUDA", default=True)
    ema: bool = setting("with moving averages of the trained weights, as trainer.ema keeps them", default=False)
    instruction: str = setting("of every sample", default="pick up the bottle and put it on the plate")
    steps: int = setting("training steps of the run", default=50_000, at_least=1)
    hardware: Hardware = setting("the device that time is predicted for", default_factory=Hardware)

    def __post_init__(self) -> None:
        if not self.kinds or not set(self.kinds) <= {"robot", "video"}:
            raise ValueError(f"kinds must be a list of robot and video, got {list(self.kinds)}")


@checked
class ImportConfig:
    """`vlajepa import`: a released checkpoint as one of this system."""

    checkpoint: Path = setting("the reference's `.pt` file or a LeRobot vla_jepa folder")
    out: Path = setting("checkpoint folder to write")
    model: ModelSettings = setting("the model that it was trained as", default_factory=ModelSettings)
    sizes: Sizes = setting("what it was trained for", default=REFERENCE_SIZES)
    reinitialise: tuple[str, ...] = setting(
        "parts that get fresh weights instead: of action_encoder, action_decoder, state_encoder", default=()
    )


@checked
class ExportConfig:
    """`vlajepa export`: a checkpoint for another system."""

    checkpoint: Path = setting("a run's folder (its newest checkpoint) or a step-… folder of one")
    out: Path = setting("folder (lerobot) or file (starvla) to write")
    format: CheckpointFormat = setting("whose checkpoint is written", default=CheckpointFormat.LEROBOT)
    cameras: tuple[str, ...] = setting("names of the views in order, for lerobot", default=())
    encoder_path: str = setting(
        "the target encoder that LeRobot loads beside the policy", default="facebook/vjepa2-vitl-fpc64-256"
    )
