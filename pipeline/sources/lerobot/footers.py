"""Which numbers a shared table holds, by the statistics at its end: no row is read."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sources.lerobot.info import Files
from pipeline.storage.raw.places import handle

Span = tuple[int, int]
"""Smallest and largest value of a column of integers."""


class Footers:
    """The footers of the tables of a dataset; each is read once."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._spans: dict[str, dict[str, list[Span | None]] | None] = {}

    def holds(self, path: str, column: str, value: int) -> bool:
        """Whether a table can hold a value; True without statistics, False without the file."""
        if self.files.size(path) is None:
            return False
        groups = self._read(path).get(column)
        return groups is None or any(group is None or group[0] <= value <= group[1] for group in groups)

    def span(self, path: str, column: str) -> Span | None:
        """Smallest and largest value of a column; None where they are not known."""
        groups = self._read(path).get(column) if self.files.size(path) is not None else None
        if not groups or any(group is None for group in groups):
            return None
        known = [group for group in groups if group is not None]
        return min(low for low, _ in known), max(high for _, high in known)

    def count_rows(self, path: str) -> int | None:
        """Rows of a table; None if its footer cannot be read."""
        meta = _footer(os.path.join(self.files.root, path))
        return None if meta is None else int(meta.num_rows)

    def _read(self, path: str) -> dict[str, list[Span | None]]:
        if path not in self._spans:
            self._spans[path] = _spans(os.path.join(self.files.root, path))
        return self._spans[path] or {}


def _spans(path: str) -> dict[str, list[Span | None]] | None:
    """Column -> span of each row group; None if the footer cannot be read, which opening an episode reports."""
    meta = _footer(path)
    if meta is None:
        return None
    found: dict[str, list[Span | None]] = {}
    names = [meta.schema.column(i).path for i in range(meta.num_columns)]
    for name in ("index", "episode_index"):
        if name in names:
            groups = [meta.row_group(i).column(names.index(name)).statistics for i in range(meta.num_row_groups)]
            found[name] = [_span(group) for group in groups]
    return found


def _footer(path: str) -> pq.FileMetaData | None:
    try:
        return pq.read_metadata(handle(path))
    except (pa.ArrowException, OSError):
        return None


def _span(statistics: pq.Statistics | None) -> Span | None:
    if statistics is None or not statistics.has_min_max or type(statistics.min) is not int:
        return None
    return statistics.min, statistics.max
