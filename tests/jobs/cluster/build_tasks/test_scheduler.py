"""The driver's loop: how the two files of a shard are brought together, and what it does when tasks are lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import pytest

from jobs.cluster.build_tasks.scheduler import LOSSES, Finished, Lost, run_shards
from pipeline.building.records import ShardRecord
from pipeline.errors import RunError
from pipeline.planning.plan import ShardTask
from pipeline.sources.base import LedgerEntry
from pipeline.storage.atomic import FileRecord


def part(task: str, kind: str, left_out: str = "", excluded: str = "") -> ShardRecord:
    """A record whose faulty and excluded episodes are the letters given."""
    record = FileRecord(f"{task}-{kind}", 0, "")
    lost = tuple(LedgerEntry(episode, "train", kind, "undecodable", "") for episode in left_out)
    return ShardRecord(task, kind, "print", record, lost, tuple(excluded), 0, 0.0, 0.0)


@dataclass(frozen=True)
class Ticket:
    number: int
    task: str
    kind: str
    excluded: str


class FakePool:
    """Ends what it is given in a random order. `fails` names, for each kind, episodes that fail unless excluded.

    Attributes:
        made: (task, kind, excluded) of everything that was started.
        most: most tasks that were running at the same time.
    """

    def __init__(self, encoders: int = 1, seed: int = 0, lose: float = 0.0, **fails: str) -> None:
        self.encoders, self.fails, self.lose = encoders, fails, lose
        self.made: list[tuple[str, str, str]] = []
        self.most = 0
        self._running: list[Ticket] = []
        self._random = random.Random(seed)

    def slots(self) -> int:
        return 2 * self.encoders - sum(ticket.kind == "targets" for ticket in self._running)

    def limit(self) -> int:
        return 2 * self.encoders + 1

    def submit(self, kind: str, task: ShardTask, excluded: frozenset[str]) -> Ticket:
        assert kind == "inputs" or self.slots() > 0
        ticket = Ticket(len(self.made), task.name, kind, "".join(sorted(excluded)))
        self.made.append((task.name, kind, ticket.excluded))
        self._running.append(ticket)
        self.most = max(self.most, len(self._running))
        return ticket

    def wait(self) -> Collection[Finished | Lost]:
        ended = self._random.sample(self._running, self._random.randint(0, len(self._running)))
        self._running = [ticket for ticket in self._running if ticket not in ended]
        return [self._end(ticket) for ticket in ended]

    def _end(self, ticket: Ticket) -> Finished | Lost:
        if self._random.random() < self.lose:
            return Lost(ticket, "its node died")
        failing = "".join(e for e in self.fails.get(ticket.kind, "") if e not in ticket.excluded)
        return Finished(ticket, part(ticket.task, ticket.kind, failing, ticket.excluded), "node")


def shards(count: int) -> list[ShardTask]:
    return [ShardTask("train", i, ()) for i in range(count)]


def last_parts(events: list[Finished]) -> dict[tuple[str, str], ShardRecord]:
    return {(event.part.task, event.part.kind): event.part for event in events}


@pytest.mark.parametrize("lose", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_every_file_is_made_and_none_twice_without_a_reason(seed: int, lose: float) -> None:
    pool = FakePool(encoders=3, seed=seed, lose=lose)
    events = list(run_shards(shards(40), {}, pool))
    assert Counter((e.part.task, e.part.kind) for e in events) == {
        (task.name, kind): 1 for task in shards(40) for kind in ("inputs", "targets")
    }
    assert len(pool.made) > 80 if lose else len(pool.made) == 80


def test_the_number_of_tasks_at_a_time_does_not_grow_with_the_data() -> None:
    pools = [FakePool(encoders=2, seed=1) for _ in range(2)]
    for pool, count in zip(pools, (20, 400), strict=True):
        list(run_shards(shards(count), {}, pool))
    assert max(pool.most for pool in pools) <= 2 * (2 * 2 + 1)


def test_finished_files_are_not_made_again() -> None:
    pool = FakePool()
    before = {
        (f"train-{i:06d}", kind): part(f"train-{i:06d}", kind) for i in range(3) for kind in ("inputs", "targets")
    }
    del before["train-000001", "targets"]
    list(run_shards(shards(4), before, pool))
    assert sorted(pool.made) == [
        ("train-000001", "targets", ""),
        ("train-000003", "inputs", ""),
        ("train-000003", "targets", ""),
    ]


def test_files_that_lack_the_same_episode_are_kept() -> None:
    pool = FakePool(inputs="a", targets="a")
    list(run_shards(shards(1), {}, pool))
    assert len(pool.made) == 2


def test_the_file_that_still_holds_a_bad_episode_is_made_again() -> None:
    pool = FakePool(targets="b")
    parts = last_parts(list(run_shards(shards(1), {}, pool)))
    assert sorted(pool.made) == [
        ("train-000000", "inputs", ""),
        ("train-000000", "inputs", "b"),
        ("train-000000", "targets", ""),
    ]
    assert {p.missing() for p in parts.values()} == {frozenset("b")}


def test_parts_of_an_earlier_run_that_differ_are_made_again() -> None:
    """Inputs failed "a" once (a fault that passes), targets always fail "b": only "b" may be missing at the end."""
    pool = FakePool(targets="b")
    before = {("train-000000", "inputs"): part("train-000000", "inputs", "a")}
    before["train-000000", "targets"] = part("train-000000", "targets", "b")
    parts = before | last_parts(list(run_shards(shards(1), before, pool)))
    assert {p.missing() for p in parts.values()} == {frozenset("b")}


def test_a_file_that_is_lost_again_and_again_ends_the_run() -> None:
    pool = FakePool(lose=1.0)
    with pytest.raises(RunError, match=rf"job was lost {LOSSES} times, the last time because its node died"):
        list(run_shards(shards(1), {}, pool))


def test_inputs_go_on_while_no_encoder_is_there() -> None:
    pool = FakePool(encoders=0)
    events = run_shards(shards(1), {}, pool)
    assert next(events).part.kind == "inputs"
    pool.encoders = 1
    assert next(events).part.kind == "targets"
