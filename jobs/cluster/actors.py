"""Actors of one kind on a Ray cluster: loaded side by side, and replaced when they die with their worker or node."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from jobs.cluster.actor_death_rate import DeathRate
from pipeline.errors import RunError

Started = tuple[Any, ray.ObjectRef]
"""The handle of an actor, and the reference of its loading."""


@dataclass
class Member:
    """An actor. ready: its loading, None once that is done; tickets: what it works on."""

    name: str
    handle: Any
    ready: ray.ObjectRef | None
    tickets: set[ray.ObjectRef] = field(default_factory=set)


class ActorGroup:
    """The actors that a pool hands its work to.

    Args:
        what: one of them, for messages.
        start: starts the actor of a name.
        loaded: called with what its loading returned; may refuse it with a RunError.
        patience_s: seconds without any before the run gives up.
    """

    def __init__(
        self, what: str, start: Callable[[str], Started], loaded: Callable[[Any], None], patience_s: float
    ) -> None:
        self._what, self._start, self._loaded, self._patience_s = what, start, loaded, patience_s
        self.members: list[Member] = []
        self._deaths = DeathRate()
        self._idle_since: float | None = None

    @property
    def loaded(self) -> list[Member]:
        """Those that can work."""
        return [member for member in self.members if member.ready is None]

    @property
    def loading(self) -> dict[ray.ObjectRef, Member]:
        """Those that are not there yet, by the reference of their loading."""
        return {member.ready: member for member in self.members if member.ready is not None}

    def start(self, count: int) -> None:
        """Start some more."""
        for _ in range(count):
            name = uuid.uuid4().hex
            self.members.append(Member(name, *self._start(name)))

    def wait_until_loaded(self, step: Callable[[], object]) -> None:
        """Until one is loaded, and for the rest at most as long again: late ones join while the others work.

        Args:
            step: waits a moment and calls `take_loaded` for what is there.
        """
        started = time.monotonic()
        while not self.loaded:
            step()
        until = 2 * time.monotonic() - started
        while time.monotonic() < until and self.loading:
            step()

    def take_loaded(self, member: Member) -> None:
        """The loading of an actor has ended. Raises RunError when it failed by itself."""
        try:
            result = ray.get(member.ready)
        except RayTaskError as error:
            raise RunError(f"an {self._what} did not start: {error.cause or error}") from error
        except RayError as error:
            self.replace(member, error)
            return
        self._loaded(result)
        member.ready = None

    def replace(self, dead: Member, error: RayError) -> set[ray.ObjectRef]:
        """Start another actor in place of one that died. Returns the tickets that are lost with it; none when it was
        replaced before."""
        if dead not in self.members:
            return set()
        count = len(self.members)
        self.members.remove(dead)
        with contextlib.suppress(RayError):
            ray.kill(dead.handle)  # one that is only unreachable must not run beside its successor
        if many := self._deaths.too_many(count):
            raise RunError(f"of {count} {self._what}s {many}, the last one because {short(error)}; look at Ray's logs")
        self.start(1)
        return dead.tickets

    def check_life(self) -> None:
        """Raise RunError after `patience_s` without an actor."""
        if self.loaded:
            self._idle_since = None
            return
        now = time.monotonic()
        self._idle_since = self._idle_since or now
        if now - self._idle_since > self._patience_s:
            raise RunError(
                f"no {self._what} could be started for cluster.patience_s={self._patience_s:g} seconds; the cluster "
                f"has {ray.cluster_resources()}; start nodes, then run the same command again"
            )

    def close(self) -> None:
        """End them all."""
        for member in self.members:
            ray.kill(member.handle)


def short(error: BaseException) -> str:
    """The first line of Ray's message."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
