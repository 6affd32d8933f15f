"""Units of work on a Ray cluster: a function of something that each worker makes once, mapped over items in order.

Which worker takes which unit, and how often one was lost, changes no result: results come in the order of the items.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import ray
from ray.exceptions import RayError, RayTaskError

from jobs.cluster.actors import ActorGroup, Member, Started, short
from jobs.cluster.build_tasks.scheduler import LOSSES
from jobs.cluster.connect import ray_joined, require_resources
from jobs.cluster.settings import ClusterSettings
from jobs.common.processes.signals import ended_like_interrupted
from pipeline.errors import RunError

B = TypeVar("B")
I = TypeVar("I")  # noqa: E741
R = TypeVar("R")

UNITS_PER_WORKER = 2
"""One that a worker is at, and the next."""

AHEAD = 4
"""Units for each worker that are begun, or wait for the one whose turn it is."""

CLOSE_S = 5.0
"""Seconds that workers have to tidy up."""


@dataclass(frozen=True)
class WorkerPlan(Generic[B]):
    """What the workers of a pool are.

    make      makes what units work on, in a context that is closed with the worker; can be pickled
    describe  what must be the same of all workers, such as the libraries that results depend on
    encodes   they reserve what encoders do, and there are `cluster.encoders`; else what tasks do, one for each place
    """

    make: Callable[[], contextlib.AbstractContextManager[B]]
    describe: Callable[[B], object]
    encodes: bool

    def resources(self, cluster: ClusterSettings) -> dict[str, Any]:
        """Of one worker, as options of Ray."""
        if self.encodes:
            named, cpus, gpus = cluster.encoder_resources, cluster.encoder_cpus, cluster.encoder_gpus
        else:
            named, cpus, gpus = cluster.task_resources, cluster.task_cpus, 0.0
        return {"num_cpus": cpus, "num_gpus": gpus, "resources": named}

    def count(self, cluster: ClusterSettings) -> int:
        """Workers on a cluster that is joined."""
        if self.encodes:
            return cluster.encoders
        return max(1, int(ray.cluster_resources().get("CPU", 1) / max(cluster.task_cpus, 0.1)))


@contextlib.contextmanager
def unit_pool(plan: WorkerPlan[B], cluster: ClusterSettings) -> Iterator[UnitPool[B]]:
    """Join the cluster, or start Ray on this machine; a worker is there when this returns.

    Raises:
        RunError: there is no such cluster, it is too small, or a worker could not make what units work on.
    """
    with ray_joined(cluster.address, cluster.num_cpus, cluster.object_store_mb):
        count, each = plan.count(cluster), plan.resources(cluster)
        named = {"CPU": each["num_cpus"], "GPU": each["num_gpus"], **(each["resources"] or {})}
        fix = "; lower cluster.encoders, encoder_cpus or encoder_gpus" if plan.encodes else "; lower cluster.task_cpus"
        first = cluster.first_encoders if plan.encodes else count
        require_resources({name: first * amount for name, amount in named.items()}, f"{first} workers need", fix)
        with ended_like_interrupted(), contextlib.closing(UnitPool(plan, cluster, count)) as pool:
            yield pool


@dataclass
class _Unit:
    """One item on its way. done: `result` is there."""

    call: tuple[Any, Any]
    losses: int = 0
    done: bool = False
    result: Any = None


class UnitPool(Generic[B]):
    """The workers. Made by `unit_pool`."""

    def __init__(self, plan: WorkerPlan[B], cluster: ClusterSettings, count: int) -> None:
        self._plan = ray.put(plan)
        self._actor = ray.remote(max_restarts=0, scheduling_strategy="SPREAD", **plan.resources(cluster))(_Worker)
        self._count = count
        self._described: object = None
        self._workers = ActorGroup("worker", self._start, self._loaded, cluster.patience_s)
        self._running: dict[ray.ObjectRef, tuple[_Unit, Member]] = {}
        self._again: deque[_Unit] = deque()
        self._workers.start(count)
        self._workers.wait_until_loaded(self._step)

    def map(self, unit: Callable[[B, I], R], items: Iterable[I]) -> Iterator[R]:
        """`unit` of what the worker made and each item, in the order of the items.

        Raises:
            RunError: a unit raised it, was lost with its worker `LOSSES` times, or there are no more workers.
        """
        source, pending = iter(items), deque[_Unit]()
        function = ray.put(unit)
        while True:
            self._fill(source, pending, function)
            if not pending:
                return
            if pending[0].done:
                yield cast(R, pending.popleft().result)
            else:
                self._step()

    def close(self) -> None:
        """End the workers."""
        closed = [member.handle.close.remote() for member in self._workers.loaded]
        with contextlib.suppress(RayError):
            ray.wait(closed, num_returns=max(1, len(closed)), timeout=CLOSE_S) if closed else None
        self._workers.close()

    def _fill(self, source: Iterator[Any], pending: deque[_Unit], function: ray.ObjectRef) -> None:
        """Give every worker as much as it may have."""
        for member in sorted(self._workers.loaded, key=lambda member: len(member.tickets)):
            while len(member.tickets) < UNITS_PER_WORKER:
                if self._again:
                    unit = self._again.popleft()
                elif len(pending) < AHEAD * self._count and (item := next(source, self)) is not self:
                    unit = _Unit((function, item))
                    pending.append(unit)
                else:
                    return
                ticket = member.handle.run.remote(*unit.call)
                member.tickets.add(ticket)
                self._running[ticket] = unit, member

    def _step(self) -> None:
        """Wait a moment for what ends."""
        loading = self._workers.loading
        ready, _ = ray.wait([*loading, *self._running], timeout=1.0, fetch_local=False)
        for reference in ready:
            if reference in loading:
                self._workers.take_loaded(loading[reference])
            elif reference in self._running:  # a worker that died has taken its others along
                self._ended(reference)
        self._workers.check_life()

    def _ended(self, ticket: ray.ObjectRef) -> None:
        unit, member = self._running.pop(ticket)
        member.tickets.discard(ticket)
        try:
            unit.result, unit.done = ray.get(ticket), True
        except RayTaskError as error:
            raise _cause(error) from error
        except RayError as error:
            lost = [self._running.pop(other)[0] for other in self._workers.replace(member, error)]
            self._lost([unit, *lost], short(error))

    def _lost(self, units: list[_Unit], why: str) -> None:
        for unit in units:
            unit.losses += 1
            if unit.losses >= LOSSES:
                raise RunError(
                    f"a unit of work was lost {LOSSES} times, the last time because {why}; look at the memory of the "
                    "nodes and at Ray's logs, then run the same command again"
                )
            self._again.append(unit)

    def _start(self, name: str) -> Started:
        actor = self._actor.remote(self._plan)
        return actor, actor.load.remote()

    def _loaded(self, described: object) -> None:
        self._described = described if self._described is None else self._described
        if described != self._described:
            raise RunError(
                f"workers of the cluster differ: {described} and {self._described}; their results would too. Keep to "
                "nodes of one kind (cluster.encoder_resources and task_resources choose nodes)"
            )


def _cause(error: RayTaskError) -> RunError:
    """What a unit raised, as it would have been raised here."""
    return error.cause if isinstance(error.cause, RunError) else RunError(f"a unit of work failed: {error}")


class _Worker:
    """Makes what units work on, and runs them one at a time."""

    def __init__(self, plan: WorkerPlan[Any]) -> None:
        self._plan, self._open = plan, contextlib.ExitStack()
        self._bench: Any = None

    def load(self) -> object:
        self._bench = self._open.enter_context(self._plan.make())
        return self._plan.describe(self._bench)

    def run(self, unit: Callable[[Any, Any], Any], item: Any) -> Any:
        return unit(self._bench, item)

    def close(self) -> None:
        self._open.close()
