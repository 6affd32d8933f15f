"""The driver's loop over the shards of a plan, independent of what runs the tasks.

A shard has two files, made by two jobs. The driver hands out whole shards, counts losses, compares what the two jobs
had to leave out, and has a file made again when they differ. It keeps a bounded number of shards in work, so neither
its memory nor the number of outstanding tasks grows with the data. The same loop runs on Ray (`ray_pool.RayPool`)
and on simulated clusters.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.building.records import KINDS, ShardRecord
from pipeline.errors import RunError
from pipeline.planning.plan import ShardTask

LOSSES = 12
"""How often one file may be lost to dying workers and nodes before the run gives up on it."""


@dataclass(frozen=True)
class Finished:
    """A file is in its place. node: where it was made; encode_s: seconds that its encoder was busy with it."""

    ticket: Hashable
    part: ShardRecord
    node: str
    encode_s: float = 0.0


@dataclass(frozen=True)
class Lost:
    """A worker or node died with its task; nothing is wrong with the task."""

    ticket: Hashable
    why: str


class Pool(Protocol):
    """What runs the tasks."""

    def slots(self) -> int:
        """Targets jobs that can start now: free places at encoders that are there."""
        ...

    def limit(self) -> int:
        """Shards that may be in work at the same time, at least 1."""
        ...

    def submit(self, kind: str, task: ShardTask, excluded: frozenset[str]) -> Hashable:
        """Start one file ("inputs" or "targets"); a ticket for it. Targets need a free slot."""
        ...

    def wait(self) -> Collection[Finished | Lost]:
        """What ended since the last call; waits a while (about a second) if nothing did.

        Raises:
            RunError: a task failed for another reason than a bad episode or a lost worker.
        """
        ...


def run_shards(
    tasks: Collection[ShardTask], finished: Mapping[tuple[str, str], ShardRecord], pool: Pool
) -> Iterator[Finished]:
    """Finish every task, yielding each shard record as its file appears.

    Args:
        finished: records of files that are there already, by task name and kind.

    A shard is finished when both of its files lack the same episodes; until then the file that holds an episode the
    other could not read is made again without it.

    Raises:
        RunError: see `Pool.wait`; or one file was lost `LOSSES` times.
    """
    waiting = deque(tasks)
    board = _Board(pool)
    while waiting or board.shards:
        while waiting and len(board.shards) < max(1, pool.limit()):
            task = waiting.popleft()
            board.add(task, {kind: part for kind in KINDS if (part := finished.get((task.name, kind)))})
        board.start()
        if board.running:
            for event in pool.wait():
                if isinstance(event, Finished):
                    yield event
                board.take(event)
        elif board.shards:
            pool.wait()  # for encoders


@dataclass
class _Shard:
    """A shard in work. wanted: files to be started, with the episodes to leave out."""

    task: ShardTask
    parts: dict[str, ShardRecord]
    wanted: dict[str, frozenset[str]] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)


class _Board:
    """The shards in work and the tickets of their files."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.shards: dict[str, _Shard] = {}
        self.running: dict[Hashable, tuple[str, str, frozenset[str]]] = {}
        self._losses: Counter[tuple[str, str]] = Counter()

    def add(self, task: ShardTask, parts: dict[str, ShardRecord]) -> None:
        shard = _Shard(task, parts, {kind: frozenset[str]() for kind in KINDS if kind not in parts})
        self.shards[task.name] = shard
        self._reconcile(shard)

    def start(self) -> None:
        """Start what is wanted: inputs at once, targets while there are slots, in the order of the plan."""
        for shard in self.shards.values():
            for kind in KINDS:
                if kind in shard.wanted and (kind == "inputs" or self._pool.slots() > 0):
                    excluded = shard.wanted.pop(kind)
                    ticket = self._pool.submit(kind, shard.task, excluded)
                    self.running[ticket] = (shard.task.name, kind, excluded)
                    shard.running.add(kind)

    def take(self, event: Finished | Lost) -> None:
        """Note how a file ended."""
        name, kind, excluded = self.running.pop(event.ticket)
        shard = self.shards[name]
        shard.running.discard(kind)
        if isinstance(event, Lost):
            self._count_loss(name, kind, event.why)
            shard.wanted[kind] = excluded
            return
        shard.parts[kind] = event.part
        self._reconcile(shard)

    def _count_loss(self, name: str, kind: str, why: str) -> None:
        self._losses[name, kind] += 1
        if self._losses[name, kind] >= LOSSES:
            raise RunError(
                f"shard {name}: its {kind} job was lost {LOSSES} times, the last time because {why}; look at the "
                "memory of the nodes (cluster.ahead_mb, shards.group_samples) and at Ray's logs, then run the same "
                "command again"
            )

    def _reconcile(self, shard: _Shard) -> None:
        """Once both files are there, make those again that hold an episode the other lacks; else the shard is done."""
        if len(shard.parts) < len(KINDS):
            return
        faulty = {kind: frozenset(f.episode for f in part.left_out) for kind, part in shard.parts.items()}
        everything = frozenset[str]().union(*faulty.values())
        for kind, own in faulty.items():
            if shard.parts[kind].missing() != everything:
                del shard.parts[kind]
                shard.wanted[kind] = everything - own
        if not shard.wanted and not shard.running:
            del self.shards[shard.task.name]
