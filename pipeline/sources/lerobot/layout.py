"""Where the data of an episode is stored in a LeRobot folder.

v2.0 and v2.1: one table per episode, and one video per episode and camera.

    meta/{info.json, tasks.jsonl, episodes.jsonl}
    data/chunk-000/episode_000000.parquet
    videos/chunk-000/observation.images.CAMERA/episode_000000.mp4

v3.0: many episodes per file.

    meta/{info.json, tasks.parquet, episodes/chunk-000/file-000.parquet}
    data/chunk-000/file-000.parquet
    videos/observation.images.CAMERA/chunk-000/file-000.mp4
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import RunError
from pipeline.sources.files import find_files
from pipeline.sources.lerobot.footers import Footers
from pipeline.sources.lerobot.info import ROOT_FIX, Files
from pipeline.sources.metadata import one_line, read_json_lines
from pipeline.storage.raw.places import handle

EPISODES_FILE = "meta/episodes.jsonl"
TASKS_FILE = "meta/tasks.jsonl"
TABLES_GLOB = "data/chunk-*/episode_*.parquet"
DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"

EPISODES_GLOB = "meta/episodes/chunk-*/file-*.parquet"
TASKS_TABLE = "meta/tasks.parquet"
DATA_PATH_V3 = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH_V3 = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

LISTED = ("episode_index", "length", "tasks", "data/chunk_index", "data/file_index")
PLACED = ("chunk_index", "file_index", "from_timestamp")
"""Columns of the v3.0 episode tables: of an episode, and under videos/CAMERA/ of its segment of a video."""

END = "to_timestamp"
"""The end of the segment, which some datasets lack."""

ROWS = ("dataset_from_index", "dataset_to_index")
"""Columns with the range of an episode in the tables' column `index`; some datasets lack them."""

OVERLAP = 0.5
"""Frames by which two segments of a video may overlap because of rounding."""


@dataclass(frozen=True)
class Segment:
    """The frames of an episode in a video. v2.x: the whole video, from_s None.

    from_s, to_s  seconds of the first frame, and of the end; None: not given
    start, total  frames of earlier episodes in the file, and of all
    """

    path: str
    from_s: float | None = None
    to_s: float | None = None
    start: int = 0
    total: int = 0


@dataclass(frozen=True)
class Row:
    """An episode as the metadata lists it.

    rows     (first, one past the last) value of the column `index` of a table shared with other episodes
    number   episode_index; None if the entry has none
    where    the entry, for messages
    problem  why the entry cannot be used, or ""
    """

    number: int | None
    where: str
    length: int | None = None
    tasks: tuple[str, ...] = ()
    table: str = ""
    rows: tuple[int, int] | None = None
    videos: Mapping[str, Segment] = field(default_factory=dict)
    problem: str = ""


def tasks_file(version: str) -> str:
    """The file with the task texts."""
    return TASKS_TABLE if version == "v3.0" else TASKS_FILE


def list_episodes(files: Files, footers: Footers, cameras: Mapping[str, str]) -> list[Row]:
    """All episodes in the order of the metadata.

    Args:
        cameras: view -> feature key, of the cameras stored as video.

    Raises:
        RunError: the metadata cannot be read.
    """
    if files.info.version == "v3.0":
        return _list_v3(files, footers, cameras)
    listed = os.path.join(files.root, EPISODES_FILE)
    rows = _rows_of_tables(files.root) if lacks_list(files) else read_json_lines(listed, ROOT_FIX)
    return [_row_v2(files, cameras, place, row) for place, row in enumerate(rows)]


def lacks_list(files: Files) -> bool:
    """Whether a v2 dataset has no list of its episodes."""
    return files.info.version != "v3.0" and files.size(EPISODES_FILE) is None


def _rows_of_tables(root: str) -> list[dict[str, Any]]:
    """The episodes that have a table. Raises RunError if there is none."""
    paths = find_files(root, TABLES_GLOB)
    found = (re.fullmatch(r"episode_([0-9]{1,9})\.parquet", os.path.basename(path)) for path in paths)
    numbers = sorted(int(match[1]) for match in found if match)
    if not numbers:
        raise RunError(f"{os.path.join(root, EPISODES_FILE)}: no such file, and no table below data/. {ROOT_FIX}")
    return [{"episode_index": number} for number in numbers]


def _row_v2(files: Files, cameras: Mapping[str, str], place: int, row: Any) -> Row:
    where = f"line {place + 1} of {EPISODES_FILE}"
    number = row.get("episode_index") if isinstance(row, dict) else None
    if type(number) is not int or number < 0:
        return Row(None, where)
    values = {"episode_chunk": number // files.info.chunks_size, "episode_index": number}
    tasks, length = row.get("tasks"), row.get("length")
    videos = {
        view: Segment(files.find("video_path", VIDEO_PATH, values | {"video_key": key}))
        for view, key in cameras.items()
    }
    return Row(
        number,
        where,
        _count(length),
        tuple(task for task in tasks if isinstance(task, str)) if isinstance(tasks, list) else (),
        files.find("data_path", DATA_PATH, values | {"video_key": ""}),
        videos=videos,
    )


def _list_v3(files: Files, footers: Footers, cameras: Mapping[str, str]) -> list[Row]:
    entries = list(_read_v3(files.root, cameras.values()))
    placed = _place_v3(files, cameras, entries)
    rows = [_row_v3(files, entry, videos) for entry, videos in zip(entries, placed, strict=True)]
    rows = [
        _in_next_table(footers, entry, row) if following is None or row.table != following.table else row
        for entry, row, following in itertools.zip_longest(entries, rows, rows[1:])
    ]
    return _without_shared_rows(rows)


def _without_shared_rows(rows: Sequence[Row]) -> list[Row]:
    """An episode whose rows are another one's too, by the ranges of `index`, cannot be used; nor can the other."""
    ranged = sorted((row.rows, at) for at, row in enumerate(rows) if row.rows is not None)
    problems: dict[int, str] = {}
    reach, owner = 0, -1
    for (first, end), at in ranged:
        if owner >= 0 and first < reach:
            detail = (
                f"rows {first} to {min(end, reach)} are those of episodes {rows[owner].number} and {rows[at].number}"
            )
            problems |= {owner: detail, at: detail}
        if end > reach:
            reach, owner = end, at
    return [
        replace(row, problem="; ".join(filter(None, (row.problem, problems[at])))) if at in problems else row
        for at, row in enumerate(rows)
    ]


def _read_v3(root: str, keys: Iterable[str]) -> Iterable[Mapping[str, Any]]:
    paths = find_files(root, EPISODES_GLOB)
    if not paths:
        raise RunError(f"{os.path.join(root, EPISODES_GLOB)}: no such file. {ROOT_FIX}")
    columns = [*LISTED, *(f"videos/{key}/{name}" for key in keys for name in PLACED)]
    for path in paths:
        try:
            file = pq.ParquetFile(handle(path), pre_buffer=False)  # which keeps all that was read
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise RunError(f"{path} has no column {', '.join(missing)}. Restore the file from the dataset.")
            known = (*ROWS, *(f"videos/{key}/{END}" for key in keys))
            optional = [name for name in known if name in file.schema_arrow.names]
            rows = file.read([*columns, *optional]).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise RunError(f"{path}: {one_line(error)}. Restore the file from the dataset.") from error
        name = os.path.relpath(path, root)
        yield from ({**row, "where": f"row {place} of {name}"} for place, row in enumerate(rows))


def _place_v3(
    files: Files, cameras: Mapping[str, str], entries: Sequence[Mapping[str, Any]]
) -> list[dict[str, Segment | str]]:
    """For each entry: view -> its segment, or what is wrong with it."""
    placed: list[dict[str, Segment | str]] = [{} for _ in entries]
    for view, key in cameras.items():
        by_path: dict[str, list[tuple[float, int, int]]] = defaultdict(list)
        ends = [_seconds(entry.get(f"videos/{key}/{END}")) for entry in entries]
        for at, entry in enumerate(entries):
            chunk, file = (_count(entry[f"videos/{key}/{name}"]) for name in PLACED[:2])
            from_s = _seconds(entry[f"videos/{key}/{PLACED[2]}"])
            if chunk is None or file is None or from_s is None:
                found = [entry[f"videos/{key}/{name}"] for name in PLACED]
                placed[at][view] = f"{key} is in chunk {found[0]}, file {found[1]} from {found[2]} s"
                continue
            values = {"chunk_index": chunk, "file_index": file, "video_key": key}
            path = files.find("video_path", VIDEO_PATH_V3, values)
            by_path[path].append((from_s, at, _count(entry["length"]) or 0))
        for path, segments in by_path.items():
            _place_in_video(path, sorted(segments), files.info.fps or 0.0, view, placed)
        for at, end in enumerate(ends):
            segment = placed[at].get(view)
            placed[at] |= {view: replace(segment, to_s=end)} if isinstance(segment, Segment) else {}
    return placed


def _place_in_video(
    path: str, segments: Sequence[tuple[float, int, int]], fps: float, view: str, placed: list[dict[str, Segment | str]]
) -> None:
    """Place the segments (second, entry, frames) of one video, in order of time. An overlap is an error of both."""
    following = [second for second, _, _ in segments[1:]]
    spans = zip(segments, following, strict=False)
    reaching = {
        i for i, ((second, _, length), end) in enumerate(spans) if fps and (end - second) * fps < length - OVERLAP
    }
    start, total = 0, sum(length for _, _, length in segments)
    for place, (second, at, length) in enumerate(segments):
        shared = next((p for p in (place, place - 1) if p in reaching), None)
        if shared is None:
            placed[at][view] = Segment(path, second, None, start, total)
        else:
            begin, _, count = segments[shared]
            problem = f"the {count} frames from {begin} s reach into the episode that begins at {following[shared]} s"
            placed[at][view] = f"{path}: {problem}"
        start += length


def _row_v3(files: Files, entry: Mapping[str, Any], videos: Mapping[str, Segment | str]) -> Row:
    number, length = (_count(entry[name]) for name in ("episode_index", "length"))
    if number is None:
        return Row(None, entry["where"])
    problems = [video for video in videos.values() if isinstance(video, str)]
    chunk, file = (_count(entry[name]) for name in ("data/chunk_index", "data/file_index"))
    if chunk is None or file is None:
        problems.append(f"its table is file {entry['data/file_index']} of chunk {entry['data/chunk_index']}")
        chunk = file = 0
    values = {"chunk_index": chunk, "file_index": file}
    first, end = (_count(entry.get(name)) for name in ROWS)
    rows = None if first is None or end is None else (first, end)
    if rows is not None and length is not None and rows[1] - rows[0] != length:
        problems.append(f"length is {length}, its rows are {rows[0]} to {rows[1]} by {' and '.join(ROWS)}")
    return Row(
        number,
        entry["where"],
        length,
        tuple(task for task in entry["tasks"] or () if isinstance(task, str)),
        files.find("data_path", DATA_PATH_V3, values),
        rows,
        {view: video for view, video in videos.items() if isinstance(video, Segment)},
        "; ".join(problems),
    )


def _in_next_table(footers: Footers, entry: Mapping[str, Any], row: Row) -> Row:
    """The last episode of a table by the metadata, moved to the table that holds it.

    LeRobot's converter from v2.1 (at least 0.4.0 to 0.4.4, its issue 2401) begins a table with an episode whose entry
    names the previous table.
    """
    chunk, file = (_count(entry[name]) for name in ("data/chunk_index", "data/file_index"))
    if row.number is None or row.problem or chunk is None or file is None:
        return row
    column, value = ("episode_index", row.number) if row.rows is None else ("index", row.rows[0])
    if footers.holds(row.table, column, value):
        return row
    for place in ((chunk, file + 1), (chunk + 1, 0)):
        values = dict(zip(("chunk_index", "file_index"), place, strict=True))
        path = footers.files.find("data_path", DATA_PATH_V3, values)
        if footers.files.size(path) is not None and footers.holds(path, column, value):
            return replace(row, table=path)
    return row


def _count(value: object) -> int | None:
    """A number from 0 up; pandas stores those of a column with a gap as floats. None for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and value >= 0 else None


def _seconds(value: object) -> float | None:
    """A time from 0 up, which some datasets store as a whole number; None for anything else."""
    return float(value) if type(value) in (int, float) and 0 <= value < math.inf else None  # type: ignore[operator, arg-type]
