"""The commit: joins inputs and targets shard by shard (rule L7), writes the manifest files and, last, build.json.

A folder without build.json is an unfinished build. croissant.json is made from build.json alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.building.croissant import croissant_bytes
from pipeline.building.records import (
    INPUT_COLUMNS,
    KINDS,
    TARGET_COLUMNS,
    ShardRecord,
    find_records,
    read_record_table,
    record_name,
)
from pipeline.building.row_groups import RowGroups
from pipeline.building.statistics import summarise
from pipeline.errors import BuildError
from pipeline.format.columns import samples_schema
from pipeline.format.enums import EncoderMode, LatentDtype
from pipeline.format.file_names import CROISSANT, LOCK_FOLDER, META_FILES, SAMPLES, WORK_FOLDER
from pipeline.format.schema import SCHEMA_VERSION
from pipeline.planning.plan import Plan, ShardTask
from pipeline.shards.int8 import add_errors, relative_errors
from pipeline.sources.base import LedgerEntry
from pipeline.storage.atomic import hash_file
from pipeline.storage.store import Store


@dataclass(frozen=True)
class Provenance:
    """What build.json records about a build that was made from others: see `pipeline.derived.plan`.

    ancestors  fingerprint -> {settings, tasks: SHA-256 of its tasks.jsonl}, of every build this one goes back to
    origins    task name -> {fingerprint, index}: the build and the number under which a shard's files were written
    """

    ancestors: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


NO_PROVENANCE = Provenance()

CHUNK_ROWS = 1 << 17
"""Rows that statistics take at a time."""


def commit(
    plan: Plan, store: Store, provenance: Provenance = NO_PROVENANCE, check: Callable[[], None] = lambda: None
) -> None:
    """Join the parts of every task, write the manifest, and remove the work folder.

    Args:
        provenance: of a build that was made from others.
        check: called before anything is written that lists shards; raises when another driver has taken over.

    Raises:
        BuildError: a part is missing, inputs and targets of a shard do not hold the same keys, or there is no sample.
    """
    parts = find_records(store, plan.tasks, plan.fingerprint)
    for task in plan.tasks:
        for kind in KINDS:
            if (task.name, kind) not in parts:
                raise BuildError(
                    f"{store.where}: the {kind} file of shard {task.name} is not finished; run vlajepa preprocess again"
                )
    left_out = [*plan.left_out, *(entry for part in parts.values() for entry in part.left_out)]
    check()
    with store.folder(WORK_FOLDER) as work:
        shards = _write_samples(plan, store, work, parts)
        for shard in shards:
            if origin := provenance.origins.get(f"{shard['split']}-{shard['index']:06d}"):
                shard["origin"] = origin
        if not shards:
            raise BuildError(
                f"{store.where}: no episode gave a sample; plan shorter windows (window.steps, window.interval)"
            )
        store.write("ledger.jsonl", ledger_bytes(left_out))
        train_samples = sum(shard["samples"] for shard in shards if shard["split"] == "train")
        store.write("stats.json", json_bytes(_statistics(work, plan, train_samples)))
    check()
    _write_build(plan, store, shards, provenance)
    clean_up(store)


def _write_samples(
    plan: Plan, store: Store, work: Path, parts: Mapping[tuple[str, str], ShardRecord]
) -> list[dict[str, Any]]:
    """Write samples.parquet and remove files of shards without a sample. The entries of the shards in build.json."""
    shards: list[dict[str, Any]] = []
    schema = samples_schema(plan.sizes.views, plan.sizes.steps)
    with store.writing(SAMPLES) as path, pq.ParquetWriter(path, schema) as writer:
        rows = RowGroups(writer)
        for task in plan.tasks:
            own = {kind: parts[task.name, kind] for kind in KINDS}
            samples = _join(store, work, task, plan)
            if samples.num_rows:
                rows.add(samples.select(schema.names).cast(schema))
                shards.append(_shard_entry(task, samples.num_rows, own))
            else:
                for record in (record for part in own.values() for record in part.records):
                    store.remove(record.file)
        rows.finish()
    return shards


def clean_up(store: Store) -> None:
    """Remove what a finished build no longer needs: shard records, and files that killed writers left behind."""
    store.remove(WORK_FOLDER)
    store.remove(LOCK_FOLDER)
    store.tidy()


def describe_build(store: Store) -> None:
    """Write croissant.json, a function of build.json, unless it is there already."""
    if CROISSANT not in store.sizes():
        store.write(CROISSANT, croissant_bytes(store.read("build.json")))


def ledger_bytes(left_out: Sequence[LedgerEntry]) -> bytes:
    """The content of ledger.jsonl: one line an episode, the first finding of each, in a stable order."""
    order = {"index": 0, "filter": 0, "inputs": 1, "targets": 2, "drop": 3}
    first: dict[tuple[str, str], LedgerEntry] = {}
    for entry in sorted(left_out, key=lambda f: (f.split, f.episode, order[f.stage])):
        first.setdefault((entry.split, entry.episode), entry)
    return b"".join(
        json.dumps(asdict(f), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        for f in first.values()
    )


def _statistics(work: Path, plan: Plan, samples: int) -> dict[str, Any]:
    """State and valid actions of all train samples, from the shard records, shard by shard in the order of the plan."""
    train = [task.name for task in plan.tasks if task.split == "train"]
    return {
        "split": "train",
        "samples": samples,
        "state": summarise(lambda: _values(work, train, "inputs", "state", plan.sizes.state)),
        "action": summarise(lambda: _values(work, train, "targets", "actions", plan.sizes.action)),
    }


def _values(work: Path, tasks: Sequence[str], kind: str, column: str, width: int) -> Iterator[NDArray[np.float32]]:
    """Rows float32 [N, width] of a column of the shard records, of many at a time, as each chunk costs the same."""
    waiting: list[NDArray[np.float32]] = []
    for task in tasks if width else ():
        values = read_record_table(work / record_name(task, kind)).column(column)
        waiting.append(values.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, width))
        if sum(map(len, waiting)) >= CHUNK_ROWS:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _join(store: Store, work: Path, task: ShardTask, plan: Plan) -> pa.Table:
    inputs = read_record_table(work / record_name(task.name, "inputs"))
    targets = read_record_table(work / record_name(task.name, "targets"))
    if not inputs.column("key").equals(targets.column("key")):
        raise BuildError(
            f"shard {task.name} of {store.where}: inputs hold {inputs.num_rows} keys, targets {targets.num_rows}, and "
            f"they differ; delete {WORK_FOLDER}/{task.name}-*.arrow and run vlajepa preprocess again"
        )
    rows = inputs.num_rows
    columns = {
        "key": inputs.column("key"),
        "split": pa.repeat(task.split, rows),
        "shard": pa.repeat(pa.scalar(task.index, pa.int32()), rows),
        "row": pa.array(np.arange(rows, dtype=np.int32)),
        "source": pa.repeat(plan.name, rows),
    }
    columns |= {name: inputs.column(name) for name in INPUT_COLUMNS}
    columns |= {name: targets.column(name) for name in TARGET_COLUMNS}
    return pa.table(columns)


def _shard_entry(task: ShardTask, samples: int, parts: Mapping[str, ShardRecord]) -> dict[str, Any]:
    files: dict[str, Any] = {kind: asdict(part.record) for kind, part in parts.items()}
    if latents := parts["targets"].latents:
        files["latents"] = asdict(latents)
    if machine := parts["targets"].encoded_on:
        files["encoded_on"] = asdict(machine)
    if errors := parts["targets"].errors:
        files["latents_error"] = errors
    return {"split": task.split, "index": task.index, "samples": samples, **files}


def _latents(plan: Plan, shards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How latents are stored, and the relative error of each step 0..K over all shards: null for float16 ones."""
    dtype = plan.settings.latents.dtype
    if dtype == LatentDtype.FLOAT16:
        return {"dtype": dtype, "relative_error": None}
    return {"dtype": dtype, "relative_error": relative_errors(add_errors([s["latents_error"] for s in shards]))}


def _write_build(plan: Plan, store: Store, shards: Sequence[Mapping[str, Any]], provenance: Provenance) -> None:
    content = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": plan.fingerprint,
        "name": plan.name,
        "leaky": plan.settings.encoder.mode == EncoderMode.CLIP,
        "settings": plan.content,
        "sizes": asdict(plan.sizes),
        "latents": _latents(plan, shards),
        "views": plan.views,
        "fps": plan.fps,
        "counts": _counts(store, shards),
        "shards": shards,
        "files": {name: _listed(store, name) for name in META_FILES},
    }
    if provenance.ancestors:
        content["ancestors"] = provenance.ancestors
    store.write("build.json", json_bytes(content))
    describe_build(store)


def _listed(store: Store, name: str) -> dict[str, Any]:
    """Size and SHA-256 of a file as it was stored."""
    with store.reading(name) as path:
        return {"bytes": path.stat().st_size, "sha256": hash_file(path)}


def _counts(store: Store, shards: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Samples, episodes and shards of each split. The samples are never in memory at once."""
    episodes: dict[str, set[str]] = {}
    with (
        store.reading(SAMPLES) as path,
        pq.ParquetFile(path, read_dictionary=["split", "episode"], pre_buffer=False) as file,
    ):
        for batch in file.iter_batches(columns=["split", "episode"]):
            grouped = pa.Table.from_batches([batch]).group_by(["split", "episode"]).aggregate([])
            for split, episode in zip(
                *(grouped.column(name).to_pylist() for name in grouped.column_names), strict=True
            ):
                episodes.setdefault(split, set()).add(episode)
    return {
        split: {
            "samples": sum(shard["samples"] for shard in shards if shard["split"] == split),
            "episodes": len(episodes[split]),
            "shards": sum(shard["split"] == split for shard in shards),
        }
        for split in sorted(episodes)
    }


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """A document of a build: sorted keys, indented, one newline at the end."""
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
