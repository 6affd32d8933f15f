"""What a source keeps of an episode in tasks.jsonl, as closed types (see `documents.py`), by type of the source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

from pipeline.format.json.recorded_settings import Digest, Number


class SSv2Data(TypedDict):
    """`data` of a clip of Something-Something-v2."""

    instruction: str
    template: str
    placeholders: list[str]


class VideosData(TypedDict):
    """`data` of a video of a folder."""

    instruction: str


class LeRobotData(TypedDict):
    """`data` of a LeRobot episode.

    by_place  rows are found by `rows` alone, because the dataset numbers them wrong throughout
    sizes     declared height and width of a view's pictures
    videos    path, or path, second of the first frame and of the end, first frame and frames of a shared video
    """

    version: Literal["v2.0", "v2.1", "v3.0"]
    views: list[str]
    tasks_file: str
    widths: dict[str, int]
    images: NotRequired[dict[str, str]]
    fps: NotRequired[Number]
    by_place: bool
    sizes: dict[str, tuple[int, int]]
    episode_index: int
    table: str
    videos: dict[str, tuple[str] | tuple[str, float, float | None, int, int]]
    tasks: list[str]
    rows: NotRequired[tuple[int, int]]


class RldsData(TypedDict):
    """`data` of an RLDS record: its number in the file."""

    record: int


class LiberoData(TypedDict):
    """`data` of a LIBERO demonstration."""

    demo: str
    instruction: str
    upside_down: bool


class McapData(TypedDict):
    """`data` of an MCAP recording. instruction: by the list of `source.texts`."""

    instruction: NotRequired[str]


class DroppedData(TypedDict):
    """`data` of a dropped episode: the SHA-256 of the object that stood in its place."""

    dropped: Digest


EPISODE_DATA: Mapping[str, Any] = {
    "ssv2": SSv2Data,
    "videos": VideosData,
    "lerobot": LeRobotData,
    "rlds": RldsData,
    "libero": LiberoData,
    "mcap": McapData,
}
"""Type of the source -> type of `data` of its episodes."""
