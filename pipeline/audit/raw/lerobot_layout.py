"""Files and rows of a LeRobot episode, by the metadata of v2.0 and v2.1 (a file an episode) or v3.0 (shared ones).

R rows of an episode's table.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.audit.raw.base import RawError, reading, usable_text
from pipeline.audit.raw.decoding.frames import FrameReader, TimedFrame
from pipeline.audit.raw.decoding.video import read_segment, read_video
from pipeline.audit.raw.settings import rate_of

_TABLE = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_SHARED_TABLE = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_NUMERIC = ("float16", "float32", "float64", "int32", "int64")
_SHARED_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


@dataclass(frozen=True)
class Layout:
    """The metadata of a LeRobot folder.

    shared    many episodes lie in one file (v3.0)
    rows      episode number -> its entry;  numbers  how many entries a number has;  entries  all there are
    texts     task number -> text, "" where two texts have one number
    """

    root: Path
    info: Mapping[str, Any]
    shared: bool
    rows: Mapping[int, Mapping[str, Any]]
    numbers: Mapping[int, int]
    entries: int
    texts: Mapping[int, str]

    @classmethod
    def read(cls, root: Path) -> Layout:
        """Raises RawError when the metadata cannot be read or is of another version."""
        info = _object(root / "meta/info.json")
        version = info.get("codebase_version")
        if version not in ("v2.0", "v2.1", "v3.0"):
            raise RawError(f"{root}/meta/info.json: codebase_version is {version!r}, known are v2.0, v2.1 and v3.0")
        shared = version == "v3.0"
        entries = list(_episode_tables(root) if shared else _lines(root / "meta/episodes.jsonl"))
        tasks = _task_table(root / "meta/tasks.parquet") if shared else _lines(root / "meta/tasks.jsonl")
        numbers = Counter(row["episode_index"] for row in entries if type(row.get("episode_index")) is int)
        rows = {row["episode_index"]: row for row in entries if row.get("episode_index") in numbers}
        return cls(root, info, shared, rows, numbers, len(entries), _texts(tasks))

    @property
    def cameras(self) -> dict[str, str]:
        """Feature -> "video", or "image" where the table holds its images."""
        features = self.info.get("features")
        declared = features.items() if isinstance(features, dict) else ()
        kinds = {key: value.get("dtype") for key, value in declared if isinstance(value, dict)}
        return {key: kind for key, kind in kinds.items() if kind in ("video", "image")}

    @property
    def numeric_columns(self) -> frozenset[str]:
        """Declared features of one row of numbers a frame."""
        features = self.info.get("features")
        declared = features.items() if isinstance(features, dict) else ()
        return frozenset(
            key
            for key, value in declared
            if isinstance(value, dict) and str(value.get("dtype")) in _NUMERIC and len(value.get("shape") or ()) == 1
        )

    def table_path(self, number: int) -> Path:
        """File of an episode's table. Raises RawError when the metadata does not give it."""
        return self._path("data_path", _SHARED_TABLE if self.shared else _TABLE, number, "data", "")

    def table(self, number: int, columns: frozenset[str]) -> pa.Table:
        """An episode's rows, those of the columns that there are.

        In a shared table they carry the episode's number. Where other rows carry it too, they are the rows at the
        episode's place in the whole dataset. Raises RawError when they cannot be read.
        """
        path, length = self.table_path(number), self.length(number)
        if not self.shared:
            return read_table(path, columns)
        table = read_table(path, columns, ("episode_index", number, number + 1))
        first, end = (self.rows[number].get(name) for name in ("dataset_from_index", "dataset_to_index"))
        if table.num_rows == length or type(first) is not int or type(end) is not int:
            return table
        placed = read_table(path, columns - {"episode_index"}, ("index", first, end))
        return placed if placed.num_rows == length and "frame_index" in placed.column_names else table

    def frame_reader(self, number: int, camera: str) -> FrameReader:
        """Frames of a camera that is a video; its file is looked up when they are read."""

        def frames() -> Iterator[TimedFrame]:
            place = f"videos/{camera}"
            path = self._path("video_path", _SHARED_VIDEO if self.shared else _VIDEO, number, place, camera)
            if not self.shared:
                yield from read_video(path)
                return
            begin, length = self.rows[number].get(f"{place}/from_timestamp"), self.length(number)
            if not isinstance(begin, float) or length is None:
                raise ValueError(f"meta/episodes: episode {number} has no segment of {camera}")
            yield from read_segment(path, begin, length, 0.5 / rate_of(self.info))

        return frames

    def length(self, number: int) -> int | None:
        """Frames of an episode by the metadata; None when it does not give it."""
        length = self.rows[number].get("length")
        return length if type(length) is int and length > 0 else None

    def _path(self, setting: str, standard: str, number: int, place: str, camera: str) -> Path:
        """By the declared template; by the standard one where the declared names no file."""
        if self.shared:
            values = {name: self.rows[number].get(f"{place}/{name}") for name in ("chunk_index", "file_index")}
        else:
            chunk = self.info.get("chunks_size") or 1000
            values = {"episode_chunk": number // int(chunk), "episode_index": number}
        with reading(f"{setting} of meta/info.json, filled in with {values}"):
            declared = self.root / str(self.info.get(setting) or standard).format(**values, video_key=camera)
            fallback = self.root / standard.format(**values, video_key=camera)
        return fallback if not declared.exists() and fallback.exists() else declared


def read_table(path: Path, columns: frozenset[str] | None = None, only: tuple[str, int, int] | None = None) -> pa.Table:
    """A parquet file, or some of its columns; `only` the rows where a column is from .. to below. Raises RawError."""
    with reading(path):
        present = pq.ParquetFile(path).schema_arrow.names
        if only is not None and only[0] not in present:
            raise RawError(f"{path} has no column {only[0]}")
        names = [name for name in present if columns is None or name in columns]
        rows = None if only is None else [(only[0], ">=", only[1]), (only[0], "<", only[2])]
        return pq.read_table(path, columns=names, filters=rows, partitioning=None)


def _episode_tables(root: Path) -> Iterator[dict[str, Any]]:
    paths = sorted(root.glob("meta/episodes/chunk-*/file-*.parquet"))
    if not paths:
        raise RawError(f"{root}/meta/episodes holds no table")
    for path in paths:
        with reading(path):
            names = frozenset(name for name in pq.ParquetFile(path).schema_arrow.names if not name.startswith("stats/"))
        yield from read_table(path, names).to_pylist()


def _task_table(path: Path) -> Iterator[dict[str, Any]]:
    """The text is in column `task`, or in the only column of text: the index that pandas wrote."""
    table = read_table(path)
    names = [field.name for field in table.schema if field.type in (pa.string(), pa.large_string())]
    name = "task" if "task" in names else names[0] if len(names) == 1 else None
    if name is None:
        raise RawError(f"{path} has {len(names)} columns of text, none is named task")
    yield from ({"task_index": row.get("task_index"), "task": row[name]} for row in table.to_pylist())


def _texts(tasks: Iterator[dict[str, Any]]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for row in tasks:
        number, text = row.get("task_index"), usable_text(row.get("task"))
        if type(number) is int:
            texts[number] = text if texts.get(number, text) == text else ""
    return texts


def _object(path: Path) -> dict[str, Any]:
    with reading(path):
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError("holds no object")
        return value


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Every line of a file of JSON lines; {} for one that is no object."""
    with reading(path):
        lines = path.read_bytes().splitlines()
    for line in filter(bytes.strip, lines):
        row = None
        with contextlib.suppress(ValueError):
            row = json.loads(line)
        yield row if isinstance(row, dict) else {}
