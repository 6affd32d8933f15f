"""The episode that every task reads, kept by an actor outside the tasks, to find those that hang or kill a process.

A worker that reads one episode for longer than the limit notes it in the registry and ends itself. One that hangs with
the interpreter locked cannot: a timer that runs without Python (`faulthandler`) ends it a moment later, and writes
where it hung to the worker's log. Ray restarts the task on another worker; it queries the registry first and leaves out
the episode that took too long, or that was being read each time the task died.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

DEATHS = 3
"""Attempts that have to die during one episode, on nodes that survive, before it is left out: a process may be killed
during a good one, once or twice."""

DEATHS_WITH_NODES = 9
"""The same, with attempts whose whole node died: the episode may take nodes down."""

GRACE_S = 2.0
"""Seconds between the end that a process gives itself and the one that needs no interpreter."""

_STANDARD_ERROR = 2


ENCODERS_EACH = 64
"""Encoders whose tasks ask one actor: about 500 calls a second, of the few thousand that one answers."""


@dataclass(frozen=True)
class Registries:
    """Actors on the driver's node, each an `EpisodeRegistry`. All tasks of a shard ask the same one, and an episode is
    in one shard."""

    actors: tuple[Any, ...]

    @classmethod
    def start(cls, limit_s: float, encoders: int) -> Registries:
        """Those that so many encoders need. limit_s: of reading an episode, seconds."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(EpisodeRegistry)
        return cls(tuple(actor.remote(limit_s) for _ in range(-(-encoders // ENCODERS_EACH))))

    def of(self, shard: str) -> Any:
        """The one that tasks of a shard ask."""
        return self.actors[zlib.crc32(shard.encode()) % len(self.actors)]

    def owner_died(self, owner: str) -> None:
        """See `EpisodeRegistry.owner_died`."""
        for actor in self.actors:
            actor.owner_died.remote(owner)

    def close(self) -> None:
        """End them."""
        for actor in self.actors:
            ray.kill(actor)


@dataclass(frozen=True)
class _Attempt:
    """An attempt at a task that has not ended well, and the episode that it reads or died during."""

    episode: str
    owner: str
    node: str


def _living_nodes() -> frozenset[str]:
    return frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])


class EpisodeRegistry:
    """The episodes that are being read. Each attempt of a task has its own name."""

    def __init__(self, limit_s: float, living_nodes: Callable[[], frozenset[str]] = _living_nodes) -> None:
        self._limit_s, self._living_nodes = limit_s, living_nodes
        self._attempts: dict[str, dict[str, _Attempt]] = {}
        self._dead_owners: set[str] = set()
        self._guilty: dict[str, tuple[str, str]] = {}

    def started(self, task: str, attempt: str, episode: str, owner: str = "", node: str = "") -> None:
        """An attempt at a task begins an episode. owner: the encoder that requested it; node: where it runs."""
        if owner not in self._dead_owners:
            self._attempts.setdefault(task, {})[attempt] = _Attempt(episode, owner, node)

    def owner_died(self, owner: str) -> None:
        """An encoder died, and Ray ends what it had requested: no episode is to blame for that."""
        self._dead_owners.add(owner)
        for attempts in self._attempts.values():
            for name in [name for name, attempt in attempts.items() if attempt.owner == owner]:
                del attempts[name]

    def timed_out(self, episode: str) -> None:
        """An episode took longer than the limit; the process that reads it ends itself."""
        detail = f"not read within cluster.episode_limit_s={self._limit_s:g} seconds"
        self._guilty.setdefault(episode, ("timed-out", detail))

    def finished(self, task: str, attempt: str) -> None:
        """An attempt ended, well or with an error: its process lives."""
        attempts = self._attempts.get(task, {})
        attempts.pop(attempt, None)
        if not attempts:
            self._attempts.pop(task, None)

    def blamed(self, task: str) -> dict[str, tuple[str, str]]:
        """Episodes that earlier attempts at this task, or at another one, did not survive: id -> (reason, detail)."""
        attempts = self._attempts.get(task, {}).values()
        nodes = self._living_nodes() if len(attempts) >= DEATHS else frozenset()
        deaths = Counter(attempt.episode for attempt in attempts)
        alone = Counter(attempt.episode for attempt in attempts if attempt.node in nodes)
        for episode, count in deaths.items():
            if alone[episode] >= DEATHS or count >= DEATHS_WITH_NODES:
                detail = f"the worker process ended {count} times while it was read: it crashes or hangs its reader"
                self._guilty.setdefault(episode, ("kills-reader", detail))
        return self._guilty


class RayWatch:
    """An `EpisodeWatch` for the task of this process. Use as a context manager around one attempt.

    Args:
        owner: name of the encoder that requested the task; empty: the driver did.
    """

    def __init__(self, registry: Any, task: str, limit_s: float, owner: str = "") -> None:
        self._registry, self._task, self._limit_s, self._owner = registry, task, limit_s, owner
        self._node = ray.get_runtime_context().get_node_id()
        self._attempt = uuid.uuid4().hex

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._registry.finished.remote(self._task, self._attempt)

    def blamed(self) -> Mapping[str, tuple[str, str]]:
        try:
            found: Mapping[str, tuple[str, str]] = ray.get(self._registry.blamed.remote(self._task))
        except RayError:  # the registry's node died; a new registry has no earlier attempts
            return {}
        return found

    @contextlib.contextmanager
    def reading(self, episode: str) -> Iterator[None]:
        with contextlib.suppress(RayError):
            ray.get(self._registry.started.remote(self._task, self._attempt, episode, self._owner, self._node))
        timer = threading.Timer(self._limit_s, self._give_up, (episode,))
        timer.daemon = True
        timer.start()
        faulthandler.dump_traceback_later(self._limit_s + GRACE_S, exit=True, file=_STANDARD_ERROR)
        try:
            yield
        finally:
            timer.cancel()
            faulthandler.cancel_dump_traceback_later()

    def _give_up(self, episode: str) -> None:
        with contextlib.suppress(RayError):
            ray.get(self._registry.timed_out.remote(episode))
        faulthandler.dump_traceback(file=_STANDARD_ERROR)
        os._exit(1)
