"""Which seeds are attempted, and the outcome of each: a function of the seeds alone, not of the number of simulators.

A task's demonstrations are its first successes in the order of seeds. A seed is attempted only when it is needed
whatever the outcomes of the running ones, so that nothing is recorded in vain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jobs.closed_loop.collect.settings import LEAST_ATTEMPTS
from jobs.closed_loop.rollout import MOST_CRASHES


@dataclass(frozen=True)
class Attempt:
    """A line of episodes.jsonl.

    task, seed  which
    outcome     "success"; "failure": the goal was not reached; "refused": the simulator answered with an error;
                "crash": it died, and the seed is attempted again
    frames      observations recorded
    seconds     of wall clock
    detail      the error, for the last two
    """

    task: int
    seed: int
    outcome: str
    frames: int = 0
    seconds: float = 0.0
    detail: str = ""


class TaskAttempts:
    """The attempts of one task: `wanted` successes, from the seed `first` on."""

    def __init__(self, wanted: int, first: int, earlier: Iterable[Attempt] = ()) -> None:
        self._wanted, self._first = wanted, first
        self._decided: dict[int, bool] = {}
        self._running: set[int] = set()
        self._crashes: Counter[int] = Counter()
        self.last_detail = ""
        for attempt in earlier:
            self.record(attempt)

    def take(self) -> int | None:
        """The seed to attempt now, running until it is recorded; None: none is needed yet, or ever."""
        seed = self.next()
        if seed is not None:
            self._running.add(seed)
        return seed

    def next(self) -> int | None:
        """What `take` would return."""
        seed, hoped = self._first, 0
        while hoped < self._wanted:
            if seed not in self._decided and seed not in self._running:
                return seed
            hoped += self._decided.get(seed, True)
            seed += 1
        return None

    def record(self, attempt: Attempt) -> None:
        """An attempt has ended. A seed that crashed is free again; the third crash counts as a failure."""
        self._running.discard(attempt.seed)
        self.last_detail = attempt.detail or self.last_detail
        if attempt.outcome == "crash":
            self._crashes[attempt.seed] += 1
            if self._crashes[attempt.seed] < MOST_CRASHES:
                return
        self._decided[attempt.seed] = attempt.outcome == "success"

    @property
    def accepted(self) -> tuple[int, ...]:
        """Seeds of the demonstrations, rising."""
        return tuple(seed for seed, success in self._in_order() if success)

    @property
    def finished(self) -> bool:
        """Whether there are enough demonstrations."""
        return len(self.accepted) == self._wanted

    @property
    def count(self) -> int:
        """Number of attempted seeds up to the last one needed so far."""
        return len(list(self._in_order()))

    @property
    def crashes(self) -> int:
        """Crashes of the simulator in them."""
        return sum(self._crashes[seed] for seed, _ in self._in_order())

    def too_many_failures(self, share: float) -> tuple[int, int] | None:
        """(failures, attempts) as soon as more than `share` of at least ten attempts failed; None: never."""
        failures = 0
        for attempts, (_, success) in enumerate(self._in_order(), 1):
            failures += not success
            if attempts >= LEAST_ATTEMPTS and failures > share * attempts:
                return failures, attempts
        return None

    def _in_order(self) -> Iterator[tuple[int, bool]]:
        """Decided seeds from the first on without a gap, until there are enough successes."""
        seed, successes = self._first, 0
        while successes < self._wanted and seed in self._decided:
            yield seed, self._decided[seed]
            successes += self._decided[seed]
            seed += 1
