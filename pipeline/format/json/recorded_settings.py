"""The settings that plan.json and build.json record, as closed types (see `documents.py`), by type of the source.

A new setting of a build, a new fact about a source or its episodes has its entry here.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, NotRequired, TypedDict

Number = int | float
"""A number that somebody may have typed: 5 and 5.0 are both kept as they were given."""

Version = Annotated[str, re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_~:-]{0,59}")]
"""Of a library, as it names it: 2.13.0+cpu."""

Digest = Annotated[str, re.compile(r"[0-9a-f]{64}")]


class SizesContent(TypedDict):
    """See `schema.Sizes`."""

    views: int
    image_size: int
    steps: int
    tokens: int
    width: int
    state: int
    chunk: int
    action: int


class WindowContent(TypedDict):
    """Section `window`."""

    steps: int
    interval: int
    chunk: int
    every: int
    per_episode: int
    end: Literal["drop", "pad"]
    skip_idle: int
    idle_change: Number


class InputsContent(TypedDict):
    """Section `inputs`."""

    image_size: int
    jpeg_quality: int


class LatentsSettings(TypedDict):
    """Section `latents`."""

    dtype: Literal["float16", "int8"]


class ShardsContent(TypedDict):
    """Section `shards`."""

    samples: int
    group_samples: int


EncoderContent = TypedDict(
    "EncoderContent",
    {
        "kind": Literal["tiny", "pretrained"],
        "seed": NotRequired[int],  # of kind tiny
        "mode": Literal["prefix", "tubelet", "clip"],
        "resize": Literal["crop", "squash"],
        "dtype": Literal["float32", "bfloat16", "float16"],
        "attention": Literal["sdpa", "xformers"],
        "compile": NotRequired[bool],  # on cuda
        "forward": NotRequired[Literal["packed"]],  # on cuda
        "rotary": NotRequired[Literal["float32"]],  # of dtypes other than float32
        "batch": int,
        "cpu_threads": int,
        "class": str,
        "config_sha256": Digest,
        "weights_sha256": Digest,
        "device": Literal["cpu", "cuda"],
        "mean": tuple[float, float, float],
        "std": tuple[float, float, float],
        "crop_size": int,
        "tokens": int,
        "width": int,
        "layers": int,
        "mlp_ratio": Number,
    },
)
"""Section `encoder`: the identity of the encoder."""


class VersionsContent(TypedDict):
    """Section `versions`: libraries whose version may change a byte."""

    av: Version
    decord: Version
    ffmpeg: Version
    libjpeg: Version
    numpy: Version
    pillow: Version
    pyarrow: Version
    torch: Version
    transformers: Version


class DatasetContent(TypedDict):
    """Section `dataset`: the manifest's facts."""

    name: str
    title: str
    version: str
    licence: str
    publisher: str
    citation: str
    sha256: Digest


class VectorPart(TypedDict):
    """Some channels of a state or action."""

    field: str
    take: tuple[int, int] | None
    scale: Number
    convert: str
    base: str | None
    open: Number | None
    closed: Number | None


class SSv2Settings(TypedDict):
    """Section `source` of Something-Something-v2."""

    type: Literal["ssv2"]
    name: str


class VideosSettings(TypedDict):
    """Section `source` of a folder of videos."""

    type: Literal["videos"]
    name: str
    val_share: Number
    split_seed: int
    texts: str
    video_column: str
    text_column: str
    split_column: str | None


class RobotSettings(TypedDict):
    """What the sections `source` of robot data have in common."""

    name: str
    val_share: Number
    split_seed: int
    state: list[VectorPart]
    action: list[VectorPart]


class LeRobotSettings(RobotSettings):
    """Section `source` of a LeRobot folder."""

    type: Literal["lerobot"]
    cameras: list[str] | None
    not_instructions: list[str]


class RldsSettings(RobotSettings):
    """Section `source` of an RLDS dataset."""

    type: Literal["rlds"]
    fps: Number
    cameras: list[str]
    instruction: list[str]
    wanted: dict[str, str]
    skip_first: int


class LiberoSettings(RobotSettings):
    """Section `source` of LIBERO demonstrations."""

    type: Literal["libero"]
    fps: Number
    cameras: list[str]
    action_lag: int


class McapSettings(RobotSettings):
    """Section `source` of MCAP recordings."""

    type: Literal["mcap"]
    cameras: list[str]
    instruction: str | None
    text: str | None
    texts: str | None
    times: Literal["header", "log"]
    fps: Number | None
    max_age_s: Number


class EpisodeCounts(TypedDict):
    """Episodes of each split."""

    train: NotRequired[int]
    val: NotRequired[int]
    test: NotRequired[int]


class SSv2Description(TypedDict):
    """Section `description` of Something-Something-v2."""

    type: Literal["ssv2"]
    version: Literal["2"]
    episodes: EpisodeCounts
    templates: int
    test_answers: int
    labels_unlike_template: int
    unlisted_files: int


class VideosDescription(TypedDict):
    """Section `description` of a folder of videos."""

    type: Literal["videos"]
    episodes: EpisodeCounts
    splits_from: str


class LeRobotDescription(TypedDict):
    """Section `description` of a LeRobot folder; some of it is as info.json has it."""

    type: Literal["lerobot"]
    version: Literal["v2.0", "v2.1", "v3.0"]
    robot: str | None
    episodes: EpisodeCounts
    declared_episodes: int | None
    declared_splits: dict[str, str]
    cameras_without_files: list[str]
    splits_from: str


class RldsDescription(TypedDict):
    """Section `description` of an RLDS dataset."""

    type: Literal["rlds"]
    dataset: str
    version: str
    episodes: EpisodeCounts
    splits_from: str


class LiberoDescription(TypedDict):
    """Section `description` of LIBERO demonstrations."""

    type: Literal["libero"]
    tasks: int
    episodes: EpisodeCounts
    splits_from: str


class McapDescription(TypedDict):
    """Section `description` of MCAP recordings."""

    type: Literal["mcap"]
    episodes: EpisodeCounts
    splits_from: str


class LeftOutEpisodes(TypedDict):
    """Lines of a split in a file of `source.leave_out`: how many, and the SHA-256 of all of them."""

    episodes: int
    sha256: Digest


class LeaveOutContent(TypedDict):
    """Section `leave_out`: a split without lines has no entry."""

    train: NotRequired[LeftOutEpisodes]
    val: NotRequired[LeftOutEpisodes]


class JoinedTasks(TypedDict):
    """How many tasks of each split a parent has."""

    train: int
    val: int


class DropContent(TypedDict):
    """Section `derived` of a build without some episodes of another."""

    kind: Literal["drop"]
    parents: tuple[Digest]
    episodes: list[str]
    reason: str


class JoinContent(TypedDict):
    """Section `derived` of a build that was joined from others."""

    kind: Literal["merge", "extend"]
    parents: list[Digest]
    tasks: list[JoinedTasks]


class RecordedSettings(TypedDict):
    """`settings` of plan.json and build.json."""

    schema_version: int
    source: SSv2Settings | VideosSettings | LeRobotSettings | RldsSettings | LiberoSettings | McapSettings
    dataset: DatasetContent | None
    leave_out: LeaveOutContent | None
    window: WindowContent
    inputs: InputsContent
    encoder: EncoderContent
    latents: LatentsSettings
    shards: ShardsContent
    splits: list[Literal["train", "val"]]
    limit: int | None
    hash_raw: bool
    versions: VersionsContent
    description: NotRequired[
        SSv2Description | VideosDescription | LeRobotDescription | RldsDescription | LiberoDescription | McapDescription
    ]
    views: list[str]
    sizes: SizesContent
    tasks_tree: Digest
    derived: NotRequired[DropContent | JoinContent]
