"""The columns of samples.parquet that a reader needs, for one split, in manifest order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import BuildError
from pipeline.format.build import Build
from pipeline.format.columns import samples_schema
from pipeline.format.file_names import SAMPLES
from pipeline.format.printable import printable

_TEXTS = ("key", "split", "episode", "inputs_sha256", "targets_sha256")
_NUMBERS = ("shard", "row", "json_offset", "json_size")
_BY_VIEW = ("image_offset", "image_size")


class SampleTable:
    """R rows of a split.

    key, episode, inputs_sha256, targets_sha256  string [R]
    shard, row, json_offset, json_size           integers [R]
    image_offset, image_size                     integers [R, V]

    Raises:
        BuildError: the file is missing, not the one that build.json lists, or not what its shards need.
    """

    def __init__(self, build: Build, split: str) -> None:
        where, data = build.path / SAMPLES, build.read_file(SAMPLES)
        try:
            table = _read(data, build, split)
            _require_rows(table, [shard for shard in build.manifest["shards"] if shard["split"] == split])
            self.image_offset, self.image_size = (_by_view(table, name, build.sizes.views) for name in _BY_VIEW)
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            fix = "run vlajepa audit on it, or copy the build again"
            raise BuildError(f"{where} cannot be used: {printable(error)}; {fix}") from error
        self.key, self.episode = table.column("key"), table.column("episode")
        self.inputs_sha256, self.targets_sha256 = table.column("inputs_sha256"), table.column("targets_sha256")
        self.shard, self.row, self.json_offset, self.json_size = (table.column(n).to_numpy() for n in _NUMBERS)


def _read(data: bytes, build: Build, split: str) -> pa.Table:
    source = pa.BufferReader(data)
    found = pq.read_schema(source)
    if not found.equals(samples_schema(build.sizes.views, build.sizes.steps)):
        raise ValueError(f"its columns are not those of this version, but {', '.join(found.names)}")
    source.seek(0)
    table = pq.read_table(
        source, columns=[*_TEXTS, *_NUMBERS, *_BY_VIEW], filters=[("split", "=", split)], read_dictionary=["episode"]
    ).combine_chunks()
    table.validate(full=True)
    if any(column.null_count for column in table.columns):
        raise ValueError("a column holds a null")
    return table


def _require_rows(table: pa.Table, shards: Sequence[Mapping[str, Any]]) -> None:
    """Every row must be that of a shard of build.json, in order: readers find samples by position."""
    sizes = [shard["samples"] for shard in shards]
    if table.num_rows != sum(sizes):
        raise ValueError(f"it has {table.num_rows} rows of the split, build.json has {sum(sizes)} samples")
    numbers = np.repeat(np.array([shard["index"] for shard in shards], np.int64), sizes)
    starts = np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)
    in_order = np.arange(table.num_rows) - starts
    for name, wanted in (("shard", numbers), ("row", in_order)):
        wrong = np.flatnonzero(table.column(name).to_numpy() != wanted)
        if len(wrong):
            raise ValueError(f"row {wrong[0]} of the split is of {name} {table.column(name)[wrong[0]]}, not in order")


def _by_view(table: pa.Table, name: str, views: int) -> NDArray[np.int64]:
    values: NDArray[np.int64] = table.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
    if len(values) != table.num_rows * views:
        raise ValueError(f"column {name} must hold {views} numbers a row")
    return values.reshape(-1, views)
