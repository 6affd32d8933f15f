"""Rule L7 in the manifest: keys, their order, and counts. Only a few integers a row are held in memory."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.finding import Report, RowChecks
from pipeline.audit.samples import SAMPLES, batches, integers, position_in
from pipeline.format.schema import SPLITS

_NAME = r"\A[A-Za-z0-9_-]+\z"
BUILD = "build.json"


@dataclass(frozen=True)
class _Places:
    """The place of each row; R rows. `episode` is -1 when the plan has no such episode.

    split int8 [R] (position in SPLITS);  shard, row, now int32 [R];  episode int32 [R] (row of the task table)
    """

    split: NDArray[np.int8]
    shard: NDArray[np.int32]
    row: NDArray[np.int32]
    now: NDArray[np.int32]
    episode: NDArray[np.int32]


def check(build: ClaimedBuild, report: Report) -> None:
    """Keys are made of episode and `now`; rows are sorted; every shard has the rows it claims, each sample once."""
    places = _read(build, report)
    _check_order(places, report)
    _check_shards(build, places, report)
    _check_episodes(build, places, report)
    _check_counts(build, places, report)


def expected_keys(episode: pa.Array, now: pa.Array) -> pa.Array:
    """EPISODE-NNNNNN, at least six digits."""
    digits = pc.utf8_lpad(pc.cast(now, pa.string()), width=6, padding="0")
    return pc.binary_join_element_wise(episode, digits, "-")


def _read(build: ClaimedBuild, report: Report) -> _Places:
    empty = np.zeros(0, np.int32)
    parts = [_Places(empty.astype(np.int8), empty, empty, empty, empty)]
    for batch in batches(build, ("key", "split", "shard", "row", "episode", "now")):
        _check_keys(batch, report)
        split = position_in(pa.array(SPLITS), batch.column("split")).astype(np.int8)
        shard, row, now = (integers(batch, name).astype(np.int32) for name in ("shard", "row", "now"))
        episode = position_in(build.tasks.ids, batch.column("episode")).astype(np.int32)
        parts.append(_Places(split, shard, row, now, episode))
    columns = ([getattr(part, field.name) for part in parts] for field in fields(_Places))
    return _Places(*map(np.concatenate, columns))


def _check_keys(batch: pa.RecordBatch, report: Report) -> None:
    keys = batch.column("key")
    wants = expected_keys(batch.column("episode"), batch.column("now"))
    differs = pc.not_equal(keys, wants).to_numpy(zero_copy_only=False)
    checks = RowChecks(report, SAMPLES, keys)
    checks.rows("L7", differs, lambda i: f"the key must be {wants[i]}")
    unsafe = pc.invert(pc.match_substring_regex(keys, _NAME)).to_numpy(zero_copy_only=False)
    checks.rows("L10", unsafe, lambda i: "a key consists of letters, digits, _ and -")


def _check_order(places: _Places, report: Report) -> None:
    """Sorted by split, shard and row."""
    order = (places.split.astype(np.int64) << 32) + places.shard
    steps_back = (np.diff(order) < 0) | ((np.diff(order) == 0) & (np.diff(places.row.astype(np.int64)) <= 0))
    checks = RowChecks(report, SAMPLES, None)
    checks.rows("L7", steps_back, lambda i: f"row {i + 1} of the file does not follow row {i} by (split, shard, row)")


def _check_shards(build: ClaimedBuild, places: _Places, report: Report) -> None:
    """Rows 0..n-1 for each shard; shards are those of the plan, sorted."""
    claimed = [(SPLITS.index(s.split), s.index) for s in build.shards]
    planned = {(split, index) for split, index in build.tasks.tasks}
    if claimed != sorted(set(claimed)):
        report.found("L7", BUILD, "shards must be sorted by split and index, each once")
    for shard in build.shards:
        if (shard.split, shard.index) not in planned:
            report.found("L7", BUILD, f"shard {shard.split}/{shard.index} is in no task of the plan")
    if len(planned) != len(build.tasks.tasks):
        report.found("L7", "tasks.jsonl", "a shard is planned twice")
    code = (places.split.astype(np.int64) << 32) + places.shard
    order = np.argsort(code, kind="stable")
    shards, starts, counts = np.unique(code[order], return_index=True, return_counts=True)
    found = {int(c): (int(a), int(n)) for c, a, n in zip(shards, starts, counts, strict=True)}
    for (split, index), shard in zip(claimed, build.shards, strict=True):
        report.check("L7")
        start, count = found.pop((split << 32) + index, (0, 0))
        rows = places.row[order[start : start + count]]
        if count != shard.samples or not np.array_equal(rows, np.arange(count)):
            found_rows = f"the manifest has {count} rows numbered {_spell(rows)}, not 0..{shard.samples - 1}"
            report.found("L7", SAMPLES, f"shard {shard.split}/{index} lists {shard.samples} samples; {found_rows}")
    for stray in found:
        name = SPLITS[stray >> 32] if 0 <= stray >> 32 < len(SPLITS) else "an unknown split"
        report.found("L7", SAMPLES, f"rows belong to shard {name}/{stray & 0xFFFFFFFF}, which build.json does not list")


def _check_episodes(build: ClaimedBuild, places: _Places, report: Report) -> None:
    """Inside a shard: episodes in the order of the task, `now` rising; no sample twice in the build."""
    same_shard = (np.diff(places.split) == 0) & (np.diff(places.shard) == 0)
    episode, now = places.episode.astype(np.int64), places.now.astype(np.int64)
    forward = (np.diff(episode) > 0) | ((np.diff(episode) == 0) & (np.diff(now) > 0))
    checks = RowChecks(report, SAMPLES, None)
    checks.rows(
        "L7",
        same_shard & ~forward,
        lambda i: f"rows {i} and {i + 1} of the file are not in the order of the plan (episode, now)",
    )
    pairs, counts = np.unique((episode << 32) + now, return_counts=True)
    checks.rows(
        "L7",
        (counts > 1) & (pairs >= 0),
        lambda i: (
            f"{counts[i]} samples of episode {build.tasks.ids[int(pairs[i]) >> 32]} at now={int(pairs[i]) & 0xFFFFFFFF}"
        ),
    )


def _check_counts(build: ClaimedBuild, places: _Places, report: Report) -> None:
    for split in sorted({*build.counts, *(s.split for s in build.shards)}):
        report.check("L7")
        here = places.split == SPLITS.index(split) if split in SPLITS else np.zeros(len(places.split), bool)
        found = (
            int(here.sum()),
            len(np.unique(places.episode[here])),
            sum(shard.split == split for shard in build.shards),
        )
        claimed = build.counts.get(split)
        wants = (claimed.samples, claimed.episodes, claimed.shards) if claimed else (0, 0, 0)
        if found != wants:
            report.found("L7", BUILD, f"counts of {split} (samples, episodes, shards) are {wants}, found {found}")


def _spell(rows: NDArray[np.int32]) -> str:
    return "nothing" if len(rows) == 0 else f"{rows.min()}..{rows.max()}"
