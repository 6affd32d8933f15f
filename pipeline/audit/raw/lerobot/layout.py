"""Files and rows of a LeRobot episode, by the metadata of v2.0 and v2.1 (a file an episode) or v3.0 (shared ones).

R rows of an episode's table.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import pyarrow as pa

from pipeline.audit.raw.base import RawError, reading, usable_text
from pipeline.audit.raw.decoding.film import read_segment
from pipeline.audit.raw.decoding.frames import FrameReader, TimedFrame
from pipeline.audit.raw.decoding.video import at_rate, read_video
from pipeline.audit.raw.lerobot.tables import Listed, check_rows, columns_of, holds, is_numbered, read_rows, read_table
from pipeline.audit.raw.place import Place, find
from pipeline.audit.raw.settings import rate_of
from pipeline.audit.raw.templates import path_from
from pipeline.format.json.strict_json import parse_any

_MARK = b"\xef\xbb\xbf"
"""A byte order mark, as some editors begin a text with."""

_TABLE = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_SHARED_TABLE = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_NUMERIC = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
_SHARED_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


@dataclass(frozen=True)
class Layout:
    """The metadata of a LeRobot folder.

    shared    many episodes lie in one file (v3.0)
    rows      episode number -> its entry;  numbers  how many entries a number has
    texts     task number -> text, "" where two texts have one number
    """

    root: Place
    info: Mapping[str, Any]
    shared: bool
    rows: Mapping[int, Mapping[str, Any]]
    numbers: Mapping[int, int]
    texts: Mapping[int, str]

    @classmethod
    def read(cls, root: Place) -> Layout:
        """Raises RawError when the metadata cannot be read or is of another version."""
        info = _object(root / "meta/info.json")
        version = info.get("codebase_version")
        if version not in ("v2.0", "v2.1", "v3.0"):
            raise RawError(f"{root}/meta/info.json: codebase_version is {version!r}, known are v2.0, v2.1 and v3.0")
        shared = version == "v3.0"
        entries = list(_episode_tables(root) if shared else _listed_episodes(root))
        tasks = _task_table(root / "meta/tasks.parquet") if shared else _lines(root / "meta/tasks.jsonl")
        entries = [{key: _whole(key, value) for key, value in row.items()} for row in entries]
        numbers = Counter(row["episode_index"] for row in entries if type(row.get("episode_index")) is int)
        rows = {row["episode_index"]: row for row in entries if row.get("episode_index") in numbers}
        return cls(root, info, shared, rows, numbers, _texts(tasks))

    @property
    def features(self) -> dict[str, dict[str, Any]]:
        """The declared features that are objects."""
        declared = self.info.get("features")
        found = declared.items() if isinstance(declared, dict) else ()
        return {key: value for key, value in found if isinstance(value, dict)}

    @property
    def cameras(self) -> dict[str, str]:
        """Feature -> "video", or "image" where the table holds its images; no depth maps."""
        kinds = {key: value.get("dtype") for key, value in self.features.items() if not _is_depth(value)}
        return {key: kind for key, kind in kinds.items() if kind in ("video", "image")}

    @property
    def numeric_columns(self) -> frozenset[str]:
        """Declared features of one row of numbers a frame."""
        return frozenset(
            key
            for key, value in self.features.items()
            if str(value.get("dtype")) in _NUMERIC and isinstance(value.get("shape"), list) and len(value["shape"]) == 1
        )

    def picture_size(self, camera: str) -> tuple[int, int] | None:
        """Declared height and width of a camera's pictures; the colours are the last or the first of three sizes."""
        shape = self.features.get(camera, {}).get("shape")
        if not isinstance(shape, list) or len(shape) != 3 or {type(size) for size in shape} != {int}:
            return None
        colours_first = shape[0] in (1, 3) and shape[2] not in (1, 3)
        height, width = shape[1:] if colours_first else shape[:2]
        return height, width

    def table_path(self, number: int) -> Place:
        """File of an episode's table. Raises RawError when the metadata does not give it.

        The last episode that the metadata places in a shared table may begin the next one: so LeRobot 0.4 converts.
        """
        named = self._path("data_path", _SHARED_TABLE if self.shared else _TABLE, number, "data", "")
        if not self.shared or number not in self._last_of_tables:
            return named
        listed = self.listed(number)
        value = ("episode_index", number) if listed.span is None else ("index", listed.span[0])
        chunk, file = (self.rows[number].get(f"data/{name}") for name in ("chunk_index", "file_index"))
        if holds(named, *value) or type(chunk) is not int or type(file) is not int:
            return named
        for place in ((chunk, file + 1), (chunk + 1, 0)):
            path = self._filled(
                "data_path", _SHARED_TABLE, dict(zip(("chunk_index", "file_index"), place, strict=True))
            )
            if holds(path, *value):
                return path
        return named

    def table(self, number: int, columns: frozenset[str]) -> pa.Table:
        """An episode's rows, those of the columns that there are.

        In a shared table they lie at the episode's place in the whole dataset and carry its number, or the dataset is
        one that numbers its rows wrong throughout. Raises RawError when they cannot be read, or contradict the
        metadata.
        """
        path, listed = self.table_path(number), self.listed(number)
        numbered = not self.shared or self._is_numbered
        if self.shared:
            table = read_rows(path, listed, columns, numbered)
        else:
            table, listed = read_table(path, columns), Listed(number, None)
        check_rows(table, listed, numbered, path)
        return table

    def frame_reader(self, number: int, camera: str) -> FrameReader:
        """Frames of a camera that is a video; its file is looked up when they are read."""

        def frames() -> Iterator[TimedFrame]:
            place, rate = f"videos/{camera}", rate_of(self.info) if self.info.get("fps") else None
            size = self.picture_size(camera)
            path = self._path("video_path", _SHARED_VIDEO if self.shared else _VIDEO, number, place, camera)
            if not self.shared:
                yield from at_rate(read_video(path, size), rate, path)
                return
            begin, end = self.begin(number, camera), _second(self.rows[number].get(f"{place}/to_timestamp"))
            length = self.length(number)
            if begin is None or length is None or rate is None:
                raise ValueError(f"meta/episodes: episode {number} has no segment of {camera}")
            yield from at_rate(read_segment(path, begin, end, length, max(0.1 / rate, 1e-3) - 1e-6, size), rate, path)

        return frames

    def length(self, number: int) -> int | None:
        """Frames of an episode by the metadata; None when it does not give it."""
        length = self.rows[number].get("length")
        return length if type(length) is int and length > 0 else None

    def begin(self, number: int, camera: str) -> float | None:
        """Seconds at which an episode begins in a shared video; None where the metadata does not say."""
        return _second(self.rows[number].get(f"videos/{camera}/from_timestamp"))

    def listed(self, number: int) -> Listed:
        """An episode and its rows by the metadata."""
        first, end = (self.rows[number].get(name) for name in ("dataset_from_index", "dataset_to_index"))
        return Listed(number, (first, end) if type(first) is int and type(end) is int else None)

    @cached_property
    def _last_of_tables(self) -> frozenset[int]:
        """Episodes after which the metadata goes on with another table."""
        places = [
            (number, row.get("data/chunk_index"), row.get("data/file_index")) for number, row in self.rows.items()
        ]
        return frozenset(
            [before[0] for before, after in pairwise(places) if before[1:] != after[1:]] + [p[0] for p in places[-1:]]
        )

    @cached_property
    def _is_numbered(self) -> bool:
        tables: dict[Place, list[Listed]] = defaultdict(list)
        for number, row in self.rows.items():
            listed = self.listed(number)
            if listed.span and type(row.get("data/chunk_index")) is type(row.get("data/file_index")) is int:
                tables[self.table_path(number)].append(listed)
        return is_numbered(tables)

    def _path(self, setting: str, standard: str, number: int, place: str, camera: str) -> Place:
        """By the declared template; by the standard one where the declared names no file."""
        if self.shared:
            values = {name: self.rows[number].get(f"{place}/{name}") for name in ("chunk_index", "file_index")}
            if any(type(value) is not int for value in values.values()):
                raise RawError(f"meta/episodes: episode {number} has no file of {place}: {values}")
        else:
            chunk = max(1, int(self.info.get("chunks_size") or 1000))
            values = {"episode_chunk": number // chunk, "episode_index": number}
        return self._filled(setting, standard, {**values, "video_key": camera})

    def _filled(self, setting: str, standard: str, values: Mapping[str, Any]) -> Place:
        with reading(f"{setting} of meta/info.json, filled in with {values}"):
            declared = self.root / path_from(self.info.get(setting) or standard, values)
            fallback = self.root / path_from(standard, values)
        return fallback if not declared.exists() and fallback.exists() else declared


def _whole(key: str, value: object) -> object:
    """A count that pandas made a float of, because its column has a gap, as the whole number that it is."""
    counted = key.rpartition("/")[2].endswith(("_index", "length"))
    return int(value) if counted and isinstance(value, float) and value.is_integer() else value


def _second(value: object) -> float | None:
    return float(value) if type(value) in (int, float) and value >= 0 else None  # type: ignore[operator, arg-type]


def _is_depth(feature: Mapping[str, Any]) -> bool:
    """A camera that measures distances, by any flag that ends in is_depth_map, or by a format of one deep channel."""
    found = [feature, *(feature.get(name) for name in ("info", "video_info"))]
    facts = [item for part in found if isinstance(part, dict) for item in part.items()]
    if any(str(key).split(".")[-1] == "is_depth_map" and value for key, value in facts):
        return True
    formats = [str(value) for key, value in facts if str(key).split(".")[-1] == "pix_fmt"]
    return any(name.startswith(("gray9", "gray1", "gray32", "grayf")) for name in formats)


def _episode_tables(root: Place) -> Iterator[dict[str, Any]]:
    paths = find(root, "meta/episodes/chunk-*/file-*.parquet")
    if not paths:
        raise RawError(f"{root}/meta/episodes holds no table")
    for path in paths:
        with reading(path):
            names = frozenset(name for name in columns_of(path) if not name.startswith("stats/"))
        yield from read_table(path, names).to_pylist()


def _listed_episodes(root: Place) -> Iterator[dict[str, Any]]:
    """The lines of the list; without one, the episodes that have a table."""
    path = root / "meta/episodes.jsonl"
    if path.is_file():
        yield from _lines(path)
        return
    names = (re.fullmatch(r"episode_([0-9]{1,9})", table.stem) for table in root.glob("data/chunk-*/episode_*.parquet"))
    numbers = sorted(int(name[1]) for name in names if name)
    if not numbers:
        raise RawError(f"{path} is not there, nor any table below {root}/data")
    yield from ({"episode_index": number} for number in numbers)


def _task_table(path: Place) -> Iterator[dict[str, Any]]:
    """The text is in column `task`, or in the only column of text: the index that pandas wrote."""
    table = read_table(path)
    texts = (pa.string(), pa.large_string(), pa.string_view())
    names = [field.name for field in table.schema if getattr(field.type, "value_type", field.type) in texts]
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


def _object(path: Place) -> dict[str, Any]:
    with reading(path):
        value = parse_any(path.read_bytes().removeprefix(_MARK))
        if not isinstance(value, dict):
            raise ValueError("holds no object")
        return value


def _lines(path: Place) -> Iterator[dict[str, Any]]:
    """Every line of a file of JSON lines; {} for one that is no object."""
    with reading(path):
        lines = path.read_bytes().removeprefix(_MARK).splitlines()
    for line in filter(bytes.strip, lines):
        row = None
        with contextlib.suppress(ValueError):
            row = parse_any(line)
        yield row if isinstance(row, dict) else {}
