"""Outcomes of episodes, kept line by line, and their success rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jobs.common.json_lines import JsonLines
from pipeline.errors import BuildError


@dataclass(frozen=True)
class Outcome:
    """One finished episode.

    task, start  which; `start` is the index of the benchmark's start state
    success      LIBERO's own test
    steps        simulator steps until success or the limit;  queries  of the policy
    crashes      times the simulator died in it before it could be finished
    seconds      of wall clock
    swapped_instruction_success  whether the task was done whose instruction the policy got instead; None: it got its
                 own, the scene lacks that task's objects, or its goal held at the start
    """

    task: int
    start: int
    success: bool
    steps: int
    queries: int
    crashes: int
    seconds: float
    swapped_instruction_success: bool | None = None


@dataclass(frozen=True)
class Rate:
    """A share of successes with its 95 % Wilson interval (Wilson 1927), all in 0..1."""

    successes: int
    episodes: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Successes over episodes; NaN without episodes."""
        return self.successes / self.episodes if self.episodes else math.nan


def success_rate(successes: int, episodes: int) -> Rate:
    """The interval is [0, 1] without episodes. Raises ValueError for more successes than episodes."""
    if not episodes:
        return Rate(0, 0, 0.0, 1.0)
    # Imported here: it takes longer than everything else that an evaluation imports.
    from scipy.stats import binomtest

    interval = binomtest(successes, episodes).proportion_ci(method="wilson")
    return Rate(successes, episodes, float(interval.low), float(interval.high))


def difference(one: Rate, other: Rate) -> tuple[float, float, float]:
    """one - other as a share, and its 95 % interval: Newcombe's, from two Wilson intervals (1998, method 10). Raises
    ValueError if one of them has no episodes."""
    if not (one.episodes and other.episodes):
        raise ValueError("a difference needs episodes of both")
    between = one.share - other.share
    low = between - math.hypot(one.share - one.low, other.high - other.share)
    high = between + math.hypot(one.high - one.share, other.share - other.low)
    return between, low, high


def by_episode(log: JsonLines[Outcome]) -> dict[tuple[int, int], Outcome]:
    """Finished episodes of episodes.jsonl, by task and start. Raises BuildError if a line is damaged or an episode is
    listed twice."""
    found: dict[tuple[int, int], Outcome] = {}
    for number, outcome in enumerate(log.read(), 1):
        key = (outcome.task, outcome.start)
        if key in found:
            raise BuildError(f"{log.path}, line {number}: task {key[0]}, start {key[1]} is listed twice")
        found[key] = outcome
    return found


def rates_by_task(outcomes: Iterable[Outcome]) -> dict[int, Rate]:
    """Task -> its rate, tasks in order."""
    counts: dict[int, list[bool]] = {}
    for outcome in outcomes:
        counts.setdefault(outcome.task, []).append(outcome.success)
    return {task: success_rate(sum(counts[task]), len(counts[task])) for task in sorted(counts)}


def swapped_instruction_rate(outcomes: Iterable[Outcome]) -> Rate:
    """Swapped-instruction success, of the episodes where the scene allows it."""
    found = [one.swapped_instruction_success for one in outcomes if one.swapped_instruction_success is not None]
    return success_rate(sum(found), len(found))


def total(rates: Mapping[int, Rate]) -> Rate:
    """All tasks, or other keys, together."""
    return success_rate(sum(r.successes for r in rates.values()), sum(r.episodes for r in rates.values()))


def rate_text(rate: Rate) -> str:
    """As in "16/20 = 80.0 % (58.4-91.9)"."""
    if not rate.episodes:
        return "no episodes"
    return f"{rate.successes}/{rate.episodes} = {100 * rate.share:.1f} % ({100 * rate.low:.1f}-{100 * rate.high:.1f})"
