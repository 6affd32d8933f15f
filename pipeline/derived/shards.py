"""Shards of a derived build, from the files of the builds it is made from: linked under new names, or written anew
without the samples of dropped episodes. Every payload keeps its bytes; neither the raw data nor the encoder is needed.

Each shard leaves the shard records that a job would have left, so that resuming and the commit are those of any build.
Letters: R rows, S state width, T actions in a chunk, A action width.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.building.commit import Provenance
from pipeline.building.records import (
    INPUT_COLUMNS,
    KINDS,
    TARGET_COLUMNS,
    ShardRecord,
    record_schema,
    write_record_table,
)
from pipeline.derived.files import (
    NewShard,
    ShardFile,
    empty_file,
    kept_batches,
    kept_rows,
    place_files,
    read_span,
    rewrite_files,
)
from pipeline.derived.plan import FinishedBuild
from pipeline.errors import BuildError, CorruptError
from pipeline.format.file_names import inputs_file, latents_file, targets_file
from pipeline.format.machine import Machine
from pipeline.planning.episode_filter import STAGE as FILTER
from pipeline.planning.plan import Plan
from pipeline.planning.tasks import ShardTask
from pipeline.shards.int8 import ErrorSums
from pipeline.sources.base import LedgerEntry
from pipeline.storage.atomic import FileRecord
from pipeline.storage.store import Store

_NAMES = {"inputs": inputs_file, "targets": targets_file, "latents": latents_file}


@dataclass(frozen=True)
class ShardCopy:
    """One shard of a derived build: its task, and the shard of a finished build that it is made from.

    index    number of the old shard in its split
    dropped  episodes that the old shard may hold and the new one does not
    reason   why they were dropped
    """

    task: ShardTask
    finished: FinishedBuild
    index: int
    dropped: frozenset[str] = frozenset()
    reason: str = ""

    @cached_property
    def entry(self) -> Mapping[str, Any] | None:
        """The old shard in its build.json; None when no episode of the task gave a sample."""
        return self.finished.entries.get(f"{self.task.split}-{self.index:06d}")

    @cached_property
    def files(self) -> dict[str, ShardFile]:
        """Files of the old shard by kind: inputs, targets and, in encoder mode `tubelet`, latents."""
        listed = {kind: value for kind, value in (self.entry or {}).items() if kind in _NAMES}
        return {
            kind: ShardFile(self.finished.path / file["file"], self.name(kind), file["bytes"], file["sha256"])
            for kind, file in listed.items()
        }

    def name(self, kind: str) -> str:
        """Name of a new file."""
        return _NAMES[kind](self.task.split, self.task.index)

    @property
    def bytes(self) -> int:
        """Of the old files."""
        return sum(file.bytes for file in self.files.values())

    def origin(self) -> dict[str, Any] | None:
        """Where its files were written, when they are those of the old shard."""
        if self.entry is None or self.dropped:
            return None
        own = {"fingerprint": self.finished.build.fingerprint, "index": self.index}
        return dict(self.entry.get("origin", own))

    def left_out(self, rows: pa.Table) -> tuple[LedgerEntry, ...]:
        """Lines of the ledger: those of the old build, and the episodes dropped now (`rows`: the old samples)."""
        own = {ref.id for ref in self.task.episodes}
        kept = [
            entry for entry in self.finished.ledger if entry.episode in own and entry.stage not in ("index", FILTER)
        ]
        episodes = rows.column("episode").to_pylist()
        split = self.task.split
        return (
            *kept,
            *(LedgerEntry(e, split, "drop", "dropped", self.reason, episodes.count(e)) for e in sorted(self.dropped)),
        )


def shard_copies(plan: Plan, builds: Sequence[FinishedBuild]) -> list[ShardCopy]:
    """The shards of a plan by `drop_plan` or `join_plan`, from the builds it was derived from."""
    derived = plan.content["derived"]
    episodes = frozenset(derived.get("episodes", ()))
    rest = {(task.split, task.index): task for task in plan.tasks}
    used = dict.fromkeys(("train", "val"), 0)
    pieces = []
    for finished in builds:
        for old in finished.plan.tasks:
            task = rest[old.split, used[old.split]]
            used[old.split] += 1
            own = frozenset(ref.id for ref in task.episodes) & episodes
            pieces.append(ShardCopy(task, finished, old.index, own, derived.get("reason", "")))
    return pieces


def provenance_of(pieces: Sequence[ShardCopy]) -> Provenance:
    """The provenance of a derived build, as build.json records it."""
    builds = {id(piece.finished): piece.finished for piece in pieces}
    ancestors: dict[str, Any] = {}
    for finished in builds.values():
        ancestors |= finished.lineage()
    origins = {piece.task.name: origin for piece in pieces if (origin := piece.origin())}
    return Provenance(ancestors, origins)


class SampleRows:
    """Rows of samples.parquet by shard, read on demand: of 10 million samples only one row group's are in memory."""

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path, pre_buffer=False)  # which keeps all that was read
        self._runs: dict[tuple[str, int], list[tuple[int, int, int]]] = {}
        self._last: tuple[int, pa.Table] | None = None
        for group in range(self._file.num_row_groups):
            table = self._file.read_row_group(group, columns=["split", "shard"])
            places = list(zip(table.column("split").to_pylist(), table.column("shard").to_pylist(), strict=True))
            for place, numbers in itertools.groupby(range(len(places)), key=places.__getitem__):
                first, *rest = numbers
                self._runs.setdefault(place, []).append((group, first, 1 + len(rest)))

    def of(self, split: str, index: int) -> pa.Table:
        """The rows of a shard, in order; none when it is not listed."""
        runs = self._runs.get((split, index), [])
        parts = [self._group(group).slice(first, count) for group, first, count in runs]
        return pa.concat_tables(parts) if parts else self._file.schema_arrow.empty_table()

    def _group(self, group: int) -> pa.Table:
        """A row group. The last one is kept: it holds the rows of many shards, which are asked for in order."""
        if self._last is None or self._last[0] != group:
            self._last = group, self._file.read_row_group(group)
        return self._last[1]


def make_shard(piece: ShardCopy, plan: Plan, store: Store, rows: pa.Table, link: bool) -> bool | None:
    """Put the files of one shard into place and record them.

    Args:
        rows: those of the old shard in its build's samples.parquet.
        link: hard-link files that do not change, where the file system allows it.

    Returns:
        Whether all files are links, or whether some had to be written; None when there is nothing in the shard.

    Raises:
        CorruptError: a file is not the one that the old build.json lists.
        BuildError: the old manifest does not fit itself.
    """
    if rows.num_rows != (piece.entry["samples"] if piece.entry else 0):
        raise BuildError(f"{piece.finished.path}: samples.parquet and build.json disagree on shard {piece.task.name}")
    keep = kept_rows(rows, piece.dropped)
    kept = placed = rows.filter(pa.array(keep, pa.bool_()))
    linked = None
    if kept.num_rows == 0:
        records = {kind: empty_file(store, piece.name(kind)) for kind in KINDS}
    elif piece.dropped:
        groups = [[ref.id for ref in group] for group in piece.task.groups]
        new = NewShard(plan.fingerprint, plan.views, groups, plan.settings.shards.group_samples)
        records, placed = rewrite_files(piece.files, store, new, rows, piece.dropped)
        linked = False
    else:
        records, linked = place_files(piece.files, store, link)
    states = actions = pa.array([[]] * kept.num_rows, pa.list_(pa.float32()))
    if piece.task.split == "train" and kept.num_rows:  # statistics are those of the train split
        states = _states(piece.files["inputs"].source, kept, plan.sizes.state) if plan.sizes.state else states
        actions = _actions(piece.files["targets"].source, keep, plan.sizes.action) if plan.sizes.action else actions
    _record(piece, plan, store, records, (rows, placed), {"inputs": states, "targets": actions})
    return linked


def _record(
    piece: ShardCopy,
    plan: Plan,
    store: Store,
    records: Mapping[str, FileRecord],
    rows: tuple[pa.Table, pa.Table],
    values: Mapping[str, pa.Array],
) -> None:
    """Write the shard records of a shard. rows: those of the old one, and those of the new one."""
    old, new = rows
    for kind, names, extra in (("inputs", INPUT_COLUMNS, "state"), ("targets", TARGET_COLUMNS, "actions")):
        table = new.select(["key", *names]).append_column(extra, values[kind]).cast(record_schema(kind))
        part = ShardRecord(piece.task.name, kind, plan.fingerprint, records[kind], (), (), table.num_rows, 0.0, 0.0)
        if kind == "inputs":
            part = replace(part, left_out=piece.left_out(old))
        else:
            part = replace(part, errors=_errors(piece, new.num_rows), latents=records.get("latents"))
            part = replace(part, encoded_on=_machine(piece))
        write_record_table(store, part, table)


def _errors(piece: ShardCopy, rows: int) -> ErrorSums:
    """Error of int8 latents. Of a rewritten shard a share of the old one's: the latents before it no longer exist."""
    if piece.entry is None or not rows:
        return ()
    share = rows / piece.entry["samples"]
    sums = piece.entry.get("latents_error", ())
    return tuple((float(f"{error * share:.9g}"), float(f"{square * share:.9g}")) for error, square in sums)


def _machine(piece: ShardCopy) -> Machine | None:
    """What the old shard was encoded on; None when there is none."""
    return None if piece.entry is None else Machine(**piece.entry["encoded_on"])


def _states(source: Path, kept: pa.Table, width: int) -> pa.Array:
    """The state of each row as KEY.json holds it: lists of S float32."""
    places = zip(kept.column("json_offset").to_pylist(), kept.column("json_size").to_pylist(), strict=True)
    try:
        with open(source, "rb") as file:
            values = np.array([json.loads(read_span(file, *place))["state"] for place in places], np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{source}: the states cannot be read ({error}); run vlajepa audit") from error
    if values.shape != (kept.num_rows, width):
        raise CorruptError(f"{source}: states have the shape {values.shape}, expected {(kept.num_rows, width)}")
    return pa.array(list(values.astype(np.float32)), pa.list_(pa.float32()))


def _actions(source: Path, keep: NDArray[np.bool_], width: int) -> pa.Array:
    """The valid actions of each kept row, flat: lists of float32."""
    found: list[NDArray[np.float32]] = []
    try:
        with pa.memory_map(str(source)) as mapped:
            for batch, rows in kept_batches(pa.ipc.open_file(mapped), keep):
                columns = [batch.column(name).take(rows) for name in ("actions", "action_mask")]
                values = columns[0].storage.flatten().to_numpy().reshape(len(rows), -1, width)
                masks = columns[1].flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
                found += [actions[mask].reshape(-1) for actions, mask in zip(values, masks, strict=True)]
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise CorruptError(f"{source}: the actions cannot be read ({error}); run vlajepa audit") from error
    if len(found) != keep.sum():
        raise CorruptError(f"{source} holds {len(found)} of the {keep.sum()} rows of samples.parquet")
    return pa.array(found, pa.list_(pa.float32()))
