"""samples.parquet as columns, a batch at a time: ten million rows never become Python objects.

B rows of a batch, K future steps.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.canonical.expansion import bounded_memory
from pipeline.audit.files import is_regular
from pipeline.errors import BuildError
from pipeline.format.columns import samples_schema
from pipeline.format.file_names import SAMPLES

UNREADABLE = (pa.ArrowException, OSError, ValueError, MemoryError)
"""What reading a damaged Arrow or Parquet file raises."""

BATCH_ROWS = 1 << 16

ROW_BYTES = 32
"""Bytes of the file that each row has at least: the digest of its inputs is no other row's, and not compressible."""


def open_samples(build: ClaimedBuild) -> pq.ParquetFile:
    """Open samples.parquet and compare its columns with the schema.

    Raises:
        BuildError: missing, unreadable, or with other columns.
    """
    path = build.root / SAMPLES
    if not is_regular(path):
        raise BuildError(f"{path} is missing or not a regular file; the build cannot be audited")
    with reading(path):
        file = pq.ParquetFile(path, pre_buffer=False)  # which keeps all that was read
        found, rows, size = file.schema_arrow, file.metadata.num_rows, path.stat().st_size
    if rows * ROW_BYTES > size:
        raise BuildError(
            f"{path} claims {rows} rows in {size} bytes, which no such file can hold; make the build again"
        )
    expected = samples_schema(build.sizes.views, build.sizes.steps)
    if not found.equals(expected):
        raise BuildError(f"{path} has other columns than this version writes: {_difference(found, expected)}")
    return file


def batches(build: ClaimedBuild, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Batches of some columns, in the order of the file. Nulls are refused: no column may hold one.

    Raises:
        BuildError: the file cannot be read, or holds a null.
    """
    with open_samples(build) as file, reading(build.root / SAMPLES):
        found = file.iter_batches(batch_size=rows, columns=list(columns))
        while (batch := _next(found)) is not None:
            check_batch(batch)
            yield batch


def _next(found: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    """The next one; None at the end."""
    with bounded_memory():
        return next(found, None)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever reading samples.parquet raises becomes a BuildError."""
    try:
        yield
    except UNREADABLE as error:
        raise BuildError(f"{path} cannot be read: {error}. Make the build again") from error


def share_seed(build_sha256: str, nonce: str) -> int:
    """Seed of the random share, 0..2**63-1, from the SHA-256 of build.json and the auditor's nonce.

    Who makes a build does not know the nonce, and who audits it cannot choose the samples.
    """
    digest = hashlib.sha256(f"{build_sha256}\n{nonce}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def chosen_rows(count: int, seed: int, share: float, least: int) -> list[int]:
    """Rows of the manifest that are checked more deeply, sorted; depends on nothing but the arguments."""
    wanted = min(count, max(least, math.ceil(share * count)))
    return sorted(random.Random(seed).sample(range(count), wanted))


def rows_at(build: ClaimedBuild, columns: Sequence[str], numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Some columns of the rows with these numbers, in the order of the file. Raises BuildError as `batches`."""
    wanted, at, rows = np.array(numbers, np.int64), 0, []
    for batch in batches(build, columns):
        here = wanted[(wanted >= at) & (wanted < at + batch.num_rows)] - at
        rows += batch.take(pa.array(here)).to_pylist()
        at += batch.num_rows
    if len(rows) != len(wanted):
        raise BuildError(f"{build.root}/{SAMPLES}: {len(wanted)} rows were chosen, {len(rows)} found")
    return rows


def check_batch(batch: pa.RecordBatch) -> None:
    """Raise ValueError when a batch is corrupt, or a value, or anything nested in one, is null."""
    batch.validate(full=True)
    for name in batch.schema.names:
        if _has_nulls(batch.column(name)):
            raise ValueError(f"column {name} holds a null; every value must be given")


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
        self._runs = _runs(build)
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
        parts = [table for at, table in _runs(self._build) if at == (split, index)]
        return pa.concat_tables(parts) if parts else empty


def _runs(build: ClaimedBuild) -> Iterator[tuple[tuple[str, int], pa.Table]]:
    """Runs of rows of one shard, joined across batches."""
    for place, pieces in itertools.groupby(_pieces(build), key=itemgetter(0)):
        yield place, pa.Table.from_batches([piece for _, piece in pieces])


def _pieces(build: ClaimedBuild) -> Iterator[tuple[tuple[str, int], pa.RecordBatch]]:
    """Runs of rows of one shard in one batch."""
    for batch in batches(build, samples_schema(build.sizes.views, build.sizes.steps).names, rows=4096):
        places = list(zip(batch.column("split").to_pylist(), batch.column("shard").to_pylist(), strict=True))
        for place, numbers in itertools.groupby(range(len(places)), key=places.__getitem__):
            first, *rest = numbers
            yield place, batch.slice(first, 1 + len(rest))


def _difference(found: pa.Schema, expected: pa.Schema) -> str:
    for name in sorted({*found.names, *expected.names}):
        has = found.field(name).type if found.names.count(name) == 1 else f"{found.names.count(name)} columns"
        wants = expected.field(name).type if name in expected.names else "no such column"
        if has != wants:
            return f"{name}: expected {wants}, found {has}"
    return "the columns are in another order or differ in nullability or metadata"
