"""What the commands that make builds can be told, and those that change finished ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.encoding import EncoderSettings, LatentSettings
from pipeline.inputs import InputSettings
from pipeline.plan import ShardSettings
from pipeline.prediction import Hardware
from pipeline.windows import WindowPolicy


@dataclass(frozen=True)
class ClusterSettings:
    """Where Ray runs and what each kind of task takes.

    address          null: a Ray of its own on this machine; "auto" or "HOST:PORT": a running cluster
    num_cpus         processors of the Ray of its own; null: all
    object_store_mb  its shared memory
    encoders         encoder actors; encoder_gpus and encoder_cpus: what one of them reserves
    task_cpus        processors that a decoding or an inputs task reserves
    task_resources, encoder_resources  Ray resources of your own that one reserves besides, as {decoder: 1}
    chunks_ahead     chunks decoded ahead for one shard
    ahead_mb         MiB that one encoder may hold decoded and not yet encoded, over its two shards; a chunk of long
                     episodes that is larger is decoded alone
    episode_limit_s  seconds after which an episode's reader counts as hanging: the episode is left out
    patience_s       seconds without any encoder, because nodes died, after which the run gives up
    """

    address: str | None = None
    num_cpus: int | None = None
    object_store_mb: int = 1024
    encoders: int = 1
    encoder_gpus: float = 0.0
    encoder_cpus: float = 1.0
    task_cpus: float = 1.0
    task_resources: dict[str, float] | None = None
    encoder_resources: dict[str, float] | None = None
    chunks_ahead: int = 2
    ahead_mb: int = 512
    episode_limit_s: float = 900.0
    patience_s: float = 600.0

    def __post_init__(self) -> None:
        for name in ("encoders", "chunks_ahead", "ahead_mb"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_cpus is not None and self.num_cpus < 1:
            raise ValueError(f"num_cpus must be null or at least 1, got {self.num_cpus}")
        for name in ("episode_limit_s", "patience_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0 seconds, got {getattr(self, name)}")
        if self.object_store_mb < 100:
            raise ValueError(f"object_store_mb must be at least 100, got {self.object_store_mb}")

    @property
    def encoder_device(self) -> str:
        """Kind of device the encoders run on."""
        return "cuda" if self.encoder_gpus > 0 else "cpu"


@dataclass(frozen=True)
class BuildConfig:
    """`vlajepa plan` and `vlajepa preprocess`.

    out            folder of the build, or its URL (s3://, gs://)
    source         type, name, root and the type's own settings: see pipeline/sources
    limit          use only the first so many episodes of each split; null: all
    max_bad_share  stop when more than this share of the episodes had to be left out
    hardware       the cluster that time and cost are predicted for; changes no byte
    hash_raw       hash every raw file when planning: one that changes before it is read is told even if its size stays
    """

    out: Path | str
    source: dict[str, Any]
    window: WindowPolicy
    inputs: InputSettings
    encoder: EncoderSettings
    shards: ShardSettings
    cluster: ClusterSettings
    splits: tuple[str, ...] = ("train", "val")
    limit: int | None = None
    max_bad_share: float = 0.05
    hardware: Hardware = field(default_factory=Hardware)
    latents: LatentSettings = field(default_factory=LatentSettings)
    hash_raw: bool = False

    def __post_init__(self) -> None:
        if list(self.splits) not in (["train"], ["val"], ["train", "val"]):
            raise ValueError(
                f"splits must be one of [train], [val], [train,val] (test is never built), got {list(self.splits)}"
            )
        if not 0 <= self.max_bad_share <= 1:
            raise ValueError(f"max_bad_share must be 0..1, got {self.max_bad_share}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be null or at least 1, got {self.limit}")
        if self.encoder.attention == "xformers" and self.cluster.encoder_device != "cuda":
            raise ValueError("encoder.attention=xformers needs encoders on GPUs: set cluster=gpu, or attention sdpa")


@dataclass(frozen=True)
class StatusConfig:
    """`vlajepa status`. build: folder or URL of a build that is being made;  json: print it for programs."""

    build: Path | str
    json: bool = False


@dataclass(frozen=True)
class DropConfig:
    """`vlajepa drop`: a new build without some episodes of a finished one.

    build     folder of the finished build; it is left as it is
    out       folder of the new one
    episode, episodes  ids: one, or several
    reason    stands in the ledger of the new build
    link      hard-link shards that do not change, where the file system allows it; false: copy all files
    """

    build: Path
    out: Path
    episode: str | None = None
    episodes: tuple[str, ...] = ()
    reason: str = ""
    link: bool = True

    def __post_init__(self) -> None:
        if not self.all_episodes:
            raise ValueError("episode must be given: episode=ID, or 'episodes=[ID,ID]' for several; got none")

    @property
    def all_episodes(self) -> tuple[str, ...]:
        return (*([self.episode] if self.episode else []), *self.episodes)


@dataclass(frozen=True)
class MergeConfig:
    """`vlajepa merge`: one build of several that were made in parts, with the same settings. See DropConfig."""

    builds: tuple[Path, ...]
    out: Path
    link: bool = True

    def __post_init__(self) -> None:
        if len(self.builds) < 2:
            raise ValueError(f"builds must name at least 2 builds, as in 'builds=[A,B]', got {len(self.builds)}")


@dataclass(frozen=True, kw_only=True)
class ExtendConfig(BuildConfig):
    """`vlajepa extend`: a finished build and what its dataset has gained since. The settings must be those of `build`.

    build, link  see DropConfig
    """

    build: Path
    link: bool = True
