"""How the driver brings the two files of a shard together, and what it asks of a cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest
import ray

from jobs.ray_map import _check_resources, _reconcile, _Shard
from pipeline.errors import RunError
from pipeline.parts import Part
from pipeline.plan import ShardTask
from pipeline.shards import FileRecord
from pipeline.sources.base import Fault
from tests.jobs.runs import CLUSTER


def part(kind: str, faults: str = "", excluded: str = "") -> Part:
    """A record whose faulty and excluded episodes are the letters given."""
    record = FileRecord("f", 0, "")
    lost = tuple(Fault(episode, "train", kind, "undecodable", "") for episode in faults)
    return Part("train-000000", kind, "print", record, lost, tuple(excluded), 0, 0.0, 0.0)


class FakePool:
    """Makes a file again at once: the episodes that `fails` names for its kind fail unless they are excluded."""

    def __init__(self, **fails: str) -> None:
        self.fails = fails
        self.made: list[tuple[str, str]] = []

    def submit(self, kind: str, shard: _Shard, excluded: frozenset[str] = frozenset()) -> object:
        out = "".join(sorted(excluded))
        self.made.append((kind, out))
        shard.parts[kind] = part(kind, "".join(e for e in self.fails.get(kind, "") if e not in excluded), out)
        return object()


def settle(pool: FakePool, inputs: Part, targets: Part) -> _Shard:
    shard = _Shard(ShardTask("train", 0, ()), {"inputs": inputs, "targets": targets})
    for _ in range(5):
        before = len(pool.made)
        _reconcile(pool, shard, {})  # type: ignore[arg-type]
        if len(pool.made) == before:
            return shard
    raise AssertionError(f"never settles: {pool.made}")


def test_files_that_agree_are_kept() -> None:
    pool = FakePool()
    settle(pool, part("inputs", "a"), part("targets", "a"))
    assert pool.made == []


def test_the_file_that_still_holds_a_bad_episode_is_made_again() -> None:
    pool = FakePool(targets="b")
    shard = settle(pool, part("inputs"), part("targets", "b"))
    assert pool.made == [("inputs", "b")]
    assert shard.parts["inputs"].missing() == shard.parts["targets"].missing() == {"b"}


def test_an_episode_that_failed_once_and_then_read_well_is_not_lost() -> None:
    """Inputs fail "a" once (a fault that passes), targets always fail "b": only "b" may be missing at the end."""
    pool = FakePool(targets="b")
    shard = settle(pool, part("inputs", "a"), part("targets", "b"))
    assert shard.parts["inputs"].missing() == shard.parts["targets"].missing() == {"b"}
    assert {fault.episode for fault in shard.parts["targets"].faults} == {"b"}


def test_a_cluster_that_can_never_run_the_tasks_is_refused(ray_session: None) -> None:
    _check_resources(CLUSTER)
    cpus = ray.cluster_resources()["CPU"]
    with pytest.raises(RunError, match=r"the cluster has 4 CPU, the settings ask for 5"):
        _check_resources(replace(CLUSTER, encoders=int(cpus), encoder_cpus=1.0))
    with pytest.raises(RunError, match=r"0 GPU, the settings ask for 1"):
        _check_resources(replace(CLUSTER, encoder_gpus=1.0))
