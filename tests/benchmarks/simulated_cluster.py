"""A cluster without machines: the driver's own loop hands out shards, time passes in a heap.

Processors are one queue, each encoder is one place that two shards share, storage is one pipe to read through and one
to write through. Nothing is decoded or encoded; how long things take is given.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from jobs.cluster.build_tasks.ray_pool import SHARDS_PER_ACTOR
from jobs.cluster.build_tasks.scheduler import Finished, Lost
from pipeline.building.records import ShardRecord
from pipeline.planning.plan import ShardTask
from pipeline.storage.atomic import FileRecord


@dataclass(frozen=True)
class SimulatedCluster:
    """What there is and how long things take.

    gpus, gpus_per_node, cores  of the cluster
    read_b_s, write_b_s         storage, bytes a second for all together
    startup_s                   an encoder is loaded after between half and all of it
    node_hours                  mean time between the deaths of one node with its GPUs, hours; 0: none dies
    groups_ahead                see ClusterSettings
    """

    gpus: int
    cores: int
    read_b_s: float
    write_b_s: float
    startup_s: float = 60.0
    gpus_per_node: int = 8
    node_hours: float = 0.0
    groups_ahead: int = 4


@dataclass(frozen=True)
class SimulatedShard:
    """Windows of each chunk, and what one window takes: processor seconds of both jobs, GPU seconds, bytes."""

    windows: tuple[int, ...]
    inputs_s: float
    decode_s: float
    encode_s: float
    raw_bytes: float
    input_bytes: float
    target_bytes: float


@dataclass
class _Encoder:
    node: int
    ready: bool = False
    busy: bool = False
    jobs: list[_Targets] = field(default_factory=list)
    waiting: deque[tuple[_Targets, float]] = field(default_factory=deque)


@dataclass
class _Targets:
    """A targets job in work: chunks asked for, decoded, encoded so far."""

    ticket: int
    shard: SimulatedShard
    task: ShardTask
    encoder: _Encoder
    asked: int = 0
    decoded: set[int] = field(default_factory=set)
    encoded: int = 0
    dead: bool = False


class SimulatedPool:
    """A `scheduler.Pool` in simulated time.

    Attributes:
        now: seconds since the start.
        gpu_s: seconds that GPUs were busy;  loading_s: that encoders were being loaded;  core_s: that processors were
            busy, waiting for storage left out;  bytes: written.
        events: tasks and actors' calls that a driver or an actor would have handed to Ray.
        simulating_s: real seconds spent in here, so that the rest of a loop is the driver's.
    """

    def __init__(self, cluster: SimulatedCluster, shards: dict[str, SimulatedShard], seed: int = 0) -> None:
        self.cluster, self._shards = cluster, shards
        self._random = random.Random(seed)
        self.now = self.gpu_s = self.core_s = self.loading_s = self.simulating_s = self.bytes = 0.0
        self.events = self.lost = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0
        self._cores, self._queue = cluster.cores, deque[tuple[float, float, Callable[[], None]]]()
        self._read_free = self._write_free = 0.0
        self._done: list[Finished | Lost] = []
        self._jobs: dict[int, _Targets] = {}
        self._encoders = [_Encoder(i // cluster.gpus_per_node) for i in range(cluster.gpus)]
        for encoder in self._encoders:
            self._load(encoder)
        if cluster.node_hours:
            for node in {encoder.node for encoder in self._encoders}:
                self._plan_death(node)

    def slots(self) -> int:
        return sum(SHARDS_PER_ACTOR - len(e.jobs) for e in self._encoders if e.ready)

    def limit(self) -> int:
        return SHARDS_PER_ACTOR * sum(e.ready for e in self._encoders) + 1

    def submit(self, kind: str, task: ShardTask, excluded: frozenset[str]) -> int:
        started = time.perf_counter()
        self._numbers += 1
        self.events += 1
        ticket, shard = self._numbers, self._shards[task.name]
        if kind == "inputs":
            count = sum(shard.windows)
            self._run(count * shard.inputs_s, count * shard.raw_bytes, lambda: self._store_inputs(ticket, task, shard))
        else:
            encoder = min((e for e in self._encoders if e.ready), key=lambda e: len(e.jobs))
            job = _Targets(ticket, shard, task, encoder)
            encoder.jobs.append(job)
            self._jobs[ticket] = job
            self._ask(job)
        self.simulating_s += time.perf_counter() - started
        return ticket

    def wait(self) -> Collection[Finished | Lost]:
        started = time.perf_counter()
        until = self.now + 1.0
        while not self._done and self._heap and self._heap[0][0] <= until:
            self.now, _, action = heapq.heappop(self._heap)
            action()
        if not self._done:
            self.now = until
        done, self._done = self._done, []
        self.simulating_s += time.perf_counter() - started
        return done

    def _at(self, moment: float, action: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._heap, (moment, self._numbers, action))

    def _run(self, seconds: float, read: float, then: Callable[[], None]) -> None:
        """A task for a processor: it reads, then computes."""
        self._queue.append((seconds, read, then))
        self._start_tasks()

    def _start_tasks(self) -> None:
        while self._cores and self._queue:
            seconds, read, then = self._queue.popleft()
            self._cores -= 1
            self._read_free = max(self.now, self._read_free) + read / self.cluster.read_b_s
            self.core_s += seconds

            def end(then: Callable[[], None] = then) -> None:
                self._cores += 1
                then()
                self._start_tasks()

            self._at(self._read_free + seconds, end)

    def _write(self, size: float, then: Callable[[], None]) -> None:
        self.bytes += size
        self._write_free = max(self.now, self._write_free) + size / self.cluster.write_b_s
        self._at(self._write_free, then)

    def _store_inputs(self, ticket: int, task: ShardTask, shard: SimulatedShard) -> None:
        count = sum(shard.windows)
        self._write(count * shard.input_bytes, lambda: self._finish(ticket, task, "inputs", count))

    def _finish(self, ticket: int, task: ShardTask, kind: str, rows: int) -> None:
        part = ShardRecord(task.name, kind, "", FileRecord(task.name, 0, ""), (), (), rows, 0.0, 0.0)
        self._done.append(Finished(ticket, part, "node"))

    def _ask(self, job: _Targets) -> None:
        """Have chunks decoded, a few ahead of the one that is encoded."""
        windows = job.shard.windows
        while job.asked < len(windows) and job.asked <= job.encoded + self.cluster.groups_ahead:
            number, count = job.asked, windows[job.asked]
            job.asked += 1
            self.events += 1

            def decoded(number: int = number) -> None:
                job.decoded.add(number)
                self._offer(job)

            self._run(count * job.shard.decode_s, count * job.shard.raw_bytes, decoded)

    def _offer(self, job: _Targets) -> None:
        """The next chunk in order goes to the encoder once it is decoded."""
        if not job.dead and job.encoded in job.decoded:
            job.decoded.discard(job.encoded)
            job.encoder.waiting.append((job, job.shard.windows[job.encoded] * job.shard.encode_s))
            self._encode(job.encoder)

    def _encode(self, encoder: _Encoder) -> None:
        if encoder.busy or not encoder.waiting:
            return
        job, seconds = encoder.waiting.popleft()
        encoder.busy = True
        self.gpu_s += seconds

        def end() -> None:
            encoder.busy = False
            if not job.dead:
                size = job.shard.windows[job.encoded] * job.shard.target_bytes
                job.encoded += 1
                last = job.encoded == len(job.shard.windows)
                self._write(size, lambda: self._end_targets(job) if last else None)
                self._ask(job)
                self._offer(job)
            self._encode(encoder)

        self._at(self.now + seconds, end)

    def _end_targets(self, job: _Targets) -> None:
        if job.dead:
            return
        job.encoder.jobs.remove(job)
        del self._jobs[job.ticket]
        self._finish(job.ticket, job.task, "targets", sum(job.shard.windows))

    def _load(self, encoder: _Encoder) -> None:
        seconds = self.cluster.startup_s * self._random.uniform(0.5, 1.0)
        self.loading_s += seconds

        def ready() -> None:
            encoder.ready = True

        self._at(self.now + seconds, ready)

    def _plan_death(self, node: int) -> None:
        self._at(self.now + self._random.expovariate(1 / (self.cluster.node_hours * 3600)), lambda: self._kill(node))

    def _kill(self, node: int) -> None:
        """A node dies with its encoders; another takes its place."""
        for encoder in [e for e in self._encoders if e.node == node]:
            for job in encoder.jobs:
                job.dead = True
                del self._jobs[job.ticket]
                self._done.append(Lost(job.ticket, "its node died"))
                self.lost += 1
            self._encoders.remove(encoder)
            self._encoders.append(_Encoder(node))
            self._load(self._encoders[-1])
        self._plan_death(node)


def task_names(shards: Sequence[SimulatedShard]) -> tuple[list[ShardTask], dict[str, SimulatedShard]]:
    """Tasks without episodes for shards, and the shards by task name."""
    tasks = [ShardTask("train", i, ()) for i in range(len(shards))]
    return tasks, {task.name: shard for task, shard in zip(tasks, shards, strict=True)}
