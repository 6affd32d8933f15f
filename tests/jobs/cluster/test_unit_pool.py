"""Units on a Ray cluster: in order, whatever dies."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from jobs.cluster import unit_pool as units
from jobs.cluster.settings import ClusterSettings
from jobs.cluster.unit_pool import WorkerPlan, unit_pool
from pipeline.errors import BuildError, RunError

CLUSTER = ClusterSettings(num_cpus=2, encoders=2, encoder_cpus=1.0, task_cpus=2.0, object_store_mb=256)


@dataclass(frozen=True)
class Folder:
    """What the units below work on."""

    path: Path

    @contextlib.contextmanager
    def open(self) -> Iterator[Path]:
        yield self.path
        (self.path / f"closed-{os.getpid()}").touch()


def plan_of(folder: Path, encodes: bool = True) -> WorkerPlan[Path]:
    return WorkerPlan(Folder(folder).open, lambda _: "the same", encodes)


def square(_: Path, number: int) -> int:
    time.sleep(0.05 * (number % 3))  # later units end before earlier ones
    return number**2


def die_once(folder: Path, number: int) -> int:
    """Every third unit kills its worker, once."""
    mark = folder / f"died-{number}"
    if number % 3 == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die(_: Path, number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(_: Path, number: int) -> int:
    if number == 3:
        raise BuildError("the rule broke down. There is no verdict")
    return number


def crash(_: Path, number: int) -> int:
    return number // 0


@pytest.mark.slow
def test_results_come_in_order_and_workers_tidy_up(ray_session: None, tmp_path: Path) -> None:
    with unit_pool(plan_of(tmp_path), CLUSTER) as pool:
        assert list(pool.map(square, range(20))) == [number**2 for number in range(20)]
        assert list(pool.map(square, ())) == []
        assert next(pool.map(square, (7,))) == 49
    assert len(list(tmp_path.glob("closed-*"))) == 2


@pytest.mark.slow
def test_units_of_workers_that_die_are_run_again(ray_session: None, tmp_path: Path) -> None:
    with unit_pool(plan_of(tmp_path), CLUSTER) as pool:
        assert list(pool.map(die_once, range(8))) == list(range(8))
    assert len(list(tmp_path.glob("died-*"))) == 3


@pytest.mark.slow
def test_a_unit_that_always_kills_its_worker_ends_the_run(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "LOSSES", 2)
    with (
        pytest.raises(RunError, match="a unit of work was lost 2 times"),
        unit_pool(plan_of(tmp_path), CLUSTER) as pool,
    ):
        list(pool.map(die, range(2)))


@pytest.mark.slow
def test_what_a_unit_raises_is_raised_here(ray_session: None, tmp_path: Path) -> None:
    with unit_pool(plan_of(tmp_path), CLUSTER) as pool:
        found = pool.map(refuse, range(6))
        with pytest.raises(BuildError, match=r"^the rule broke down\. There is no verdict$"):
            list(found)
        with pytest.raises(RunError, match=r"(?s)a unit of work failed: .*ZeroDivisionError"):
            list(pool.map(crash, (1,)))


@pytest.mark.slow
def test_workers_that_differ_or_do_not_fit_are_refused(ray_session: None, tmp_path: Path) -> None:
    differing = replace(plan_of(tmp_path), describe=lambda _: os.getpid())
    with pytest.raises(RunError, match="workers of the cluster differ"), unit_pool(differing, CLUSTER) as pool:
        list(pool.map(square, range(20)))
    many = unit_pool(plan_of(tmp_path), replace(CLUSTER, encoders=9))
    with pytest.raises(RunError, match=r"has 4 CPU, 9 workers need 9; lower cluster\.encoders"), many:
        pass


@pytest.mark.slow
def test_workers_reserve_what_their_kind_does(ray_session: None, tmp_path: Path) -> None:
    cluster = replace(CLUSTER, encoder_gpus=0.5, task_resources={"decoder": 1})
    assert plan_of(tmp_path).resources(cluster) == {"num_cpus": 1.0, "num_gpus": 0.5, "resources": None}
    tasks = plan_of(tmp_path, encodes=False)
    assert tasks.resources(cluster) == {"num_cpus": 2.0, "num_gpus": 0.0, "resources": {"decoder": 1}}
    assert (plan_of(tmp_path).count(cluster), tasks.count(cluster)) == (2, 2)  # of 4 processors
