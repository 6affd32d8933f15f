"""Whether a v3.0 dataset lost a file of meta/episodes: its episodes would be missing without a trace."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pipeline.errors import RunError
from pipeline.sources.files import find_files
from pipeline.sources.lerobot.footers import Footers
from pipeline.sources.lerobot.layout import EPISODES_GLOB, Row

_TABLES = "data/chunk-*/file-*.parquet"


def require_all_listed(footers: Footers, rows: Sequence[Row]) -> None:
    """Compare the listed episodes with two facts that do not depend on them: their number by info.json, and the rows
    of all tables. One of them alone is wrong in published datasets.

    Raises:
        RunError: both say that there are more.
    """
    info, root = footers.files.info, footers.files.root
    declared, listed = info.total_episodes, sum(row.length or 0 for row in rows)
    if type(declared) is not int or declared <= len(rows):
        return
    counts = [footers.count_rows(os.path.relpath(path, root)) for path in find_files(root, _TABLES)]
    found = sum(count for count in counts if count is not None)
    if found > listed:
        raise RunError(
            f"{os.path.join(root, EPISODES_GLOB)} lists {len(rows)} episodes of {listed} frames, but {info.path} "
            f"declares {declared} episodes and the tables hold {found} rows: a file of meta/episodes is lost; fetch "
            "the dataset again, or correct total_episodes to go on without these episodes"
        )
