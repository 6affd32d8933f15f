"""The SHA-256 of raw files that many episodes share: one process of a run computes each, the others are told."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.sources.known_hashes import HERE, Version

KEPT = 200_000
"""Hashes that the actor keeps: about 100 MB."""

PAUSE_S = 0.25
"""Between two questions for a hash that another process is at."""

PATIENCE_S = 30.0
"""What is not there so much later than it could be is computed by who waits for it: its maker may have died."""

BYTES_PER_S = 50e6
"""At least so fast is a file hashed from a bad disk."""


def start_hashes() -> Any:
    """An actor of `HashTable` on the driver's node, with what this process has hashed already."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(HashTable)
    return actor.remote(HERE.all())


class HashTable:
    """Hashes of versions of files, and which of them somebody computes at the moment."""

    def __init__(self, known: Mapping[Version, str]) -> None:
        self._known: OrderedDict[Version, str | None] = OrderedDict(known)

    def ask(self, version: Version) -> tuple[str | None, bool]:
        """The hash or None, and whether it is the asking process that has to compute it."""
        mine = version not in self._known
        if mine:
            self._keep(version, None)
        return self._known[version], mine

    def tell(self, version: Version, sha256: str) -> None:
        """A hash was computed."""
        self._keep(version, sha256)

    def forget(self, version: Version) -> None:
        """A file could not be hashed: whoever asks next has to try."""
        if self._known.get(version) is None:
            self._known.pop(version, None)

    def _keep(self, version: Version, sha256: str | None) -> None:
        self._known[version] = sha256
        while len(self._known) > KEPT:
            self._known.popitem(last=False)


class SharedHashes:
    """A `HashService` for the tasks of a run. Without its actor every process computes what it needs."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def sha256(self, version: Version, make: Callable[[], str]) -> str:
        """See `HashService`."""
        size = next((part for part in version[1][1:2] if isinstance(part, int)), 0)
        until = time.monotonic() + PATIENCE_S + size / BYTES_PER_S
        while time.monotonic() < until:
            try:
                found, mine = ray.get(self._actor.ask.remote(version))
            except RayError:
                return make()
            if found is not None:
                return str(found)
            if mine:
                break
            time.sleep(PAUSE_S)
        try:
            sha256 = make()
        except BaseException:
            self._actor.forget.remote(version)
            raise
        self._actor.tell.remote(version, sha256)
        return sha256
