"""The JSON files of a build, each as a closed type: these keys and no others, each with a value of this type.

`NotRequired` marks a key that some builds have. A list of fixed entries is typed as a tuple. The audit refuses whatever
does not fit; docs/formats.md says what the keys mean.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, NotRequired, TypedDict

from pipeline.format.json.recorded_settings import RecordedSettings, SizesContent

Sha256 = Annotated[str, re.compile(r"[0-9a-f]{64}")]
Split = Literal["train", "val"]


class FileContent(TypedDict):
    """A file that build.json lists by its path."""

    bytes: int
    sha256: Sha256


class ShardFileContent(FileContent):
    """A file of a shard."""

    file: str


class OriginContent(TypedDict):
    """The build, and the index in its split, that the files of a shard were written under."""

    fingerprint: Sha256
    index: int


class MachineContent(TypedDict):
    """What latents were computed on; see `pipeline.format.machine.Machine`."""

    device: str
    cuda: str
    cudnn: str
    precision: str


class ShardContent(TypedDict):
    """An entry of `shards`. latents_error: for each step the sum of squared errors and the sum of squares."""

    split: Split
    index: int
    samples: int
    inputs: ShardFileContent
    targets: ShardFileContent
    latents: NotRequired[ShardFileContent]
    encoded_on: MachineContent
    latents_error: NotRequired[list[tuple[float, float]]]
    origin: NotRequired[OriginContent]


class CountsContent(TypedDict):
    """An entry of `counts`."""

    samples: int
    episodes: int
    shards: int


class SplitsContent(TypedDict):
    """`counts`: a split without samples has no entry."""

    train: NotRequired[CountsContent]
    val: NotRequired[CountsContent]


class LatentsContent(TypedDict):
    """How latents are stored, and what int8 ones lost at each step."""

    dtype: Literal["float16", "int8"]
    relative_error: list[float] | None


class AncestorContent(TypedDict):
    """What the fingerprint of an ancestor was computed from."""

    settings: RecordedSettings
    tasks: Sha256


ListedFiles = TypedDict(
    "ListedFiles",
    {
        "samples.parquet": FileContent,
        "stats.json": FileContent,
        "ledger.jsonl": FileContent,
        "plan.json": FileContent,
        "tasks.jsonl": FileContent,
    },
)


class BuildContent(TypedDict):
    """build.json."""

    schema_version: int
    fingerprint: Sha256
    name: str
    leaky: bool
    settings: RecordedSettings
    sizes: SizesContent
    latents: LatentsContent
    views: list[str]
    fps: int | float | None
    counts: SplitsContent
    shards: list[ShardContent]
    files: ListedFiles
    ancestors: NotRequired[dict[str, AncestorContent]]


class LedgerContent(TypedDict):
    """A line of ledger.jsonl; those of plan.json are of the stages `index` and `filter`."""

    episode: str
    split: Literal["train", "val", "test"]
    stage: Literal["index", "filter", "inputs", "targets", "drop"]
    reason: str
    detail: str
    windows: int | None


class EstimateContent(TypedDict):
    """`estimate` of plan.json."""

    episodes: int
    windows: int
    shards: int
    input_bytes: int
    target_bytes: int
    flops: int | float
    exact: bool
    tubelets: int


class PlanContent(TypedDict):
    """plan.json."""

    fingerprint: Sha256
    settings: RecordedSettings
    sizes: SizesContent
    views: list[str]
    fps: int | float | None
    estimate: EstimateContent
    left_out: list[LedgerContent]


class EpisodeContent(TypedDict):
    """An episode of a task, of the same split. `data` is typed by the source: see `episode_data.EPISODE_DATA`."""

    id: str
    split: Split
    files: list[tuple[str, int]]
    num_frames: int | None
    data: dict[str, object]
    sha256: NotRequired[list[Sha256]]


class TaskContent(TypedDict):
    """A line of tasks.jsonl."""

    split: Split
    index: int
    groups: list[int]
    episodes: list[EpisodeContent]


class StatisticsContent(TypedDict):
    """A group of stats.json: a number for each channel."""

    count: int
    min: list[float]
    max: list[float]
    mean: list[float]
    std: list[float]
    q01: list[float]
    q99: list[float]


class StatsContent(TypedDict):
    """stats.json. split: "train", or it is a leak."""

    split: str
    samples: int
    state: StatisticsContent | None
    action: StatisticsContent | None
