"""Pipelines that trust one of two facts of the raw data that must agree, or show frames otherwise than they are."""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sources.lerobot.table import Table
from pipeline.sources.video.display import UPRIGHT
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World

ONE = 1 << 16


def _change_rows(world: World, name: str, by: int) -> None:
    """Every row of a column of the tables says something else, and the pipeline does not look."""
    world.raw_copy = world.copy_raw()
    for path in sorted(world.raw_copy.glob("data/*/*.parquet")):
        table = pq.read_table(path)
        values = pa.array(table[name].to_numpy() + by)
        pq.write_table(table.set_column(table.column_names.index(name), name, values), path)
    world.patch.setattr(Table, "_check_rows", lambda table: None)


def frames_numbered_from_one(world: World) -> None:
    _change_rows(world, "frame_index", 1)


def rows_of_another_episode(world: World) -> None:
    _change_rows(world, "episode_index", 1)


def a_clock_that_steps_back(world: World) -> None:
    world.raw_copy = world.copy_raw()
    for path in sorted(world.raw_copy.glob("data/*/*.parquet")):
        table = pq.read_table(path)
        times = table["timestamp"].to_numpy().copy()
        times[len(times) // 2 :] -= times[len(times) // 2]
        pq.write_table(table.set_column(table.column_names.index("timestamp"), "timestamp", pa.array(times)), path)
    world.patch.setattr(Table, "_check_rows", lambda table: None)


def mirroring_ignored(world: World) -> None:
    """The films say that they are shown mirrored; the pipeline shows them as they are stored."""
    world.raw_copy = world.copy_raw()
    for path in sorted(world.raw_copy.glob("videos/**/*.mp4")):
        _mirror(path)
    world.patch.setattr("pipeline.sources.video.pyav_reader.display_matrix", lambda frame: UPRIGHT)


def _mirror(path: Path) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(">i", data, data.index(b"tkhd") + 44, -ONE)
    path.write_bytes(data)


def splits_by_place(world: World) -> None:
    """Episode 0 was deleted. By their numbers the last episode is the publisher's validation, by place none is."""
    world.raw_copy = world.copy_raw()
    listed = world.raw_copy / "meta/episodes.jsonl"
    lines = listed.read_text().splitlines()
    listed.write_text("\n".join(lines[1:]) + "\n")
    info = world.raw_copy / "meta/info.json"
    last = len(lines) - 1
    splits = {"train": f"0:{last}", "val": f"{last}:{last + 1}"}
    info.write_text(json.dumps(json.loads(info.read_text()) | {"splits": splits}))

    def by_place(declared: Mapping[str, str], numbers: Collection[int]) -> dict[int, str]:
        return dict.fromkeys(numbers, "train") | {min(numbers): "val"}

    world.patch.setattr("pipeline.sources.lerobot.source.official_splits", by_place)


PIPELINES = (
    LeakyPipeline(frames_numbered_from_one, "robot", "L7", "source", "frame_index is not that of episode"),
    LeakyPipeline(rows_of_another_episode, "robot", "L7", "source", "episode_index is not that of episode"),
    LeakyPipeline(a_clock_that_steps_back, "robot", "L7", "source", "timestamp steps back"),
    LeakyPipeline(mirroring_ignored, "robot", "L1", "source", "the stored image is not frame"),
    LeakyPipeline(splits_by_place, "robot", "L6", "source", "the raw data marks it val"),
)
