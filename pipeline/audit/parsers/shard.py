"""One shard: manifest rows, tar and Arrow files, each parsed once and read through memory maps."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.canonical.expansion import record_batches
from pipeline.audit.entries import FileEntry, Origin, ShardEntry
from pipeline.audit.files import is_regular
from pipeline.audit.finding import Problem, Report
from pipeline.audit.parsers.key_json import Expected, check_document
from pipeline.audit.parsers.latents import Tubelets, tensor
from pipeline.audit.parsers.tar import Member, Tar, parse_tar
from pipeline.audit.samples import UNREADABLE, check_batch
from pipeline.format.columns import latents_schema, targets_schema
from pipeline.format.file_names import json_member, latents_file, targets_file
from pipeline.format.schema import SCHEMA_VERSION

Part = TypeVar("Part")


class ShardRule(Generic[Part]):
    """A rule that checks every shard once. Shards are checked in any order and by several processes; what the rule
    has to know of all of them comes together in one of these, in the order of build.json."""

    def __init__(self, build: ClaimedBuild) -> None:
        self.build = build

    def check(self, shard: Shard, report: Report) -> Part | None:
        """Check one shard. Whatever its bytes, the result is findings, never an exception.

        Returns:
            What `merge` has to know of the shard; can be pickled. None: nothing.
        """
        raise NotImplementedError

    def merge(self, part: Part, report: Report) -> None:
        """Add what `check` returned, shard by shard. `report` holds the findings up to this shard's."""

    def finish(self, report: Report) -> None:
        """Report what needs all shards. By default nothing."""


@dataclass(frozen=True)
class TargetRows:
    """A record batch as arrays; B rows, the first of which is row `start` of the shard. See schema.Targets.

    places  int64 [B, K+1], rows of the latents file that these latents were gathered from; None in other modes
    """

    start: int
    keys: list[str]
    context: NDArray[Any]
    latents: NDArray[Any]
    latent_mask: NDArray[np.bool_]
    actions: NDArray[np.float32] | None
    action_mask: NDArray[np.bool_] | None
    context_scale: NDArray[np.float32] | None = None
    latents_scale: NDArray[np.float32] | None = None
    places: NDArray[np.int64] | None = None


class Shard:
    """Inputs, targets and manifest rows of one shard. `rows` may have fewer or more rows than the files."""

    def __init__(self, build: ClaimedBuild, entry: ShardEntry, rows: pa.Table) -> None:
        self.build = build
        self.entry = entry
        self.rows = pa.RecordBatch.from_arrays([column.combine_chunks() for column in rows.columns], schema=rows.schema)
        self.keys: list[str] = rows.column("key").to_pylist()

    def manifest(self, rows: TargetRows) -> pa.RecordBatch | None:
        """The manifest's rows of a batch of targets; None when it has fewer."""
        part = self.rows.slice(rows.start, len(rows.keys))
        return part if part.num_rows == len(rows.keys) else None

    @cached_property
    def inputs(self) -> memoryview | None:
        """Bytes of the tar; None when there is no such regular file."""
        path = self.build.root / self.entry.inputs.path
        if not is_regular(path):
            return None
        with open(path, "rb") as file:
            if path.stat().st_size == 0:  # cannot be mapped
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    @cached_property
    def tar(self) -> Tar:
        """The parsed tar; empty when the file is missing."""
        return Tar() if self.inputs is None else parse_tar(self.inputs)

    @cached_property
    def members(self) -> dict[str, Member]:
        """Members by name; of two with one name the first."""
        return {member.name: member for member in reversed(self.tar.members)}

    def payload(self, member: Member) -> bytes:
        """The bytes of a member."""
        assert self.inputs is not None, "members come from these bytes"
        return bytes(self.inputs[member.offset : member.offset + member.size])

    @cached_property
    def documents(self) -> list[tuple[dict[str, Any] | None, tuple[Problem, ...]]]:
        """KEY.json of every manifest row with its problems; None where missing or malformed."""
        build, tasks, views = self.build, self.build.tasks, list(self.build.views)
        instructions = tasks.instruction.take(pc.index_in(self.rows.column("episode"), value_set=tasks.ids)).to_pylist()
        result: list[tuple[dict[str, Any] | None, tuple[Problem, ...]]] = []
        rows = self.rows.select(["key", "episode", "now"]).to_pylist()
        for row, own in zip(rows, instructions, strict=True):
            member = self.members.get(json_member(row["key"]))
            if member is None:
                result.append((None, ()))
            else:
                expected = Expected(**row, source=build.name, views=views, instruction=own, state=build.sizes.state)
                result.append(check_document(self.payload(member), expected))
        return result

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns and metadata that the targets file must have."""
        build, metadata = self.build, self._metadata(targets_file)
        return targets_schema(build.sizes, metadata, build.latent_dtype, tubelets=build.shares_latents)

    @cached_property
    def latents_schema(self) -> pa.Schema:
        """The same of the latents file."""
        return latents_schema(self.build.sizes, self._metadata(latents_file), self.build.latent_dtype)

    @cached_property
    def opened(self) -> tuple[pa.ipc.RecordBatchFileReader | None, tuple[Problem, ...]]:
        """A reader of the Arrow file when its schema is the right one, and what is wrong with it."""
        return self._arrow(self.entry.targets.path, self.schema)

    @cached_property
    def opened_latents(self) -> tuple[pa.ipc.RecordBatchFileReader | None, tuple[Problem, ...]]:
        """The same of the latents file; nothing in modes that have none."""
        return (None, ()) if self.entry.latents is None else self._arrow(self.entry.latents.path, self.latents_schema)

    @cached_property
    def tubelets(self) -> Tubelets | None:
        """The rows of the latents file; None when there is none, or one with other columns."""
        reader = self.opened_latents[0]
        if reader is None or self.entry.latents is None:
            return None
        return Tubelets(list(record_batches(reader, self._size(self.entry.latents))), reader.schema)

    def _size(self, entry: FileEntry) -> int:
        """Bytes of a file as it is."""
        return (self.build.root / entry.path).stat().st_size

    def _metadata(self, name: Callable[[str, int], str]) -> dict[str, str]:
        written = self.entry.origin or Origin(self.build.fingerprint, self.entry.index)
        shard = name(self.entry.split, written.index)
        return {"fingerprint": written.fingerprint, "schema_version": str(SCHEMA_VERSION), "shard": shard}

    def _arrow(self, file: str, expected: pa.Schema) -> tuple[pa.ipc.RecordBatchFileReader | None, tuple[Problem, ...]]:
        path = self.build.root / file
        if not is_regular(path):
            return None, ()  # reported with the hashes
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)).read_buffer())
            problems = _schema_problems(reader.schema, expected)
        except UNREADABLE as error:
            return None, (Problem("L7", f"is no readable Arrow file: {error}"),)
        return (reader if reader.schema.equals(expected) else None), problems

    def targets(self) -> Iterator[TargetRows]:
        """Record batches of the Arrow file in order, shared latents gathered; none when it cannot be read.

        Raises:
            UNREADABLE: a batch is corrupt or holds nulls.
        """
        reader = self.opened[0]
        tubelets = self.tubelets
        if reader is None or (self.build.shares_latents and tubelets is None):
            return
        start = 0
        for batch in record_batches(reader, self._size(self.entry.targets)):
            check_batch(batch)
            yield _target_rows(batch, start, tubelets)
            start += batch.num_rows


def _target_rows(batch: pa.RecordBatch, start: int, tubelets: Tubelets | None) -> TargetRows:
    has_actions = "actions" in batch.schema.names
    return TargetRows(
        start=start,
        keys=batch.column("key").to_pylist(),
        latent_mask=_mask(batch.column("latent_mask")),
        actions=tensor(batch.column("actions")) if has_actions else None,
        action_mask=_mask(batch.column("action_mask")) if has_actions else None,
        **_latents(batch, tubelets),
    )


def _latents(batch: pa.RecordBatch, tubelets: Tubelets | None) -> dict[str, Any]:
    if tubelets is None:
        names = ("context", "latents", "context_scale", "latents_scale")
        return {name: tensor(batch.column(name)) if name in batch.schema.names else None for name in names}
    places = tubelet_places(batch)
    found: dict[str, Any] = {"places": places}
    for name, values in tubelets.gather(places).items():
        found |= {f"context{name}": values[:, 0], f"latents{name}": values[:, 1:]}
    return found


def tubelet_places(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Rows of the latents file that each sample refers to, int64 [B, K+1]."""
    steps = batch.column("latent_rows")
    later = steps.flatten().to_numpy().reshape(len(steps), steps.type.list_size)
    return np.concatenate([batch.column("context_row").to_numpy()[:, None], later], axis=1).astype(np.int64)


def _mask(column: pa.FixedSizeListArray) -> NDArray[np.bool_]:
    return column.flatten().to_numpy(zero_copy_only=False).astype(bool).reshape(len(column), column.type.list_size)


def _schema_problems(found: pa.Schema, expected: pa.Schema) -> tuple[Problem, ...]:
    problems = []
    extra = [name for name in found.names if name not in expected.names or found.names.count(name) > 1]
    if extra:
        problems.append(Problem("L10", f"has columns that the format does not know: {', '.join(extra)}"))
    for field in expected:
        here = [f for f in found if f.name == field.name]
        if len(here) != 1 or not here[0].equals(field):
            has = ", ".join(str(f.type) for f in here) or "nothing"
            problems.append(Problem("L7", f"column {field.name} must be {field.type} without nulls, found {has}"))
    if not problems and not found.equals(expected):
        problems.append(Problem("L7", f"the columns are in the order {', '.join(found.names)}"))
    if any(field.metadata for field in found):
        problems.append(Problem("L10", "a column carries metadata"))
    return (*problems, *_metadata_problems(found.metadata or {}, expected.metadata))


def _metadata_problems(found: dict[bytes, bytes], expected: dict[bytes, bytes]) -> list[Problem]:
    problems = []
    for name in sorted(found.keys() | expected.keys()):
        if name not in expected:
            problems.append(Problem("L10", f"the schema carries unknown metadata {name!r:.40}"))
        elif found.get(name) != expected[name]:
            has, wants = found.get(name, b"")[:80].decode(errors="replace"), expected[name].decode()
            problems.append(Problem("L7", f"schema metadata {name.decode()} is {has!r}, must be {wants!r}"))
    return problems
