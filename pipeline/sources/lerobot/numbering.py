"""Whether the tables of a v3.0 dataset number their episodes: those of some published datasets do not (DROID).

Datasets that were made in parts and joined restart `episode_index` in every part. Their rows are found by `index`
alone, and confirmed by the other facts. In any other dataset a number that contradicts the place is an error of the
episode.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sources.lerobot.footers import Footers
from pipeline.sources.lerobot.layout import Row
from pipeline.storage.raw.places import handle


def is_unnumbered(footers: Footers, rows: Sequence[Row]) -> bool:
    """Whether at least half of the episodes hold rows with the `episode_index` of another one.

    The columns are read only if the statistics of a table name other episodes than the metadata.
    """
    tables: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.number is not None and row.rows is not None and not row.problem:
            tables[row.table].append(row)
    if all(_is_named_right(footers, path, own) for path, own in tables.items()):
        return False
    counts = [_count_wrong(os.path.join(footers.files.root, path), own) for path, own in tables.items()]
    wrong, there = (sum(found) for found in zip(*counts, strict=True))
    return 0 < there <= 2 * wrong


def _is_named_right(footers: Footers, path: str, own: Sequence[Row]) -> bool:
    span, numbers = footers.span(path, "episode_index"), [row.number for row in own if row.number is not None]
    return span is None or span == (min(numbers), max(numbers))


def _count_wrong(path: str, own: Sequence[Row]) -> tuple[int, int]:
    """Episodes of a table with a row of another number, and all of which rows are there."""
    try:
        table = pq.read_table(handle(path), columns=["index", "episode_index"], partitioning=None)
        places, found = (table[name].to_numpy().astype(np.int64) for name in ("index", "episode_index"))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return 0, 0  # opening an episode reports it
    ranges = np.array(sorted((*row.rows, row.number) for row in own if row.rows is not None), np.int64)
    at = np.searchsorted(ranges[:, 0], places, side="right") - 1
    inside = (at >= 0) & (places < ranges[at, 1])
    wrong = inside & (found != ranges[at, 2])
    return len(np.unique(at[wrong])), len(np.unique(at[inside]))
