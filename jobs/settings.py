"""What every command can be told: dataclasses that check their values where they enter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.settings import ModelSettings
from pipeline.schema import Sizes
from pipeline.windows import WindowPolicy


@dataclass(frozen=True)
class SourcesConfig:
    """`vlajepa sources`. name: of one manifest; null: list them all."""

    name: str | None = None


@dataclass(frozen=True)
class InspectConfig:
    """`vlajepa inspect`. `window` and `max_bad_share` come with a source and are of no use here.

    episodes  opened, spread over the dataset; null: all
    out       folder for contact-sheet.png and inspection.json; null: inspect-NAME
    """

    source: dict[str, Any]
    window: WindowPolicy
    episodes: int | None = 24
    out: Path | None = None
    max_bad_share: float | None = None

    def __post_init__(self) -> None:
        if self.episodes is not None and self.episodes < 1:
            raise ValueError(f"episodes must be null or at least 1, got {self.episodes}")


@dataclass(frozen=True)
class AuditConfig:
    """`vlajepa audit`. Everything below `level` serves levels "source" and "perturb".

    build       folder of the build, or its URL (s3://, gs://): its shards are then fetched one by one
    root        folder of the raw data
    encoder_path  name or folder of the encoder the build was made with (its weights are compared with build.json)
    device      where it runs: "auto", "cpu" or "cuda"
    seed        of the random share; null draws one, which the verdict names
    share       part of the samples encoded again and perturbed;  least  at least so many
    workers     threads that decode
    checkpoint  a step-… folder whose model is perturbed; null: the tiny model
    sign_key    PEM file of an ed25519 private key that signs the verdict
    """

    build: Path | str
    level: str = "shards"
    root: Path | None = None
    encoder_path: str = "facebook/vjepa2-vitl-fpc64-256"
    device: str = "auto"
    seed: int | None = None
    share: float = 0.02
    least: int = 16
    workers: int = 2
    checkpoint: Path | None = None
    sign_key: Path | None = None

    def __post_init__(self) -> None:
        if self.level not in ("manifest", "shards", "source", "perturb"):
            raise ValueError(f"level must be one of manifest, shards, source, perturb, got {self.level!r}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device must be one of auto, cpu, cuda, got {self.device!r}")
        if self.sign_key is not None and self.level == "manifest":
            raise ValueError("sign_key needs level shards, source or perturb (it signs verdict.json), got 'manifest'")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be 0..1, got {self.share}")
        if self.least < 1 or self.workers < 1:
            raise ValueError(f"least and workers must be at least 1, got {self.least} and {self.workers}")


@dataclass(frozen=True)
class VerifyConfig:
    """`vlajepa verify`.

    build       folder of the build, or its URL
    public_key  PEM file of an ed25519 public key; null: no signature is checked
    level       the least depth of audit that is accepted
    hash_files  hash every file that build.json lists;  workers  threads that do
    """

    build: Path | str
    public_key: Path | None = None
    level: str = "shards"
    hash_files: bool = True
    workers: int = 2

    def __post_init__(self) -> None:
        if self.level not in ("shards", "source", "perturb"):
            raise ValueError(f"level must be one of shards, source, perturb, got {self.level!r}")
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")


@dataclass(frozen=True)
class ReportConfig:
    """`vlajepa report`.

    run      folder of a training run
    out      the page; null: report.html in it
    builds   folders of the run's builds, if they no longer lie where run.json says
    samples  held-out samples of each build whose predictions are shown; 0: none, and no model is loaded
    device   "cpu" or "cuda", that predicts them
    """

    run: Path
    out: Path | None = None
    builds: tuple[str, ...] = ()
    samples: int = 4
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 0 <= self.samples <= 64:
            raise ValueError(f"samples must be 0..64 (the page holds all pictures), got {self.samples}")
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device must be one of cpu, cuda, got {self.device!r}")


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


@dataclass(frozen=True)
class SampleDataConfig:
    """`vlajepa sample-data`: a small tabletop world as an SSv2 folder and a LeRobot v2.1 folder."""

    out: Path
    clips: int = 120
    episodes: int = 24
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("clips", "episodes"):
            if getattr(self, name) < 4:
                raise ValueError(f"{name} must be at least 4, got {getattr(self, name)}")


@dataclass(frozen=True)
class DemoConfig:
    """`vlajepa demo`.

    clips, episodes  size of the sample data
    steps            training steps
    """

    out: Path
    clips: int = 160
    episodes: int = 32
    steps: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 50:
            raise ValueError(f"steps must be at least 50 (the warm-up of trainer=demo), got {self.steps}")


@dataclass(frozen=True)
class DemoLiberoConfig:
    """`vlajepa demo-libero`.

    simulator       python of the environment that LIBERO is installed in
    suite, tasks    which tasks, by their indices; one policy learns all of them
    demonstrations  of each task that a policy is trained on. Of one task there may be several numbers: the smaller ones
                    take the first of the same demonstrations, the world model is pretrained on all of them
    seeds           of the trainings
    compare         train each policy also from scratch, without the pretrained world model
    pretrain_steps  of the world model, without actions;  steps  of each policy
    episodes        of each task and policy, from the benchmark's start state 0 on
    execute         actions of a chunk carried out before the policy is asked again
    processes       simulators of a part at a time
    at_a_time       parts at a time, among which the processor cores are divided
    """

    simulator: Path
    out: Path
    suite: str = "libero_object"
    tasks: tuple[int, ...] = (0,)
    demonstrations: tuple[int, ...] = (60,)
    seeds: tuple[int, ...] = (0,)
    compare: bool = False
    pretrain_steps: int = 1000
    steps: int = 3000
    episodes: int = 20
    execute: int = 4
    processes: int = 2
    at_a_time: int = 2

    def __post_init__(self) -> None:
        for name in ("tasks", "demonstrations", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be different numbers, at least one, got {list(values)}")
        for name in ("pretrain_steps", "steps", "episodes", "execute", "processes", "at_a_time"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if len(self.tasks) > 1 and len(self.demonstrations) > 1:
            raise ValueError(
                f"demonstrations must be one number where there are several tasks, got {list(self.demonstrations)}"
            )


@dataclass(frozen=True)
class DemoLeakConfig:
    """`vlajepa demo-leak`.

    episodes  robot episodes of the sample data
    steps     training steps on each of the two builds
    samples   episodes in which the future is replaced
    """

    out: Path
    episodes: int = 32
    steps: int = 300
    samples: int = 24
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 50:
            raise ValueError(f"steps must be at least 50 (the warm-up of trainer=demo), got {self.steps}")
        if self.episodes < 8 or self.samples < 1:
            raise ValueError(
                f"episodes must be at least 8 and samples at least 1, got {self.episodes} and {self.samples}"
            )
