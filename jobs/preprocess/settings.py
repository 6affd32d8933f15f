"""What the commands that make builds can be told, and those that change finished ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.cluster.settings import ClusterSettings
from pipeline.format.encoder_settings import EncoderSettings, LatentSettings
from pipeline.planning.packing import ShardSettings
from pipeline.planning.prediction import Hardware
from pipeline.samples.inputs import InputSettings
from pipeline.samples.windows import WindowPolicy


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
