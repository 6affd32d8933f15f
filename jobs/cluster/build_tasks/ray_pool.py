"""Shard tasks on a Ray cluster: inputs tasks, decoding tasks, and encoder actors, any of which may die.

An encoder actor requests the decoding of its own groups, a few ahead, and works on two shards at once with one model,
so that decoding of the next shard overlaps encoding of this one. What is decoded and not yet encoded is bounded by
count (`groups_ahead`) and by bytes (`ahead_mb`). Inputs and decoding tasks reserve processors alone, so Ray places them
on nodes without GPUs as long as these have room; `task_resources` and `encoder_resources` enforce it.

An actor that dies with its node is replaced as soon as there is room for another; until then the others continue.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError

from jobs.cluster.actors import ActorGroup, Member, Started, short
from jobs.cluster.build_tasks.decoded_ahead import DecodedAhead
from jobs.cluster.build_tasks.encoder_error import noting_error
from jobs.cluster.build_tasks.episode_registry import RayWatch, Registries
from jobs.cluster.build_tasks.one_machine import require_one_machine
from jobs.cluster.build_tasks.preflight import require_data
from jobs.cluster.build_tasks.scheduler import Finished, Lost
from jobs.cluster.build_tasks.shared_hashes import SharedHashes, start_hashes
from jobs.cluster.connect import ray_joined, require_resources
from jobs.cluster.settings import ClusterSettings
from jobs.common.processes.signals import ended_like_interrupted
from pipeline.building.records import ShardRecord
from pipeline.building.shard_jobs import (
    DecodedGroup,
    Encode,
    decode_group,
    group_bytes,
    write_inputs_shard,
    write_targets_shard,
)
from pipeline.encoder.encoder_frames import FrameBlock
from pipeline.errors import RunError
from pipeline.format.build_settings import EncoderSettings
from pipeline.format.enums import FloatDtype
from pipeline.format.machine import Machine
from pipeline.planning.plan import ShardTask
from pipeline.planning.recipe import Recipe
from pipeline.sources.base import EpisodeRef, Source
from pipeline.sources.known_hashes import hashes_from
from pipeline.storage.store import Store

SHARDS_PER_ACTOR = 2
"""Shards an encoder actor works on at the same time: one encodes while the other decodes."""

CRASHES = 20
"""How often Ray restarts a task that lost its worker or node, before the driver sees an error. A task with episodes
that kill their reader needs several starts for each until it is known which one to leave out."""


@dataclass(frozen=True)
class Work:
    """What all tasks of a run share. Sent to the workers once. machines: those of shards that are finished; hashes: the
    actor that knows the hashes of raw files."""

    source: Source
    recipe: Recipe
    store: Store
    encoder: EncoderSettings
    identity: dict[str, Any]
    cluster: ClusterSettings
    machines: frozenset[Machine] = frozenset()
    hashes: Any = None


@contextlib.contextmanager
def connected(work: Work, first: Sequence[EpisodeRef]) -> Iterator[RayPool]:
    """Connect to the cluster, or start Ray on this machine; an encoder is loaded when this returns.

    Args:
        first: some episodes, whose files every node must reach.

    Raises:
        RunError: that fails, a node reaches no raw data or not the build, or an encoder is not the one of the plan.
    """
    cluster = work.cluster
    with ray_joined(cluster.address, cluster.num_cpus, cluster.object_store_mb):
        _check_resources(cluster)
        require_data(work.store, work.source, first)
        with ended_like_interrupted(), contextlib.closing(RayPool(work)) as pool:
            yield pool


def _check_resources(cluster: ClusterSettings) -> None:
    """Raise RunError unless the cluster holds what the run begins with; nodes that an autoscaler brings come later."""
    encoders, name = cluster.first_encoders, "encoders" if cluster.min_encoders is None else "min_encoders"
    if not encoders:
        return
    wanted = {
        "CPU": encoders * cluster.encoder_cpus + cluster.task_cpus,
        "GPU": encoders * cluster.encoder_gpus,
        **(cluster.task_resources or {}),
        **{kind: encoders * amount for kind, amount in (cluster.encoder_resources or {}).items()},
    }
    fix = (
        f" (cluster.{name}={encoders}, encoder_cpus={cluster.encoder_cpus:g}, "
        f"encoder_gpus={cluster.encoder_gpus:g}; and one task of task_cpus={cluster.task_cpus:g}); lower them"
    )
    require_resources(wanted, "the settings need", fix)


class RayPool:
    """The encoder actors and tasks of a run; a `scheduler.Pool`."""

    def __init__(self, work: Work) -> None:
        cluster, self._hashes = work.cluster, start_hashes()
        work = replace(work, hashes=self._hashes)
        self._cluster, self._work, self._handle = cluster, work, ray.put(work)
        self._registries = Registries.start(cluster.episode_limit_s, cluster.encoders)
        self._actor = ray.remote(
            num_gpus=cluster.encoder_gpus,
            num_cpus=cluster.encoder_cpus,
            resources=cluster.encoder_resources,
            max_restarts=0,
            max_concurrency=SHARDS_PER_ACTOR,
            scheduling_strategy="SPREAD",
        )(_EncoderActor)
        self._inputs = _inputs_task.options(num_cpus=cluster.task_cpus, resources=cluster.task_resources)
        self._encoders = ActorGroup("encoder", self._start_encoder, self._loaded, cluster.patience_s)
        self._machines = work.machines
        self._running: dict[ray.ObjectRef, tuple[str, Member | None]] = {}
        self.lost = 0
        self._memory_noted = 0.0
        self.peak_store_bytes = 0
        self._encoders.start(cluster.encoders)
        warm = _start_workers(cluster)  # their imports overlap the loading of the encoders
        self._encoders.wait_until_loaded(self.wait)
        del warm  # those that have not run by now need not

    def slots(self) -> int:
        return sum(SHARDS_PER_ACTOR - len(encoder.tickets) for encoder in self._encoders.loaded)

    def limit(self) -> int:
        return SHARDS_PER_ACTOR * len(self._encoders.loaded) + 1

    def submit(self, kind: str, task: ShardTask, excluded: frozenset[str]) -> ray.ObjectRef:
        """Start one file of a shard; targets go to the loaded encoder with the least work."""
        if kind == "inputs":
            ticket = self._inputs.remote(self._handle, self._registries.of(task.name), task, excluded)
            self._running[ticket] = (task.name, None)
            return ticket
        chosen = min(self._encoders.loaded, key=lambda encoder: len(encoder.tickets))
        ticket = chosen.handle.encode_shard.remote(task, excluded)
        chosen.tickets.add(ticket)
        self._running[ticket] = (task.name, chosen)
        return ticket

    def wait(self) -> Collection[Finished | Lost]:
        loading = self._encoders.loading
        events: list[Finished | Lost] = []
        if not loading and not self._running:
            time.sleep(0.1)
            return events
        ready, _ = ray.wait([*loading, *self._running], timeout=1.0, fetch_local=False)
        for reference in ready:
            if reference in loading:
                self._encoders.take_loaded(loading[reference])
            elif reference in self._running:  # an encoder that died has taken its others along
                events += self._ended(reference)
        self._note_memory()
        self._encoders.check_life()
        self.lost += sum(isinstance(event, Lost) for event in events)
        return events

    def close(self) -> None:
        """End the encoders."""
        self._encoders.close()
        self._registries.close()
        ray.kill(self._hashes)

    def _start_encoder(self, name: str) -> Started:
        actor = self._actor.remote(self._handle, self._registries, name)
        return actor, actor.load.remote()

    def _loaded(self, machine: Machine) -> None:
        self._machines = require_one_machine({*self._machines, machine}, self._cluster.mixed_devices)

    def _ended(self, ticket: ray.ObjectRef) -> list[Finished | Lost]:
        name, owner = self._running.pop(ticket)
        if owner is not None:
            owner.tickets.discard(ticket)
        try:
            part, node, busy_s = ray.get(ticket)
        except RayTaskError as error:
            if isinstance(error.cause, RunError):
                raise RunError(f"shard {name}: {error.cause}") from error
            if not isinstance(error.cause, RayError):
                raise RunError(f"shard {name}: {error}") from error
            return [Lost(ticket, short(error.cause))]  # the decoding it waited for was lost for good
        except RayError as error:
            lost: list[Finished | Lost] = [Lost(ticket, short(error))]
            if owner is not None:
                lost += self._replace(owner, error)
            return lost
        return [Finished(ticket, part, node, busy_s)]

    def _replace(self, dead: Member, error: RayError) -> list[Finished | Lost]:
        """Start another encoder in place of one that died; what it worked on besides is lost too."""
        self._registries.owner_died(dead.name)
        tickets = self._encoders.replace(dead, error)
        for ticket in tickets:
            del self._running[ticket]
        return [Lost(ticket, short(error)) for ticket in tickets]

    def _note_memory(self) -> None:
        """What the object stores of all nodes hold, about twice a second."""
        if time.monotonic() - self._memory_noted > 0.5:
            total, free = (
                of().get("object_store_memory", 0.0) for of in (ray.cluster_resources, ray.available_resources)
            )
            self.peak_store_bytes = max(self.peak_store_bytes, int(total - free))
            self._memory_noted = time.monotonic()


def _start_workers(cluster: ClusterSettings) -> list[ray.ObjectRef]:
    """One empty task for each task that can run at the same time: Ray starts a worker for it."""
    fitting = int(ray.cluster_resources().get("CPU", 1) / max(cluster.task_cpus, 0.1))
    at_once = SHARDS_PER_ACTOR * cluster.encoders * (cluster.groups_ahead + 2)
    warm = _no_task.options(num_cpus=cluster.task_cpus, resources=cluster.task_resources)
    return [warm.remote() for _ in range(min(fitting, at_once))]


def _node() -> str:
    """Address of the node this runs on, with the start of its id: several may share a machine."""
    context = ray.get_runtime_context()
    return f"{ray.util.get_node_ip_address()}/{context.get_node_id()[:8]}"


@ray.remote(max_retries=3)
def _no_task() -> None:
    """Makes a worker load this file."""


@ray.remote(max_retries=CRASHES)
def _inputs_task(
    work: Work, registry: Any, task: ShardTask, excluded: frozenset[str]
) -> tuple[ShardRecord, str, float]:
    with (
        hashes_from(SharedHashes(work.hashes)),
        RayWatch(registry, f"{task.name}-inputs", work.cluster.episode_limit_s) as watch,
    ):
        return write_inputs_shard(work.source, task, work.recipe, excluded, work.store, watch), _node(), 0.0


@ray.remote(max_retries=CRASHES)
def _decode_task(
    work: Work, registry: Any, task: ShardTask, group: int, excluded: frozenset[str], encoder: str
) -> DecodedGroup:
    with (
        hashes_from(SharedHashes(work.hashes)),
        RayWatch(registry, f"{task.name}-targets-{group}", work.cluster.episode_limit_s, encoder) as watch,
    ):
        return decode_group(work.source, task.groups[group], work.recipe, excluded, watch)


class _EncoderActor:
    """One encoder. Two shards at once share it: the lock gives it to one batch of groups at a time."""

    def __init__(self, work: Work, registries: Registries, name: str) -> None:
        self._work, self._registries, self._name = work, registries, name
        self._handle = ray.put(work)
        self._lock = threading.Lock()
        self._ahead = DecodedAhead(work.cluster.ahead_mb * 2**20)

    def load(self) -> Machine:
        """Load the encoder; what it runs on. Raises RunError when it is not the one of the plan."""
        # Not at the top: workers of decoding and inputs tasks load this file too; torch costs each 5 s and 300 MB.
        from model.encoder_kernels import encoder_kernels
        from pipeline.encoder.encoder import Encoder

        work, device = self._work, self._work.cluster.encoder_device
        self._encoder = Encoder(work.encoder, device, *encoder_kernels(work.encoder.attention, device))
        identity = self._encoder.identity()
        if identity != work.identity:
            different = sorted(k for k in identity if identity[k] != work.identity.get(k))
            raise RunError(
                f"the encoder on this worker is not the one of the plan; it differs in {', '.join(different)}"
            )
        return self._encoder.machine

    def encode_shard(self, task: ShardTask, excluded: frozenset[str]) -> tuple[ShardRecord, str, float]:
        work, busy = self._work, [0.0]
        encode: Encode = partial(self._encode, busy)
        if task.index == 0 and work.encoder.dtype != FloatDtype.FLOAT32:
            encode = noting_error(encode, work.encoder, work.cluster.encoder_device, work.store)
        groups, machine = self._decoded(task, excluded), self._encoder.machine
        part = write_targets_shard(groups, encode, machine, task, work.recipe, excluded, work.store)
        return part, _node(), busy[0]

    def _encode(self, busy: list[float], block: FrameBlock) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        with self._lock:
            started = time.monotonic()
            latents = self._encoder.encode(block)
            busy[0] += time.monotonic() - started
            return latents

    def _decoded(self, task: ShardTask, excluded: frozenset[str]) -> Iterator[DecodedGroup]:
        """The groups of a shard in order, decoded ahead within the budget; what is not taken is given back."""
        cluster = self._work.cluster
        decode = _decode_task.options(num_cpus=cluster.task_cpus, resources=cluster.task_resources)
        registry = self._registries.of(task.name)
        ahead: deque[tuple[ray.ObjectRef, int]] = deque()
        wanted = deque(range(len(task.groups)))
        try:
            while wanted or ahead:
                while wanted and len(ahead) <= cluster.groups_ahead:
                    size = self._ahead.take(group_bytes(task.groups[wanted[0]], self._work.recipe), must=not ahead)
                    if size is None:
                        break
                    group = wanted.popleft()
                    reference = decode.remote(self._handle, registry, task, group, excluded, self._name)
                    ahead.append((reference, size))
                reference, size = ahead.popleft()
                try:
                    decoded: DecodedGroup = ray.get(reference)
                    size = self._ahead.arrived(size, decoded.frame_bytes)
                    yield decoded
                finally:
                    self._ahead.give(size)
                    del reference
        finally:
            for reference, size in ahead:
                self._ahead.give(size)
                ray.cancel(reference)
