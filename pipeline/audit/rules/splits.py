"""Rule L6: each episode is in one split and no test episode is used; what was left out has no samples (L9)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import LEDGER, TASKS
from pipeline.audit.finding import Report, RowChecks
from pipeline.audit.ledger import ledger_entries
from pipeline.audit.samples import batches, integers, position_in
from pipeline.format.file_names import SAMPLES

USED_SPLITS = ("train", "val")


def check(build: ClaimedBuild, report: Report) -> None:
    """Plan, manifest and ledger must agree about every episode."""
    _check_plan(build, report)
    used = np.zeros(len(build.tasks.ids), bool)
    for batch in batches(build, ("key", "split", "shard", "source", "episode", "num_frames")):
        position = position_in(build.tasks.ids, batch.column("episode"))
        _check_rows(build, batch, position, RowChecks(report, SAMPLES, batch.column("key")))
        used[position[position >= 0]] = True
    _check_ledger(build, used, report)


def _check_plan(build: ClaimedBuild, report: Report) -> None:
    table = build.tasks
    report.check("L6", len(table.tasks))
    for split, index in table.tasks:
        if split not in USED_SPLITS:
            report.found("L6", TASKS, f"task {split}/{index}: only train and val may be built")
    line_splits = pa.array([split for split, _ in table.tasks], pa.string()).take(pa.array(table.task))
    differs = pc.not_equal(table.ref_split, line_splits).to_numpy(zero_copy_only=False)
    columns = (table.ids, table.ref_split, line_splits)
    RowChecks(report, TASKS).rows("L6", differs, "episode {} is marked {}, its task {}", *columns)
    counted = pc.value_counts(table.ids)
    for entry in counted.filter(pc.greater(counted.field("counts"), 1)).to_pylist():
        splits = sorted(set(line_splits.filter(pc.equal(table.ids, entry["values"])).to_pylist()))
        rule = "L6" if len(splits) > 1 else "L7"
        report.found(rule, TASKS, f"episode {entry['values']} is planned {entry['counts']} times, in {splits}")


def _check_rows(build: ClaimedBuild, batch: pa.RecordBatch, position: NDArray[np.int64], checks: RowChecks) -> None:
    """Each row's episode must be one of its own shard's task, and have its facts.

    `position` is that of the row's episode in the task table, -1 when it is in no task; int64 [B].
    """
    tasks, episode, known = build.tasks, batch.column("episode"), position >= 0
    split, shard = batch.column("split").to_numpy(zero_copy_only=False), integers(batch, "shard")
    unused = ~np.isin(split.astype(str), USED_SPLITS)
    checks.rows("L6", unused, "split {}: only train and val may be used", split)
    checks.rows("L6", ~known, "episode {} is in no task of the plan", episode)
    # One entry past the end means "no task": position -1 picks it.
    task = np.append(tasks.task, len(tasks.tasks))[position]
    splits, indices = np.array([*tasks.tasks, ("", -1)], object)[task].T
    moved = known & ((splits != split) | (indices != shard))
    text = "episode {} was planned for {}/{}, the sample is in {}/{}"
    checks.rows("L6", moved, text, episode, splits, indices, split, shard)
    planned, total = np.append(tasks.num_frames, -1)[position], integers(batch, "num_frames")
    checks.rows("L8", (planned >= 0) & (total != planned), "num_frames is {}, the source had {}", total, planned)
    source = batch.column("source")
    foreign = pc.not_equal(source, build.name).to_numpy(zero_copy_only=False)
    checks.rows("L7", foreign, lambda i: f"source is {source[i]}, the build's is {build.name}")


def _check_ledger(build: ClaimedBuild, used: NDArray[np.bool_], report: Report) -> None:
    """`used`: whether each episode of the plan has samples, bool [E]."""
    entries = list(ledger_entries(build, report))
    for (episode, stage), count in Counter((entry["episode"], entry["stage"]) for entry in entries).items():
        if count > 1:
            report.found("L7", LEDGER, f"episode {episode} appears {count} times at stage {stage}")
    reasons, ids = {entry["episode"]: entry["reason"] for entry in entries}, build.tasks.ids.to_pylist()
    recorded = np.array([episode in reasons for episode in ids], bool)
    checks = RowChecks(report, LEDGER)
    checks.rows(
        "L9",
        recorded & used,
        lambda i: f"episode {ids[i]} was left out ({reasons[ids[i]]}), yet it has samples",
    )
    neither = ~recorded & ~used
    checks.rows("L7", neither, "episode {} was planned, but has neither samples nor an entry in the ledger", ids)
