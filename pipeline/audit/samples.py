"""samples.parquet as columns, a batch at a time: ten million rows never become Python objects.

B rows of a batch, K future steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import is_regular
from pipeline.errors import BuildError
from pipeline.format.columns import samples_schema

SAMPLES = "samples.parquet"
BATCH_ROWS = 1 << 16


def open_samples(build: ClaimedBuild) -> pq.ParquetFile:
    """Open samples.parquet and compare its columns with the schema.

    Raises:
        BuildError: missing, unreadable, or with other columns.
    """
    path = build.root / SAMPLES
    if not is_regular(path):
        raise BuildError(f"{path} is missing or not a regular file; the build cannot be audited")
    try:
        file = pq.ParquetFile(path)
        found = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise BuildError(f"{path} cannot be read: {error}. Make the build again") from error
    expected = samples_schema(build.sizes.views, build.sizes.steps)
    if not found.equals(expected):
        raise BuildError(f"{path} has other columns than this version writes: {_difference(found, expected)}")
    return file


def batches(build: ClaimedBuild, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Batches of some columns, in the order of the file. Nulls are refused: no column may hold one.

    Raises:
        BuildError: the file cannot be read, or holds a null.
    """
    path = build.root / SAMPLES
    with open_samples(build) as file:
        try:
            for batch in file.iter_batches(batch_size=rows, columns=list(columns)):
                batch.validate(full=True)
                if name := column_with_null(batch):
                    raise BuildError(f"{path}: column {name} holds a null; every value must be given")
                yield batch
        except (pa.ArrowException, OSError) as error:
            raise BuildError(f"{path} cannot be read: {error}. Make the build again") from error


def column_with_null(batch: pa.RecordBatch) -> str | None:
    """Name of the first column in which a value, or anything nested in one, is null."""
    return next((name for name in batch.schema.names if _has_nulls(batch.column(name))), None)


def _has_nulls(array: pa.Array) -> bool:
    if array.null_count:
        return True
    if isinstance(array, pa.ExtensionArray):
        return _has_nulls(array.storage)
    return pa.types.is_nested(array.type) and _has_nulls(array.flatten())


def column(batch: pa.RecordBatch, name: str) -> NDArray[np.generic]:
    """A number column as an array [B], or [B, n] for a fixed-size list."""
    values = batch.column(name)
    if pa.types.is_fixed_size_list(values.type):
        return values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), values.type.list_size)
    return values.to_numpy(zero_copy_only=False)


def integers(batch: pa.RecordBatch, name: str) -> NDArray[np.int64]:
    """An integer column, widened so that sums of hostile values cannot wrap."""
    return column(batch, name).astype(np.int64)


def position_in(known: pa.Array, values: pa.Array) -> NDArray[np.int64]:
    """Position of each value among the known ones, -1 for an unknown one; int64 [B]."""
    return pc.fill_null(pc.index_in(values, value_set=known), -1).to_numpy(zero_copy_only=False).astype(np.int64)


@dataclass(frozen=True)
class Supports:
    """The `supports` column of a batch. Where a support is empty, first, last and highest are -1.

    lengths int64 [B, K+1];  first, last, highest int64 [B, K+1]
    """

    lengths: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    highest: NDArray[np.int64]


def supports(batch: pa.RecordBatch) -> Supports:
    """Unpack the nested lists without a loop over rows."""
    outer = batch.column("supports")
    inner = outer.flatten()
    lengths = pc.list_value_length(inner).to_numpy(zero_copy_only=False).astype(np.int64)
    values = inner.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    some = lengths > 0
    first, last, highest = (np.full(len(lengths), -1, np.int64) for _ in range(3))
    first[some] = values[starts[some]]
    last[some] = values[ends[some] - 1]
    if some.any():
        highest[some] = np.maximum.reduceat(values, starts[some])  # empty lists own no values between two starts
    shape = (len(outer), outer.type.list_size)
    return Supports(lengths.reshape(shape), first.reshape(shape), last.reshape(shape), highest.reshape(shape))


class ShardRows:
    """The rows of one shard after the other, in one pass over the file when it is sorted as it should be."""

    def __init__(self, build: ClaimedBuild) -> None:
        self._build = build
        self._names = samples_schema(build.sizes.views, build.sizes.steps).names
        self._runs = _runs(build, self._names)
        self._ahead = next(self._runs, None)

    def take(self, split: str, index: int, count: int) -> pa.Table:
        """Rows of a shard. An unsorted file (a finding by itself) is searched from the start."""
        if self._ahead is not None and self._ahead[0] == (split, index):
            table = self._ahead[1]
            self._ahead = next(self._runs, None)
            return table
        empty = samples_schema(self._build.sizes.views, self._build.sizes.steps).empty_table()
        if count == 0:
            return empty
        parts = [table for at, table in _runs(self._build, self._names) if at == (split, index)]
        return pa.concat_tables(parts) if parts else empty


def _runs(build: ClaimedBuild, names: Sequence[str]) -> Iterator[tuple[tuple[str, int], pa.Table]]:
    """Runs of rows of one shard, joined across batches."""
    at: tuple[str, int] | None = None
    parts: list[pa.Table] = []
    for batch in batches(build, names, rows=4096):
        code = np.unique(batch.column("split").to_numpy(zero_copy_only=False), return_inverse=True)[1]
        shard = integers(batch, "shard")
        breaks = np.flatnonzero((np.diff(code) != 0) | (np.diff(shard) != 0)) + 1
        edges = [0, *breaks.tolist(), batch.num_rows]
        for start, stop in itertools.pairwise(edges):
            here = (batch.column("split")[start].as_py(), int(shard[start]))
            if here != at and at is not None:
                yield at, pa.concat_tables(parts)
                parts = []
            at = here
            parts.append(pa.Table.from_batches([batch.slice(start, stop - start)]))
    if at is not None:
        yield at, pa.concat_tables(parts)


def _difference(found: pa.Schema, expected: pa.Schema) -> str:
    for name in sorted({*found.names, *expected.names}):
        has = found.field(name).type if found.names.count(name) == 1 else f"{found.names.count(name)} columns"
        wants = expected.field(name).type if name in expected.names else "no such column"
        if has != wants:
            return f"{name}: expected {wants}, found {has}"
    return "the columns are in another order or differ in nullability or metadata"
