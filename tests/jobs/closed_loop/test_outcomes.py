from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.closed_loop.outcomes import Outcome, by_episode, difference, rate_text, rates_by_task, success_rate, total
from jobs.common.json_lines import JsonLines
from pipeline.errors import BuildError


def outcome(task: int, start: int, success: bool = True) -> Outcome:
    return Outcome(task, start, success, steps=10, queries=2, crashes=0, seconds=1.5)


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    # By the closed formula, computed apart with 50 digits
    [(16, 20, 0.583983, 0.919333), (0, 10, 0.0, 0.277533), (10, 10, 0.722467, 1.0), (40, 60, 0.540552, 0.772724)],
)
def test_wilson_interval(successes: int, episodes: int, low: float, high: float) -> None:
    rate = success_rate(successes, episodes)
    assert rate.low == pytest.approx(low, abs=2e-5)
    assert rate.high == pytest.approx(high, abs=2e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_solves_wilsons_equation(counts: tuple[int, int]) -> None:
    """Each end p satisfies |share - p| = z sqrt(p (1-p) / n)."""
    successes, episodes = counts
    rate = success_rate(successes, episodes)
    assert 0 <= rate.low <= rate.share <= rate.high <= 1
    for p in (rate.low, rate.high):
        assert abs(rate.share - p) == pytest.approx(1.959963984540054 * math.sqrt(p * (1 - p) / episodes), abs=1e-9)


def test_no_episodes_say_nothing() -> None:
    assert (success_rate(0, 0).low, success_rate(0, 0).high) == (0.0, 1.0)
    assert rate_text(success_rate(0, 0)) == "no episodes"
    with pytest.raises(ValueError, match=r"\(4\).*\(3\)"):
        success_rate(4, 3)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    # The examples of table II in Newcombe 1998, method 10
    [
        ((56, 70), (48, 80), (0.2, 0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.6, 0.1705, 0.8090)),
        ((10, 10), (0, 20), (1.0, 0.6791, 1.0)),
        ((0, 10), (0, 10), (0.0, -0.2775, 0.2775)),
    ],
)
def test_interval_of_a_difference(
    one: tuple[int, int], other: tuple[int, int], expected: tuple[float, float, float]
) -> None:
    found = difference(success_rate(*one), success_rate(*other))
    assert found == pytest.approx(expected, abs=5e-5)
    assert difference(success_rate(*other), success_rate(*one)) == pytest.approx(
        (-expected[0], -expected[2], -expected[1]), abs=5e-5
    )


def test_a_difference_needs_episodes() -> None:
    with pytest.raises(ValueError, match="needs episodes of both"):
        difference(success_rate(1, 2), success_rate(0, 0))


def test_rates_add_up() -> None:
    rates = rates_by_task([outcome(1, 0), outcome(0, 0, success=False), outcome(1, 1, success=False)])
    assert list(rates) == [0, 1]
    assert rate_text(total(rates)) == "1/3 = 33.3 % (6.1-79.2)"


def test_the_log_keeps_what_is_whole(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "episodes.jsonl", Outcome, "outcome")
    assert by_episode(log) == {}
    log.add(outcome(0, 0))
    log.add(outcome(0, 1, success=False))
    whole = log.path.read_bytes()
    for cut in range(len(whole) // 2 + 2, len(whole)):
        log.path.write_bytes(whole[:cut])
        assert list(by_episode(log)) == [(0, 0)]
        log.add(outcome(0, 1, success=False))
        assert log.path.read_bytes() == whole


def test_a_damaged_or_doubled_line_is_named(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "episodes.jsonl", Outcome, "outcome")
    log.add(outcome(0, 0))
    log.add(outcome(0, 0))
    with pytest.raises(BuildError, match=r"line 2: task 0, start 0 is listed twice"):
        by_episode(log)
    log.path.write_text(json.dumps({"task": 1}) + "\n")
    with pytest.raises(BuildError, match=r"line 1 is no outcome"):
        by_episode(log)
