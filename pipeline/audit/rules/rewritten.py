"""Rule L10 for samples.parquet and the Arrow files: written anew from what was parsed of them, they are the same bytes.

What was written by another version of a library has other bytes: see `require_libraries`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.canonical.arrow import arrow_difference, batch_rows, in_order_of_need, tubelet_rows
from pipeline.audit.canonical.expansion import record_batches
from pipeline.audit.canonical.parquet import samples_difference
from pipeline.audit.canonical.shape import misfit
from pipeline.audit.finding import Report
from pipeline.audit.parsers.shard import Shard, ShardRule, tubelet_places
from pipeline.audit.samples import UNREADABLE
from pipeline.format.file_names import SAMPLES

LIBRARIES = ("pyarrow",)
"""Whose bytes are compared here."""


def check_samples(build: ClaimedBuild, report: Report) -> None:
    """samples.parquet, in one pass."""
    report.check("L10")
    if difference := samples_difference(build):
        report.found("L10", SAMPLES, difference)


class Rewritten(ShardRule[None]):
    """The Arrow files of each shard. A missing file, or one with other columns, is reported by other rules."""

    def __init__(self, build: ClaimedBuild) -> None:
        super().__init__(build)
        self._lines = {task: line for line, task in enumerate(build.tasks.tasks)}

    def check(self, shard: Shard, report: Report) -> None:
        reader, latents = shard.opened[0], shard.entry.latents
        if reader is None:
            return
        file, rows = shard.entry.targets.path, self._batch_rows(shard)
        _compare(shard, file, shard.schema, rows, report)
        if latents is None or shard.opened_latents[0] is None:
            return
        try:
            size = (self.build.root / file).stat().st_size
            batches = [tubelet_places(batch) for batch in record_batches(reader, size)]
        except UNREADABLE:
            return  # reported just now
        places = np.concatenate([np.zeros((0, self.build.sizes.steps + 1), np.int64), *batches])
        report.check("L10")
        if in_order_of_need(places):
            _compare(shard, latents.path, shard.latents_schema, tubelet_rows(places, rows), report)
        else:
            report.found("L10", latents.path, "its rows are not in the order in which the samples first need them")

    def _batch_rows(self, shard: Shard) -> list[int]:
        """Rows that each record batch of the targets must hold; none where the task does not tell."""
        tasks, line = self.build.tasks, self._lines.get((shard.entry.split, shard.entry.index))
        if line is None:
            return []
        groups: Any = tasks.heads[line].get("groups")
        episodes = tasks.ids[tasks.episodes(line)].to_pylist()
        if misfit(groups, list[int]) or min(groups, default=0) < 0 or sum(groups) != len(episodes):
            return []
        return batch_rows(groups, episodes, shard.rows.column("episode").to_pylist(), self.build.group_samples)


def _compare(shard: Shard, file: str, schema: pa.Schema, rows: list[int], report: Report) -> None:
    report.check("L10")
    try:
        difference = arrow_difference(shard.build.root / file, schema, rows)
    except UNREADABLE as error:
        difference = f"cannot be written anew: {error}"
    if difference:
        report.found("L10", file, difference)
