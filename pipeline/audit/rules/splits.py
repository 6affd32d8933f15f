"""Rule L6: each episode is in one split and no test episode is used; what was left out has no samples (L9)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import read_regular
from pipeline.audit.finding import Report, RowChecks
from pipeline.audit.ledger import LEDGER
from pipeline.audit.samples import SAMPLES, batches, integers, position_in
from pipeline.format.strict_json import parse

TASKS = "tasks.jsonl"
USED_SPLITS = ("train", "val")


def check(build: ClaimedBuild, report: Report) -> None:
    """Plan, manifest and ledger must agree about every episode."""
    _check_plan(build, report)
    used = _check_manifest(build, report)
    _check_ledger(build, used, report)


def _check_plan(build: ClaimedBuild, report: Report) -> None:
    table = build.tasks
    report.check("L6", len(table.tasks))
    for split, index in table.tasks:
        if split not in USED_SPLITS:
            report.found("L6", TASKS, f"task {split}/{index}: only train and val may be built")
    line_splits = pa.array([split for split, _ in table.tasks], pa.string()).take(pa.array(table.task))
    differs = pc.not_equal(table.ref_split, line_splits).to_numpy(zero_copy_only=False)
    checks = RowChecks(report, TASKS, None)
    checks.rows(
        "L6", differs, lambda i: f"episode {table.ids[i]} is marked {table.ref_split[i]}, its task {line_splits[i]}"
    )
    counted = pc.value_counts(table.ids)
    for entry in counted.filter(pc.greater(counted.field("counts"), 1)).to_pylist():
        where = pc.equal(table.ids, entry["values"])
        splits = sorted(set(line_splits.filter(where).to_pylist()))
        rule = "L6" if len(splits) > 1 else "L7"
        report.found(rule, TASKS, f"episode {entry['values']} is planned {entry['counts']} times, in {splits}")


def _check_manifest(build: ClaimedBuild, report: Report) -> NDArray[np.bool_]:
    """Each row's episode must be one of its own shard's task. Returns which episodes have samples, bool [E]."""
    used = np.zeros(len(build.tasks.ids), bool)
    for batch in batches(build, ("key", "split", "shard", "source", "episode", "num_frames")):
        position = position_in(build.tasks.ids, batch.column("episode"))
        _check_places(build, batch, position, report)
        _check_facts(build, batch, position, report)
        used[position[position >= 0]] = True
    return used


def _check_places(build: ClaimedBuild, batch: pa.RecordBatch, position: NDArray[np.int64], report: Report) -> None:
    """`position` is that of the row's episode in the task table, -1 when it is in no task; int64 [B]."""
    keys, episode, known = batch.column("key"), batch.column("episode"), position >= 0
    split, shard = batch.column("split").to_numpy(zero_copy_only=False), integers(batch, "shard")
    checks = RowChecks(report, SAMPLES, keys)
    checks.rows(
        "L6", ~np.isin(split.astype(str), USED_SPLITS), lambda i: f"split {split[i]}: only train and val may be used"
    )
    checks.rows("L6", ~known, lambda i: f"episode {episode[i]} is in no task of the plan")
    # One entry past the end means "no task": position -1 picks it.
    task = np.append(build.tasks.task, len(build.tasks.tasks))[position]
    splits = np.array([*(s for s, _ in build.tasks.tasks), ""], dtype=object)[task]
    indices = np.array([*(i for _, i in build.tasks.tasks), -1], dtype=object)[task]
    checks.rows(
        "L6",
        known & ((splits != split) | (indices != shard)),
        lambda i: (
            f"episode {episode[i]} was planned for {splits[i]}/{indices[i]}, the sample is in {split[i]}/{shard[i]}"
        ),
    )


def _check_facts(build: ClaimedBuild, batch: pa.RecordBatch, position: NDArray[np.int64], report: Report) -> None:
    planned = np.append(build.tasks.num_frames, -1)[position]
    keys, total, source = batch.column("key"), integers(batch, "num_frames"), batch.column("source")
    checks = RowChecks(report, SAMPLES, keys)
    checks.rows(
        "L8", (planned >= 0) & (total != planned), lambda i: f"num_frames is {total[i]}, the source had {planned[i]}"
    )
    foreign = pc.not_equal(source, build.name).to_numpy(zero_copy_only=False)
    checks.rows("L7", foreign, lambda i: f"source is {source[i]}, the build's is {build.name}")


def _check_ledger(build: ClaimedBuild, used: NDArray[np.bool_], report: Report) -> None:
    ids = build.tasks.ids
    ledgered = _ledgered(build, report)
    recorded = (
        pc.is_in(ids, value_set=pa.array(sorted(ledgered), pa.string())).to_numpy(zero_copy_only=False)
        if len(ids)
        else np.zeros(0, bool)
    )
    checks = RowChecks(report, LEDGER, None)
    checks.rows(
        "L9",
        recorded & used,
        lambda i: f"episode {ids[i]} was left out ({ledgered[ids[i].as_py()]}), yet it has samples",
    )
    checks.rows(
        "L7",
        ~recorded & ~used,
        lambda i: f"episode {ids[i]} was planned, but has neither samples nor an entry in the ledger",
    )


def _ledgered(build: ClaimedBuild, report: Report) -> dict[str, str]:
    """Episode -> reason. Malformed lines are findings."""
    result: dict[str, str] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for number, line in enumerate(read_regular(build.root / LEDGER).splitlines(), start=1):
        try:
            value = parse(line)
            episode, stage, reason = value["episode"], value["stage"], value["reason"]
            if not all(isinstance(text, str) for text in (episode, stage, reason)):
                raise ValueError("episode, stage and reason must be strings")
        except (ValueError, KeyError, TypeError) as error:
            report.found("L7", LEDGER, f"line {number} is no ledger entry: {error!r}")
            continue
        result[episode] = reason
        seen[episode, stage] += 1
    for (episode, stage), count in seen.items():
        if count > 1:
            report.found("L7", LEDGER, f"episode {episode} appears {count} times at stage {stage}")
    return result
