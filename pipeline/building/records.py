"""Shard records: one Arrow file in `work/` for each finished shard file, all that resuming and the commit read.

A commit reads hundreds of thousands of these small files: Arrow's take a tenth of a millisecond each, Parquet's one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import BuildError
from pipeline.format.columns import samples_schema
from pipeline.format.file_names import WORK_FOLDER
from pipeline.format.json.strict_json import parse
from pipeline.format.json.typed_json import from_json
from pipeline.format.machine import Machine
from pipeline.format.text.printable import printable
from pipeline.planning.plan import ShardTask
from pipeline.samples.windows import Window
from pipeline.shards.inputs_tar import InputPlacement
from pipeline.shards.int8 import ErrorSums
from pipeline.sources.base import LedgerEntry
from pipeline.storage.atomic import FileRecord
from pipeline.storage.store import Store

KINDS = ("inputs", "targets")


@dataclass(frozen=True)
class InputsRow:
    """What the inputs job knows of a sample. state is float32 [S] or None."""

    key: str
    episode: str
    window: Window
    now_s: float
    state: NDArray[np.float32] | None
    placement: InputPlacement

    def columns(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "episode": self.episode,
            "num_frames": self.window.num_frames,
            "interval": self.window.interval,
            "now": self.window.now,
            "state_frame": -1 if self.state is None else self.window.now,
            "now_s": self.now_s,
            **vars(self.placement),
            "state": [] if self.state is None else self.state.tolist(),
        }


@dataclass(frozen=True)
class TargetsRow:
    """What the targets job knows of a sample. actions holds the valid actions of the chunk, flat."""

    key: str
    window: Window
    supports: tuple[tuple[int, ...], ...]
    support_end_s: tuple[float, ...]
    sha256: bytes = b""
    actions: tuple[float, ...] = ()

    @property
    def episode(self) -> str:
        """Id of its episode, as the key has it."""
        return self.key.rsplit("-", 1)[0]

    def finished(self, sha256: bytes, actions: NDArray[np.float32] | None, row: int) -> TargetsRow:
        """The row after encoding: with its digest and its valid actions (of float32 [W, T, A])."""
        valid = () if actions is None else tuple(actions[row, : self.window.action_count].reshape(-1).tolist())
        return replace(self, sha256=sha256, actions=valid)

    def columns(self) -> dict[str, Any]:
        has_actions = self.window.action_count > 0
        return {
            "key": self.key,
            "supports": self.supports,
            "support_end_s": self.support_end_s,
            "action_start": self.window.now if has_actions else -1,
            "action_count": self.window.action_count,
            "targets_sha256": self.sha256,
            "actions": self.actions,
        }


TARGET_COLUMNS = ("supports", "support_end_s", "action_start", "action_count", "targets_sha256")
PLACE_COLUMNS = ("key", "split", "shard", "row", "source")
INPUT_COLUMNS = tuple(n for n in samples_schema(0, 0).names if n not in (*TARGET_COLUMNS, *PLACE_COLUMNS))
"""Columns of samples.parquet, by who knows them: the targets job, the commit, the inputs job."""


@dataclass(frozen=True)
class ShardRecord:
    """The record of one finished shard file.

    kind            "inputs" or "targets"
    left_out        episodes this job had to leave out
    rows            samples in the file
    excluded        episodes it had to leave out, because the other job did
    decode_seconds  processor time: reading and resizing frames (inputs: all of the job)
    encode_seconds  time of the encoder
    latents         the file of shared latents beside a targets file (encoder mode "tubelet")
    errors          what int8 latents lost, for each step 0..K; empty for float16 ones and for inputs
    encoded_on      what the encoder ran on; None for inputs
    """

    task: str
    kind: str
    fingerprint: str
    record: FileRecord
    left_out: tuple[LedgerEntry, ...]
    excluded: tuple[str, ...]
    rows: int
    decode_seconds: float
    encode_seconds: float
    errors: ErrorSums = ()
    latents: FileRecord | None = None
    encoded_on: Machine | None = None

    @property
    def records(self) -> tuple[FileRecord, ...]:
        """Every file that the job wrote."""
        return (self.record,) if self.latents is None else (self.record, self.latents)

    @property
    def bytes(self) -> int:
        """Of every file that the job wrote."""
        return sum(record.bytes for record in self.records)

    def missing(self) -> frozenset[str]:
        """Episodes of the task that are not in the file."""
        return frozenset(entry.episode for entry in self.left_out) | frozenset(self.excluded)


def write_record(store: Store, shard: ShardRecord, rows: Sequence[InputsRow] | Sequence[TargetsRow]) -> None:
    """Write a shard record: an Arrow file with the rows, and the record in its metadata."""
    write_record_table(
        store, shard, pa.Table.from_pylist([row.columns() for row in rows], schema=record_schema(shard.kind))
    )


def write_record_table(store: Store, shard: ShardRecord, rows: pa.Table) -> None:
    """Write a shard record from rows that have the columns of `record_schema`."""
    table = rows.replace_schema_metadata({"shard": json.dumps(asdict(shard))})
    name = f"{WORK_FOLDER}/{record_name(shard.task, shard.kind)}"
    with store.writing(name) as path, pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table.combine_chunks())


def find_records(store: Store, tasks: Iterable[ShardTask], fingerprint: str) -> dict[tuple[str, str], ShardRecord]:
    """Records of the finished files by task name and kind.

    A record one of whose files is gone or has another size does not count as finished.
    """
    sizes, found = store.sizes(), {}
    with store.folder(WORK_FOLDER) as work:
        for task in tasks:
            for kind in KINDS:
                path = work / record_name(task.name, kind)
                shard = read_record(path) if f"{WORK_FOLDER}/{path.name}" in sizes else None
                if shard and shard.fingerprint == fingerprint and _whole(shard, sizes):
                    found[task.name, kind] = shard
    return found


def read_record_table(path: Path) -> pa.Table:
    """The rows of a shard record."""
    with _reading(path) as reader:
        table = reader.read_all()
        table.validate(full=True)
    return table


def read_record(path: Path) -> ShardRecord:
    """The record in the metadata of its file. Raises BuildError when it holds none."""
    with _reading(path) as reader:
        return from_json(ShardRecord, parse((reader.schema.metadata or {})[b"shard"]))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[pa.ipc.RecordBatchFileReader]:
    """Raises BuildError when what is read is no record."""
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
            yield reader
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        fix = "delete it and run the same command again, which makes this shard anew"
        raise BuildError(f"{path} is no record of a shard ({printable(error)}); {fix}") from error


def _whole(shard: ShardRecord, sizes: Mapping[str, int]) -> bool:
    return all(sizes.get(record.file) == record.bytes for record in shard.records)


def record_name(task: str, kind: str) -> str:
    """Name, in the work folder, of the record of a task's "inputs" or "targets" file."""
    return f"{task}-{kind}.arrow"


def record_schema(kind: str) -> pa.Schema:
    """Columns of a shard record of "inputs" or "targets"."""
    known = {field.name: field for field in samples_schema(0, 0)}
    columns = ["key", *(INPUT_COLUMNS if kind == "inputs" else TARGET_COLUMNS)]
    lists = {"supports": pa.list_(pa.list_(pa.int32())), "support_end_s": pa.list_(pa.float64())}
    lists |= {"image_offset": pa.list_(pa.int64()), "image_size": pa.list_(pa.int32())}
    fields = [pa.field(name, lists.get(name, known[name].type)) for name in columns]
    return pa.schema([*fields, pa.field("state" if kind == "inputs" else "actions", pa.list_(pa.float32()))])
