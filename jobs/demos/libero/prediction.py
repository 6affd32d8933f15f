"""How long a study will take, from what its parts took elsewhere and, once some have ended, here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobs.common.text import markdown_table
from jobs.demos.libero.parts import Part


@dataclass(frozen=True)
class Cost:
    """Seconds of one core: of any part of a kind, and of each of what it counts, `unit`."""

    start: float
    each: float
    unit: str


COSTS = {
    "collect": Cost(20, 15, "demonstrations"),
    "preprocess": Cost(60, 0.012, "windows"),
    "audit": Cost(5, 0.0025, "windows"),
    "world model": Cost(10, 0.29, "steps"),
    "probe": Cost(25, 0, "runs"),
    "policy": Cost(12, 0.49, "steps"),
    "script": Cost(20, 0.08, "simulator steps"),
    "evaluate": Cost(20, 0.05, "simulator steps"),
}
"""Of a core of an Intel Xeon, see docs/results.md. Simulator steps are counted as if every episode went to its limit;
the script ends sooner, and is shown a picture at every step."""


@dataclass(frozen=True)
class Timed:
    """A line of parts.jsonl: a complete part, what it had to do, and the seconds of its last call."""

    command: str
    kind: str
    amount: float
    seconds: float


def predicted(kind: str, amount: float, done: Iterable[Timed] = ()) -> float:
    """Seconds of a part: as long as parts of its kind took here, where there are any, else as elsewhere."""
    here = [(timed.seconds, _elsewhere(kind, timed.amount)) for timed in done if timed.kind == kind]
    factor = sum(seconds for seconds, _ in here) / sum(other for _, other in here) if here else 1.0
    return factor * _elsewhere(kind, amount)


def describe_prediction(parts: Sequence[Part], left: Sequence[Part], done: Sequence[Timed], at_a_time: int) -> str:
    """What there is to do, as Markdown: kinds, how much of each, hours.

    Args:
        parts: all;  left: those that are not complete;  done: parts.jsonl.
    """
    rows = []
    for kind, cost in COSTS.items():
        own = [part for part in left if part.kind == kind]
        if own:
            hours = sum(predicted(kind, part.amount, done) for part in own) / 3600
            rows.append((kind, str(len(own)), f"{sum(p.amount for p in own):,.0f} {cost.unit}", f"{hours:.2f}"))
    total = sum(float(row[3]) for row in rows)
    lines = [f"{len(parts)} parts, complete: {len(parts) - len(left)}."]
    if rows:
        lines += [
            f"Predicted for the rest: {total:.1f} hours of one core; with at_a_time={at_a_time} on as many cores about "
            f"{total / at_a_time:.1f} hours (by what parts took on another machine, or here where some ended).",
            "",
            markdown_table(("part", "number", "in all", "core hours"), rows),
        ]
    return "\n".join(lines)


def _elsewhere(kind: str, amount: float) -> float:
    return COSTS[kind].start + COSTS[kind].each * amount
