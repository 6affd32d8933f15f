"""Rule L7 in the manifest: keys, their order, and counts. Only a few integers a row are held in memory."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild, SplitCounts
from pipeline.audit.files import BUILD, TASKS
from pipeline.audit.finding import Report, RowChecks
from pipeline.audit.samples import batches, integers, position_in
from pipeline.format.file_names import SAMPLES
from pipeline.format.schema import SPLITS

_NAME = r"\A[A-Za-z0-9_-]+\z"


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
    shard = (places.split.astype(np.int64) << 32) + places.shard
    _check_order(build, places, shard, report)
    _check_shards(build, places, shard, report)
    _check_counts(build, places, report)


def _read(build: ClaimedBuild, report: Report) -> _Places:
    parts = [_Places(np.zeros(0, np.int8), *np.zeros((4, 0), np.int32))]
    for batch in batches(build, ("key", "split", "shard", "row", "episode", "now")):
        _check_keys(batch, RowChecks(report, SAMPLES, batch.column("key")))
        split = position_in(pa.array(SPLITS), batch.column("split")).astype(np.int8)
        shard, row, now = (integers(batch, name).astype(np.int32) for name in ("shard", "row", "now"))
        episode = position_in(build.tasks.ids, batch.column("episode")).astype(np.int32)
        parts.append(_Places(split, shard, row, now, episode))
    return _Places(*map(np.concatenate, zip(*(vars(part).values() for part in parts), strict=True)))


def _check_keys(batch: pa.RecordBatch, checks: RowChecks) -> None:
    """A key is EPISODE-NNNNNN, at least six digits."""
    keys, digits = batch.column("key"), pc.utf8_lpad(pc.cast(batch.column("now"), pa.string()), width=6, padding="0")
    wants = pc.binary_join_element_wise(batch.column("episode"), digits, "-")
    differs = pc.not_equal(keys, wants).to_numpy(zero_copy_only=False)
    checks.rows("L7", differs, "the key must be {}", wants)
    unsafe = pc.invert(pc.match_substring_regex(keys, _NAME)).to_numpy(zero_copy_only=False)
    checks.rows("L10", unsafe, "a key consists of letters, digits, _ and -")


def _check_order(build: ClaimedBuild, places: _Places, shard: NDArray[np.int64], report: Report) -> None:
    """Sorted by split, shard and row; in a shard by episode, as in its task, and `now`; no sample twice."""
    checks, step = RowChecks(report, SAMPLES), np.diff(shard)
    back = (step < 0) | ((step == 0) & (np.diff(places.row.astype(np.int64)) <= 0))
    checks.rows("L7", back, lambda i: f"row {i + 1} of the file does not follow row {i} by (split, shard, row)")
    sample = (places.episode.astype(np.int64) << 32) + places.now
    unordered = (step == 0) & (np.diff(sample) <= 0)
    checks.rows(
        "L7", unordered, lambda i: f"rows {i} and {i + 1} of the file are not in the order of the plan (episode, now)"
    )
    samples, counts = np.unique(sample, return_counts=True)
    ids, episode, now = build.tasks.ids, samples >> 32, samples & 0xFFFFFFFF
    checks.rows(
        "L7",
        (counts > 1) & (samples >= 0),
        lambda i: f"{counts[i]} samples of episode {ids[int(episode[i])]} at now={now[i]}",
    )


def _check_shards(build: ClaimedBuild, places: _Places, code: NDArray[np.int64], report: Report) -> None:
    """Rows 0..n-1 for each shard; shards are those of the plan, sorted. `code`: split and shard of each row."""
    claimed = [(SPLITS.index(s.split), s.index) for s in build.shards]
    planned = set(build.tasks.tasks)
    if claimed != sorted(set(claimed)):
        report.found("L7", BUILD, "shards must be sorted by split and index, each once")
    for shard in build.shards:
        if (shard.split, shard.index) not in planned:
            report.found("L7", BUILD, f"shard {shard.split}/{shard.index} is in no task of the plan")
    if len(planned) != len(build.tasks.tasks):
        report.found("L7", TASKS, "a shard is planned twice")
    order = np.argsort(code, kind="stable")
    shards, starts = np.unique(code[order], return_index=True)
    found = dict(zip(shards.tolist(), np.split(places.row[order], starts[1:]), strict=False))
    for (split, index), shard in zip(claimed, build.shards, strict=True):
        report.check("L7")
        rows = found.pop((split << 32) + index, places.row[:0])
        if len(rows) != shard.samples or not np.array_equal(rows, np.arange(len(rows))):
            numbers = f"{rows.min()}..{rows.max()}" if len(rows) else "nothing"
            found_rows = f"the manifest has {len(rows)} rows numbered {numbers}, not 0..{shard.samples - 1}"
            report.found("L7", SAMPLES, f"shard {shard.split}/{index} lists {shard.samples} samples; {found_rows}")
    for stray in found:
        name = SPLITS[stray >> 32] if 0 <= stray >> 32 < len(SPLITS) else "an unknown split"
        report.found("L7", SAMPLES, f"rows belong to shard {name}/{stray & 0xFFFFFFFF}, which build.json does not list")


def _check_counts(build: ClaimedBuild, places: _Places, report: Report) -> None:
    for split in sorted({*build.counts, *(s.split for s in build.shards)}):
        report.check("L7")
        here = places.split == (SPLITS.index(split) if split in SPLITS else len(SPLITS))
        shards = sum(shard.split == split for shard in build.shards)
        found = (int(here.sum()), len(np.unique(places.episode[here])), shards)
        wants = astuple(build.counts.get(split, SplitCounts(0, 0, 0)))
        if found != wants:
            report.found("L7", BUILD, f"counts of {split} (samples, episodes, shards) are {wants}, found {found}")
