"""Who is named when ranks hang, by what they tell of themselves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from jobs.training.loop.rank_watch import Beat, IdleClock, verdict, within

READS = Beat(7, "reads the samples of step 3", 100.0, 100, "node-b, process 12")
WAITS = Beat(8, "waits for the other ranks", 100.0, 100, "node-a, process 11")


def later(beats: Sequence[Beat | None]) -> list[Beat | None]:
    return [None if beat is None else replace(beat, beats=beat.beats + 3) for beat in beats]


def test_the_rank_that_came_least_far_is_named() -> None:
    before = [WAITS, READS, WAITS]
    text = verdict(before, later(before), 60)
    assert text is not None
    assert text.startswith("rank 1 (node-b, process 12; reads the samples of step 3) hangs. No rank has come further")
    assert "trainer.rank_timeout_s=60 seconds" in text


def test_silence_says_more_than_the_place() -> None:
    """A process that was stopped while it waited, or before another that is behind by a mark."""
    before: list[Beat | None] = [WAITS, READS, WAITS]
    now = later(before)
    now[2] = before[2]
    text = verdict(before, now, 60)
    assert text is not None
    assert text.startswith("rank 2 (node-a, process 11; waits for the other ranks) gives no sign of life. ")


def test_a_rank_that_never_told_is_named_by_its_number() -> None:
    text = verdict([None, WAITS], later([None, WAITS]), 60)
    assert text is not None
    assert text.startswith("rank 0 gives no sign of life. ")


def test_several_are_named() -> None:
    before = [READS, WAITS, READS]
    text = verdict(before, later(before), 60)
    assert text is not None
    assert text.count(" hangs") == 2


def test_all_at_the_same_place_blame_no_rank() -> None:
    before = [WAITS, WAITS]
    text = verdict(before, later(before), 60)
    assert text is not None
    assert text.startswith("all ranks hang at the same place (waits for the other ranks): a device, or the network")


def test_nobody_is_named_while_one_comes_further() -> None:
    before = [WAITS, READS]
    now = later(before)
    now[1] = replace(READS, position=9, beats=103)
    assert verdict(before, now, 60) is None
    now[0] = before[0]  # nor while another is silent
    assert verdict(before, now, 60) is None


def test_a_rank_that_is_slower_than_two_looks_is_not_hung() -> None:
    """It passes a mark every 30 seconds, and others have waited for long."""
    before = [WAITS, replace(READS, idle_s=5.0)]
    now: list[Beat | None] = [replace(WAITS, idle_s=120.0, beats=103), replace(READS, idle_s=25.0, beats=103)]
    assert verdict(before, now, 60) is None


def test_time_in_which_the_process_was_stopped_does_not_count() -> None:
    now = [0.0]
    clock = IdleClock(5.0, lambda: now[0])
    for passed, position, expected in [
        (5, 1, 0.0),  # another place
        (5, 1, 5.0),
        (6, 1, 11.0),
        (900, 1, 0.0),  # stopped: everybody begins anew
        (5, 1, 5.0),
        (5, 2, 0.0),
    ]:
        now[0] += passed
        clock.look(position)
        assert clock.seconds == expected
    now[0] += 40
    clock.rest()  # it was judging
    now[0] += 5
    clock.look(2)
    assert clock.seconds == 45.0


@pytest.mark.parametrize(("seconds", "expected"), [(0.05, "late"), (5.0, "done")])
def test_what_does_not_answer_is_not_waited_for(seconds: float, expected: str) -> None:
    def slow() -> str:
        time.sleep(0.5)
        return "done"

    assert within(seconds, slow, "late") == expected


def test_what_cannot_be_reached_is_no_error_of_the_thread() -> None:
    def fails() -> str:
        raise RuntimeError("connection reset")

    assert within(5.0, fails, "lost") == "lost"
