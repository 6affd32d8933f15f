"""What a run's predictions depend on, beside runs whose predictor something else steers: rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.report.run_files import RunFolder, inner, number
from jobs.training.held_out.pairs import PairKind
from jobs.training.held_out.text import PAIRS, groups_word

STEERED_BY = {
    "latent_actions": "latent actions",
    "true_motion": "true motion: ceiling",
    "constant": "a constant: floor",
    "words": "the words alone",
    "shuffled": "latent actions of another sample, in training",
}


@dataclass(frozen=True)
class RelianceRow:
    """A measure of one run and build, with its 95 % interval, None where there are too few groups.

    groups        as in "100 scenes"; empty where a file does not tell
    steps, views  the same of each future step and view; empty where there are none
    """

    build: str
    measure: str
    steered_by: str
    run: str
    value: float
    low: float | None
    high: float | None
    pairs: int
    groups: str
    steps: tuple[float | None, ...] = ()
    views: tuple[float | None, ...] = ()


def reliance_rows(runs: Sequence[RunFolder]) -> list[RelianceRow]:
    """By build and measure, the runs below each other in their order."""
    found = [row for run in runs for row in _rows(run)]
    order = {key: i for i, key in enumerate(dict.fromkeys((row.build, row.measure) for row in found))}
    return sorted(found, key=lambda row: order[row.build, row.measure])


def _rows(run: RunFolder) -> Iterator[RelianceRow]:
    steered = str(inner(inner(run.config, "model"), "predictor").get("steered_by", "latent_actions"))
    who = (STEERED_BY.get(steered, steered), run.path.resolve().name)
    for build, numbers in run.held_out.items():
        for kind, words in PAIRS.items():
            reliance = inner(inner(numbers, "latent_action_reliance"), kind)
            steps, views = _list(reliance.get("per_step")), _list(reliance.get("per_view"))
            names = (build, f"latent-action reliance, {words}", *who)
            yield from _row(inner(reliance, "all"), names, kind, steps, views)
        test = inner(numbers, "two_alternative")
        yield from _row(test, (build, "two-alternative test", *who), PairKind.SAME_SCENE)
        for kind, words in PAIRS.items():
            names = (build, f"image reliance, {words}", *who)
            yield from _row(inner(inner(numbers, "image_reliance"), kind), names, kind)


def _row(
    interval: Mapping[str, Any],
    names: tuple[str, str, str, str],
    kind: PairKind,
    steps: tuple[float | None, ...] = (),
    views: tuple[float | None, ...] = (),
) -> Iterator[RelianceRow]:
    """None where a number is missing or not finite; of few groups the interval is null."""
    value, low, high, pairs, groups = (number(interval.get(key)) for key in ("value", "low", "high", "pairs", "groups"))
    few = groups is not None and interval.get("low") is interval.get("high") is None
    if value is not None and pairs is not None and (few or (low is not None and high is not None)):
        over = "" if groups is None else f"{int(groups):,} {groups_word(kind)}"
        yield RelianceRow(*names, value, low, high, int(pairs), over, steps, views if len(views) > 1 else ())


def _list(value: Any) -> tuple[float | None, ...]:
    return tuple(map(number, value[:64])) if isinstance(value, list) else ()
