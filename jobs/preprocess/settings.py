"""Settings of the commands that make builds, and of those that change finished ones."""

from __future__ import annotations

from pathlib import Path

from jobs.cluster.settings import ClusterSettings
from jobs.datasets.configured_source import ConfiguredSource
from pipeline.format.build_settings import EncoderSettings, InputSettings, LatentSettings, ShardSettings, WindowPolicy
from pipeline.format.enums import Attention
from pipeline.format.settings import checked, setting
from pipeline.planning.hardware import Hardware

TRAIN_AND_VAL = ("train", "val")


@checked
class BuildConfig:
    """`vlajepa plan` and `vlajepa preprocess`."""

    out: Path | str = setting("folder of the build, or its URL (s3://, gs://)", decides=False)
    source: ConfiguredSource = setting(
        "the dataset: a manifest's name, or the reader's own settings; source.leave_out=FILE leaves episodes out"
    )
    window: WindowPolicy = setting("which windows are taken from an episode", default_factory=WindowPolicy)
    inputs: InputSettings = setting("how the current frame is stored", default_factory=InputSettings)
    encoder: EncoderSettings = setting("which encoder makes the targets", default_factory=EncoderSettings)
    latents: LatentSettings = setting("how latents are stored", default_factory=LatentSettings)
    shards: ShardSettings = setting("how episodes are packed into shards", default_factory=ShardSettings)
    cluster: ClusterSettings = setting("where Ray runs", default_factory=ClusterSettings, decides=False)
    hardware: Hardware = setting("the cluster that time is predicted for", default_factory=Hardware, decides=False)
    splits: tuple[str, ...] = setting(
        "splits that are built: [train], [val] or [train,val]; test is never built", default=TRAIN_AND_VAL
    )
    limit: int | None = setting("first episodes of each split that are used; null: all", default=None, at_least=1)
    max_bad_share: float = setting(
        "the run stops when more than this share of the episodes had to be left out",
        default=0.05,
        decides=False,
        at_least=0,
        at_most=1,
    )
    accept_lookahead: bool = setting(
        "plan although a state or a camera seems to show later frames, as you know better; the audit still reports it",
        default=False,
        decides=False,
    )
    hash_raw: bool = setting(
        "hash every raw file when planning, so that a changed file is noticed even if its size stays", default=False
    )

    def __post_init__(self) -> None:
        if list(self.splits) not in (["train"], ["val"], ["train", "val"]):
            raise ValueError(
                f"splits must be one of [train], [val], [train,val] (test is never built), got {list(self.splits)}"
            )
        if self.encoder.attention == Attention.XFORMERS and self.cluster.encoder_device != "cuda":
            raise ValueError("encoder.attention=xformers needs encoders on GPUs: set cluster=gpu, or attention sdpa")


@checked
class StatusConfig:
    """`vlajepa status`."""

    build: Path | str = setting("folder or URL of a build that is being made")
    json: bool = setting("print it for programs", default=False)


@checked
class DropConfig:
    """`vlajepa drop`: a new build without some episodes of a finished one."""

    build: Path = setting("folder of the finished build; it is not changed")
    out: Path = setting("folder of the new build")
    episode: str | None = setting("id of the one episode to drop", default=None)
    episodes: tuple[str, ...] = setting("ids of the episodes to drop", default=())
    reason: str = setting("why; it is written into the ledger of the new build", default="")
    link: bool = setting(
        "hard-link shards that do not change, where the file system allows it; false: copy all files", default=True
    )

    def __post_init__(self) -> None:
        if not self.all_episodes:
            raise ValueError("episode must be given: episode=ID, or 'episodes=[ID,ID]' for several; got none")

    @property
    def all_episodes(self) -> tuple[str, ...]:
        """The episodes to drop."""
        return (*([self.episode] if self.episode else []), *self.episodes)


@checked
class MergeConfig:
    """`vlajepa merge`: one build of several that were made in parts, with the same settings."""

    builds: tuple[Path, ...] = setting("folders of the builds, in order")
    out: Path = setting("folder of the new build")
    link: bool = setting("hard-link shards, where the file system allows it; false: copy all files", default=True)

    def __post_init__(self) -> None:
        if len(self.builds) < 2:
            raise ValueError(f"builds must name at least 2 builds, as in 'builds=[A,B]', got {len(self.builds)}")


@checked
class ExtendConfig(BuildConfig):
    """`vlajepa extend`: a finished build and what its dataset has gained since, made with the same settings."""

    build: Path = setting("folder of the finished build; it is not changed", decides=False)
    link: bool = setting(
        "hard-link its shards, where the file system allows it; false: copy all files", default=True, decides=False
    )
