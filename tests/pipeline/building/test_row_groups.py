"""Row groups of one size: the file does not show of which shards its rows came."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.building.row_groups import RowGroups
from pipeline.format.columns import ROW_GROUP

ROWS = 3 * ROW_GROUP


@pytest.mark.parametrize(
    "shards",
    [
        (ROWS,),
        (1, ROW_GROUP - 1, ROW_GROUP, ROW_GROUP),
        (2 * ROW_GROUP + 1, ROW_GROUP - 1),
        (ROW_GROUP - 3, 7, 1, 2 * ROW_GROUP - 5),
        (256,) * 192,
        (256,) * 191,
        (1,),
        (),
    ],
    ids=str,
)
def test_row_groups_do_not_depend_on_the_shards(tmp_path: Path, shards: Sequence[int]) -> None:
    values = np.random.default_rng(0).integers(0, 9000, (ROWS, 3)).astype(np.int32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 3)
    whole = pa.table({"key": [f"key-{value}" for value in values[:, 0]], "list": lists}).slice(0, sum(shards))
    with pq.ParquetWriter(tmp_path / "shards.parquet", whole.schema) as writer:
        rows, first = RowGroups(writer), 0
        for count in shards:
            rows.add(whole.slice(first, count))
            first += count
        rows.finish()
    with pq.ParquetWriter(tmp_path / "whole.parquet", whole.schema) as writer:
        for first in range(0, sum(shards), ROW_GROUP):
            writer.write_table(whole.slice(first, ROW_GROUP).combine_chunks())
    assert (tmp_path / "shards.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert pq.read_table(tmp_path / "shards.parquet").equals(whole)
