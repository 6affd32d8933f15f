"""Level "shards": every shard by itself, and what the rules have to know of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.entries import FileEntry
from pipeline.audit.finding import Report
from pipeline.audit.levels.bench import Bench, Runner, named, shard_rules
from pipeline.audit.parsers.shard import Shard
from pipeline.audit.rederive.pieces import Piece
from pipeline.audit.samples import ShardRows

Advance = Callable[[Iterable[FileEntry]], None]
"""Called with the files that have been audited."""


@dataclass(frozen=True)
class ShardUnit:
    """A shard: its number in build.json, its rows of the manifest, and the pieces of it that are encoded again."""

    number: int
    rows: pa.Table
    chosen: tuple[Piece, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """A slice of a table would take all of its memory along."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.rows.schema) as writer:
            writer.write_table(self.rows)
        return _shard_unit, (self.number, sink.getvalue().to_pybytes(), self.chosen)


def _shard_unit(number: int, rows: bytes, chosen: tuple[Piece, ...]) -> ShardUnit:
    return ShardUnit(number, pa.ipc.open_stream(rows).read_all(), chosen)


@dataclass(frozen=True)
class ShardPart:
    """What a shard says. parts: what each rule returned."""

    report: Report
    parts: tuple[Any, ...]


def shard_units(build: ClaimedBuild) -> Iterator[ShardUnit]:
    """Every shard, in one pass over the manifest."""
    rows = ShardRows(build)
    for number, entry in enumerate(build.shards):
        yield ShardUnit(number, rows.take(entry.split, entry.index, entry.samples))


def audit_shards(build: ClaimedBuild, runner: Runner, report: Report, advance: Advance) -> None:
    """Run the rules on every shard."""
    rules = shard_rules(build)
    for entry, found in zip(build.shards, runner.map(check_shard, shard_units(build)), strict=True):
        report.merge(found.report)
        for rule, part in zip(rules, found.parts, strict=True):
            if part is not None:
                with named(type(rule), entry.inputs.path):
                    rule.merge(part, report)
        advance(entry.files)
    for rule in rules:
        with named(type(rule), "the build as a whole"):
            rule.finish(report)


def check_shard(bench: Bench, unit: ShardUnit) -> ShardPart:
    """The unit of this level."""
    with bench.build.present(bench.build.shards[unit.number]):
        return _check(bench, unit)


def _check(bench: Bench, unit: ShardUnit) -> ShardPart:
    """A separate function: on return the shard and its memory maps are freed, before its files are removed."""
    report, entry, parts = Report(), bench.build.shards[unit.number], []
    shard = Shard(bench.build, entry, unit.rows)
    for rule in bench.rules:
        with named(type(rule), f"{entry.inputs.path} and {entry.targets.path}"):
            parts.append(rule.check(shard, report))
    return ShardPart(report, tuple(parts))
