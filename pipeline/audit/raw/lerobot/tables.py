"""Tables that the episodes of a LeRobot v3.0 dataset share: which one holds an episode, and which rows are its own.

A row says whose it is (`episode_index`), where it lies in the dataset (`index`), which frame it is (`frame_index`) and
when it was recorded. All that is there must say the same as the metadata, or the episode cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.audit.raw.base import RawError, reading
from pipeline.audit.raw.place import Place, handle

_EXACT = 2**53
"""Integers up to it can be stored as floats."""

Range = tuple[str, int, int]
"""Column, its smallest value, and one past its largest."""


@dataclass(frozen=True)
class Listed:
    """An episode by the metadata. span: values of `index` from .. to below; None where it does not say."""

    number: int
    span: tuple[int, int] | None

    def ways(self, present: Sequence[str], numbered: bool) -> list[Range]:
        """The ways to find its rows in a table with these columns."""
        ways = [("index", *self.span)] if self.span and "index" in present else []
        if "episode_index" in present and (numbered or not ways):
            ways.append(("episode_index", self.number, self.number + 1))
        return ways


def read_table(path: Place, columns: frozenset[str] | None = None, ways: Sequence[Range] | None = None) -> pa.Table:
    """A parquet file, or some of its columns; with `ways` the rows that lie in any of these ranges. Raises RawError."""
    with reading(path):
        names = [name for name in columns_of(path) if columns is None or name in columns]
        rows = None if ways is None else [[(name, ">=", low), (name, "<", end)] for name, low, end in ways]
        return pq.read_table(handle(path), columns=names, filters=rows, partitioning=None)


def columns_of(path: Place) -> list[str]:
    """Names of a table's columns. Raises RawError."""
    with reading(path):
        return list(pq.ParquetFile(handle(path)).schema_arrow.names)


def read_rows(path: Place, listed: Listed, columns: frozenset[str], numbered: bool) -> pa.Table:
    """The rows of an episode in a shared table. Raises RawError when nothing confirms which they are."""
    present = columns_of(path)
    ways = listed.ways(present, numbered)
    if not ways or (len(ways) < 2 and "frame_index" not in present):
        raise RawError(f"{path}: nothing confirms which rows are those of episode {listed.number}")
    return read_table(path, columns | {"index"}, ways)


def check_rows(table: pa.Table, listed: Listed, numbered: bool, path: Place) -> None:
    """Raise RawError unless every bookkeeping column says what the metadata says."""
    rows = table.num_rows
    wanted = {"frame_index": range(rows)} | ({"episode_index": [listed.number] * rows} if numbered else {})
    if listed.span:
        wanted["index"] = range(*listed.span)
        if len(wanted["index"]) != rows:
            raise RawError(f"{path} has {rows} rows of episode {listed.number}, its place has {listed.span}")
    for name, values in wanted.items():
        if name in table.column_names and integers_of(table, name, path) != list(values):
            raise RawError(f"{path}: {name} is not that of episode {listed.number}, frame by frame")
    if "timestamp" in table.column_names:
        _check_clock(table.column("timestamp"), f"{path}, episode {listed.number}")


def integers_of(table: pa.Table, name: str, path: Place) -> list[int]:
    """A column of integers, which may be stored as whole floats. Raises RawError for anything else, or a null."""
    column = table.column(name)
    usable = not column.null_count and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))
    numbers: list[int | float] = column.to_pylist() if usable else []
    if not usable or any(not abs(value) <= _EXACT or value != int(value) for value in numbers):
        raise RawError(f"{path}: {name} is {column.type}, or has a null or a part of a number; expected integers")
    return [int(value) for value in numbers]


def numbers_of(table: pa.Table, name: str, path: Place) -> NDArray[np.float64]:
    """A column of vectors or numbers as float64 [R, W]. Raises RawError: texts and decimals are none."""
    if name not in table.column_names:
        raise RawError(f"{path} has no column {name}")
    column = table.column(name)
    kind = column.type
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise RawError(f"{path}: {name} holds {kind}, no numbers")
    with reading(f"{path}, column {name}"):
        return np.array(column.to_pylist(), np.float64).reshape(table.num_rows, -1)


def holds(path: Place, name: str, value: int) -> bool:
    """Whether the statistics of a table allow a value in a column."""
    if not path.is_file():
        return False
    spans = _spans(path, name)
    return spans is None or any(span is None or span[0] <= value <= span[1] for span in spans)


def is_numbered(tables: Mapping[Place, Sequence[Listed]]) -> bool:
    """False for a dataset in which at least half of the episodes have rows of another `episode_index`.

    Its parts were joined without numbering them anew. Only such a dataset is looked into of which a table's statistics
    name other episodes.
    """
    if all(_names_its_own(path, own) for path, own in tables.items()):
        return True
    wrong = there = 0
    for path, own in tables.items():
        try:
            table = read_table(path, frozenset({"index", "episode_index"}))
            columns = {name: table.column(name).to_numpy().astype(np.int64) for name in ("index", "episode_index")}
        except (RawError, KeyError, ValueError, TypeError, pa.ArrowException):
            continue
        order = np.argsort(columns["index"], kind="stable")
        places, numbers = columns["index"][order], columns["episode_index"][order]
        for listed in own:
            first, end = np.searchsorted(places, listed.span or (0, 0))
            there += bool(end > first)
            wrong += bool((numbers[first:end] != listed.number).any())
    return not there or wrong * 2 < there


def _names_its_own(path: Place, own: Iterable[Listed]) -> bool:
    spans = _spans(path, "episode_index") if path.is_file() else None
    if not spans or None in spans:
        return True
    known = [span for span in spans if span is not None]
    numbers = [listed.number for listed in own]
    return (min(low for low, _ in known), max(high for _, high in known)) == (min(numbers), max(numbers))


def _spans(path: Place, name: str) -> list[tuple[int, int] | None] | None:
    """Smallest and largest value of a column in each group of rows; None without the column or a readable footer."""
    try:
        footer = pq.read_metadata(handle(path))
    except (pa.ArrowException, OSError):
        return None
    places = [at for at in range(footer.num_columns) if footer.schema.column(at).path == name]
    if not places:
        return None
    found = (footer.row_group(group).column(places[0]).statistics for group in range(footer.num_row_groups))
    return [(s.min, s.max) if s is not None and s.has_min_max and type(s.min) is int else None for s in found]


def _check_clock(column: pa.ChunkedArray, where: str) -> None:
    if column.null_count or not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        return
    times = column.to_pylist()
    if any(after < before for before, after in pairwise(times)):
        raise RawError(f"{where}: timestamp steps back, another episode begins there")
