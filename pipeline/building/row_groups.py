"""Rows of many small tables in row groups of one size."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.format.columns import ROW_GROUP


class RowGroups:
    """Writes row groups of `ROW_GROUP` rows, and what is left as the last; keeps at most one and a table in memory."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """Append rows, which must have the writer's schema."""
        self._waiting.append(table)
        self._rows += table.num_rows
        if self._rows >= ROW_GROUP:
            rows = pa.concat_tables(self._waiting)
            whole = self._rows - self._rows % ROW_GROUP
            for first in range(0, whole, ROW_GROUP):
                self._write(rows.slice(first, ROW_GROUP))
            self._waiting, self._rows = [rows.slice(whole)], self._rows - whole

    def finish(self) -> None:
        """Write what is left."""
        if self._rows:
            self._write(pa.concat_tables(self._waiting))
            self._waiting, self._rows = [], 0

    def _write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows.combine_chunks())  # pages end at the ends of chunks, which depend on the shards
