"""Shard tasks on a Ray cluster: inputs tasks, decoding tasks, and encoder actors.

The driver hands out whole shards and compares records. An encoder actor asks for the decoding of its own chunks, a few
ahead, and works on two shards at once with one model, so that decoding of the next shard overlaps encoding of this one
and memory stays bounded by `2 x encoders x (chunks_ahead + 2)` chunks; a chunk holds whole episodes.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from jobs.ray_start import ray_joined
from jobs.settings import ClusterSettings
from pipeline.clips import ClipBlock
from pipeline.encoding import EncoderSettings
from pipeline.errors import RunError
from pipeline.parts import Part
from pipeline.plan import Recipe, ShardTask
from pipeline.sources.base import Source
from pipeline.store import Store
from pipeline.tasks import Chunk, decode_chunk, write_inputs_shard, write_targets_shard

SHARDS_PER_ACTOR = 2
"""Shards an encoder actor works on at the same time: one encodes while the other decodes."""


@dataclass(frozen=True)
class Work:
    """What all tasks of a run share. Sent to the workers once."""

    source: Source
    recipe: Recipe
    store: Store
    encoder: EncoderSettings
    identity: dict[str, Any]
    cluster: ClusterSettings


@contextlib.contextmanager
def connected(work: Work) -> Iterator[Pool]:
    """Connect to the cluster, or start a Ray of its own on this machine; the encoders are loaded when this returns.

    Raises:
        RunError: no cluster could be reached or started, or an encoder is not the one of the plan.
    """
    cluster = work.cluster
    with ray_joined(cluster.address, cluster.num_cpus, cluster.object_store_mb):
        _check_resources(cluster)
        with contextlib.closing(Pool(work)) as pool:
            yield pool


def _check_resources(cluster: ClusterSettings) -> None:
    """Ray would wait without end for what no node has."""
    there = ray.cluster_resources()
    wanted = {
        "CPU": cluster.encoders * cluster.encoder_cpus + cluster.task_cpus,
        "GPU": cluster.encoders * cluster.encoder_gpus,
    }
    for kind, amount in wanted.items():
        if amount > there.get(kind, 0):
            raise RunError(
                f"the cluster has {there.get(kind, 0):g} {kind}, the settings ask for {amount:g} (cluster.encoders="
                f"{cluster.encoders}, encoder_cpus={cluster.encoder_cpus:g}, encoder_gpus={cluster.encoder_gpus:g}; "
                f"and one task of task_cpus={cluster.task_cpus:g}); lower them, or start more nodes"
            )


def run_shards(tasks: Collection[ShardTask], finished: Mapping[tuple[str, str], Part], pool: Pool) -> Iterator[Part]:
    """Finish every task, yielding each part record as its file appears.

    Args:
        finished: records of files that are there already, by task name and kind.

    A shard is finished when both of its files lack the same episodes; until then the file that holds an episode the
    other could not read is made again without it.

    Raises:
        RunError: a task failed for another reason than a bad episode; the message carries the worker's error.
    """
    waiting = deque(_Shard(task) for task in tasks)
    running: dict[ray.ObjectRef, _Shard] = {}
    limit = pool.shards_at_once
    while waiting or running:
        while waiting and len(set(map(id, running.values()))) < limit:
            shard = waiting.popleft()
            for kind in ("inputs", "targets"):
                part = finished.get((shard.task.name, kind))
                if part is None:
                    running[pool.submit(kind, shard)] = shard
                else:
                    shard.parts[kind] = part
            _reconcile(pool, shard, running)
        ready, _ = ray.wait(list(running), timeout=1.0) if running else ([], [])
        for reference in ready:
            shard = running.pop(reference)
            pool.finished(reference)
            part = _result(reference, shard)
            shard.parts[part.kind] = part
            yield part
            _reconcile(pool, shard, running)


@dataclass
class _Shard:
    task: ShardTask
    parts: dict[str, Part] = field(default_factory=dict)


class Pool:
    """The encoder actors and how busy they are."""

    def __init__(self, work: Work) -> None:
        cluster = work.cluster
        self._work = ray.put(work)
        actor = ray.remote(
            num_gpus=cluster.encoder_gpus,
            num_cpus=cluster.encoder_cpus,
            max_restarts=3,
            max_task_retries=3,
            max_concurrency=SHARDS_PER_ACTOR,
        )(_EncoderActor)
        self._actors = [actor.remote(work) for _ in range(cluster.encoders)]
        self._busy = dict.fromkeys(range(cluster.encoders), 0)
        self._owner: dict[ray.ObjectRef, int] = {}
        self._inputs = _inputs_task.options(num_cpus=cluster.task_cpus)
        self.shards_at_once = SHARDS_PER_ACTOR * cluster.encoders + 1
        workers = _start_workers(cluster)  # their imports overlap the loading of the encoders
        try:
            ray.get([actor.ready.remote() for actor in self._actors])
            ray.get(workers)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            raise RunError(f"an encoder did not start: {cause or error}") from error

    def submit(self, kind: str, shard: _Shard, excluded: frozenset[str] = frozenset()) -> ray.ObjectRef:
        """Start one file of a shard; targets go to the encoder with the least work."""
        if kind == "inputs":
            return self._inputs.remote(self._work, shard.task, excluded)
        chosen = min(self._busy, key=lambda actor: self._busy[actor])
        reference = self._actors[chosen].encode_shard.remote(shard.task, excluded)
        self._owner[reference] = chosen
        self._busy[chosen] += 1
        return reference

    def finished(self, reference: ray.ObjectRef) -> None:
        """Note that what `submit` returned has ended."""
        if reference in self._owner:
            self._busy[self._owner.pop(reference)] -= 1

    def close(self) -> None:
        """End the encoders."""
        for actor in self._actors:
            ray.kill(actor)


def _start_workers(cluster: ClusterSettings) -> list[ray.ObjectRef]:
    """One empty task for each task that can run at the same time: Ray starts a worker for it."""
    fitting = int(ray.cluster_resources().get("CPU", 1) / max(cluster.task_cpus, 0.1))
    at_once = SHARDS_PER_ACTOR * cluster.encoders * (cluster.chunks_ahead + 2)
    warm = _no_task.options(num_cpus=cluster.task_cpus)
    return [warm.remote() for _ in range(min(fitting, at_once))]


def _reconcile(pool: Pool, shard: _Shard, running: dict[ray.ObjectRef, _Shard]) -> None:
    """Once both files of a shard are there, make those again that hold an episode the other lacks."""
    if len(shard.parts) < 2:
        return
    faulty = {kind: frozenset(f.episode for f in part.faults) for kind, part in shard.parts.items()}
    everything = faulty["inputs"] | faulty["targets"]
    for kind, own in faulty.items():
        if shard.parts[kind].missing() != everything:
            del shard.parts[kind]
            running[pool.submit(kind, shard, everything - own)] = shard


def _result(reference: ray.ObjectRef, shard: _Shard) -> Part:
    try:
        part: Part = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, RunError) else error
        raise RunError(f"shard {shard.task.name}: {cause}") from error
    except ray.exceptions.RayError as error:
        raise RunError(
            f"shard {shard.task.name}: {type(error).__name__}: {error}; run the same command again"
        ) from error
    return part


@ray.remote(max_retries=3)
def _no_task() -> None:
    """Makes a worker load this file."""


@ray.remote(max_retries=3)
def _inputs_task(work: Work, task: ShardTask, excluded: frozenset[str]) -> Part:
    return write_inputs_shard(work.source, task, work.recipe, excluded, work.store)


@ray.remote(max_retries=3)
def _decode_task(work: Work, task: ShardTask, chunk: int, excluded: frozenset[str]) -> Chunk:
    return decode_chunk(work.source, task.chunks[chunk], work.recipe, excluded)


class _EncoderActor:
    """One encoder. Two shards at once share it: the lock gives it to one batch of chunks at a time."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._handle = ray.put(work)
        # Not at the top: workers of decoding and inputs tasks load this file too; torch costs each 5 s and 300 MB.
        from model.transformers_attention import use_attention
        from pipeline.targets import Encoder

        attend = None
        if work.encoder.attention != "sdpa":
            attend = partial(use_attention, backend=work.encoder.attention)
        self._encoder = Encoder(work.encoder, work.cluster.encoder_device, attend)
        self._lock = threading.Lock()
        identity = self._encoder.identity()
        if identity != work.identity:
            different = sorted(k for k in identity if identity[k] != work.identity.get(k))
            raise RunError(
                f"the encoder on this worker is not the one of the plan; it differs in {', '.join(different)}"
            )

    def ready(self) -> None:
        """Returns once the encoder is loaded."""

    def encode_shard(self, task: ShardTask, excluded: frozenset[str]) -> Part:
        chunks = self._decoded(task, excluded)
        work = self._work
        return write_targets_shard(chunks, self._encode, task, work.recipe, excluded, work.store)

    def _encode(self, block: ClipBlock) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        with self._lock:
            return self._encoder.encode(block)

    def _decoded(self, task: ShardTask, excluded: frozenset[str]) -> Iterator[Chunk]:
        decode = _decode_task.options(num_cpus=self._work.cluster.task_cpus)
        ahead: deque[ray.ObjectRef] = deque()
        for i in range(len(task.chunks)):
            ahead.append(decode.remote(self._handle, task, i, excluded))
            if len(ahead) > self._work.cluster.chunks_ahead:
                yield ray.get(ahead.popleft())
        while ahead:
            yield ray.get(ahead.popleft())
