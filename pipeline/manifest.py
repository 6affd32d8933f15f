"""What a build says about itself, and the commit that joins inputs and targets.

The commit reads the part records shard by shard, checks that inputs and targets hold the same keys in the same order
(rule L7), writes samples.parquet, stats.json, ledger.jsonl and, last of all, build.json. A folder without build.json is
an unfinished build. croissant.json describes a finished one and is made from build.json alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.croissant import CROISSANT, croissant_bytes
from pipeline.errors import BuildError
from pipeline.parts import INPUT_COLUMNS, TARGET_COLUMNS, WORK_FOLDER, Part, part_path, read_part
from pipeline.plan import Plan, ShardTask
from pipeline.schema import SCHEMA_VERSION, Sizes, samples_schema
from pipeline.shards import atomic_file, hash_file, remove_temporary_files, write_atomic
from pipeline.sources.base import Fault
from pipeline.statistics import summarise


def commit(plan: Plan, out: Path) -> Path:
    """Join the parts of every task, write the manifest, and remove the work folder.

    Returns:
        The path of build.json.

    Raises:
        BuildError: a part is missing, inputs and targets of a shard do not hold the same keys, or there is no sample.
    """
    shards: list[dict[str, Any]] = []
    faults = list(plan.faults)
    train_samples = 0
    clear_empty: set[Path] = set()
    schema = samples_schema(plan.sizes.views, plan.sizes.steps)
    with atomic_file(out / "samples.parquet") as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for task in plan.tasks:
            parts = {kind: _require_part(out, task, kind, plan.fingerprint) for kind in ("inputs", "targets")}
            faults += [fault for part in parts.values() for fault in part.faults]
            samples = _join(out, task, plan)
            train_samples += samples.num_rows if task.split == "train" else 0
            if samples.num_rows:
                writer.write_table(samples.select(schema.names).cast(schema))
                shards.append(_shard_entry(task, samples.num_rows, parts))
            else:
                for part in parts.values():
                    (out / part.record.file).unlink(missing_ok=True)
                    clear_empty.add((out / part.record.file).parent)
    if not shards:
        raise BuildError(f"{out}: no episode gave a sample; plan shorter windows (window.steps, window.interval) anew")
    for folder in clear_empty:
        if not any(folder.iterdir()):
            folder.rmdir()
    write_atomic(out / "ledger.jsonl", ledger_bytes(faults))
    write_atomic(out / "stats.json", _json_bytes(_statistics(out, plan, train_samples)))
    _write_build(plan, out, shards)
    clean_up(out)
    return out / "build.json"


def clean_up(out: Path) -> None:
    """Remove what a finished build no longer needs: part records, and files that killed writers left behind."""
    if (out / WORK_FOLDER).exists():
        shutil.rmtree(out / WORK_FOLDER)
    remove_temporary_files(out)


def describe_build(out: Path) -> None:
    """Write croissant.json, a function of build.json, unless it is there already."""
    if not (out / CROISSANT).exists():
        write_atomic(out / CROISSANT, croissant_bytes((out / "build.json").read_bytes()))


def ledger_bytes(faults: Sequence[Fault]) -> bytes:
    """The content of ledger.jsonl: one line an episode, what was found out first, in a stable order."""
    order = {"index": 0, "inputs": 1, "targets": 2}
    first: dict[tuple[str, str], Fault] = {}
    for fault in sorted(faults, key=lambda f: (f.split, f.episode, order[f.stage])):
        first.setdefault((fault.split, fault.episode), fault)
    return b"".join(
        json.dumps(asdict(f), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        for f in first.values()
    )


@dataclass(frozen=True)
class Build:
    """A finished build. `manifest` is the content of build.json.

    remote  where its shards lie, if `path` holds a copy of the small files alone
    """

    path: Path
    manifest: Mapping[str, Any]
    sizes: Sizes
    views: tuple[str, ...]
    remote: str | None = None

    @property
    def fingerprint(self) -> str:
        return str(self.manifest["fingerprint"])

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def has_actions(self) -> bool:
        return self.sizes.action > 0


def load_build(path: Path) -> Build:
    """Read build.json.

    Raises:
        BuildError: there is none (the build is unfinished), or it is of another schema version.
    """
    try:
        manifest = json.loads((path / "build.json").read_bytes())
        version = manifest["schema_version"]
        build = Build(path, manifest, Sizes(**manifest["sizes"]), tuple(manifest["views"]))
    except FileNotFoundError as error:
        raise BuildError(
            f"{path} holds no build.json: no build, or an unfinished one; run vlajepa preprocess"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{path}/build.json cannot be read: {error}") from error
    if version != SCHEMA_VERSION:
        raise BuildError(f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}; build it again")
    return build


def _statistics(out: Path, plan: Plan, samples: int) -> dict[str, Any]:
    """State and valid actions of all train samples, from the part records, shard by shard in the order of the plan."""
    train = [task.name for task in plan.tasks if task.split == "train"]
    return {
        "split": "train",
        "samples": samples,
        "state": summarise(lambda: _values(out, train, "inputs", "state", plan.sizes.state)),
        "action": summarise(lambda: _values(out, train, "targets", "actions", plan.sizes.action)),
    }


def _values(out: Path, tasks: Sequence[str], kind: str, column: str, width: int) -> Iterator[NDArray[np.float32]]:
    """Rows float32 [N, width] of one column of the part records."""
    for task in tasks if width else ():
        values = pq.read_table(part_path(out, task, kind), columns=[column]).column(column)
        yield values.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)


def _join(out: Path, task: ShardTask, plan: Plan) -> pa.Table:
    inputs = pq.read_table(part_path(out, task.name, "inputs"))
    targets = pq.read_table(part_path(out, task.name, "targets"))
    if not inputs.column("key").equals(targets.column("key")):
        raise BuildError(
            f"shard {task.name} of {out}: inputs hold {inputs.num_rows} keys, targets {targets.num_rows}, and they "
            f"differ; delete {WORK_FOLDER}/{task.name}-*.parquet and run vlajepa preprocess again"
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


def _shard_entry(task: ShardTask, samples: int, parts: Mapping[str, Part]) -> dict[str, Any]:
    files = {kind: asdict(part.record) for kind, part in parts.items()}
    return {"split": task.split, "index": task.index, "samples": samples, **files}


def _write_build(plan: Plan, out: Path, shards: Sequence[Mapping[str, Any]]) -> None:
    names = ("samples.parquet", "stats.json", "ledger.jsonl", "plan.json", "tasks.jsonl")
    files = {n: {"bytes": (out / n).stat().st_size, "sha256": hash_file(out / n)} for n in names}
    content = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": plan.fingerprint,
        "name": plan.name,
        "leaky": plan.settings["encoder"]["mode"] == "clip",
        "settings": plan.settings,
        "sizes": asdict(plan.sizes),
        "views": plan.views,
        "fps": plan.fps,
        "counts": _counts(out, shards),
        "shards": shards,
        "files": files,
    }
    write_atomic(out / "build.json", _json_bytes(content))
    describe_build(out)


def _counts(out: Path, shards: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    table = pq.read_table(out / "samples.parquet", columns=["split", "episode"])
    grouped = table.group_by("split").aggregate([("episode", "count"), ("episode", "count_distinct")])
    return {
        row["split"]: {
            "samples": row["episode_count"],
            "episodes": row["episode_count_distinct"],
            "shards": sum(shard["split"] == row["split"] for shard in shards),
        }
        for row in grouped.sort_by("split").to_pylist()
    }


def _require_part(out: Path, task: ShardTask, kind: str, fingerprint: str) -> Part:
    part = read_part(out, task, kind, fingerprint)
    if part is None:
        raise BuildError(f"{out}: the {kind} file of shard {task.name} is not finished; run vlajepa preprocess again")
    return part


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
