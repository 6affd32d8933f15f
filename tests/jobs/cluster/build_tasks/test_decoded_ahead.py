"""What is decoded ahead is bounded, whether or not its size is known."""

from __future__ import annotations

from jobs.cluster.build_tasks.decoded_ahead import DecodedAhead


def test_it_is_bounded_and_one_group_always_goes() -> None:
    ahead = DecodedAhead(100)
    assert ahead.take(60, must=False) == 60
    assert ahead.take(60, must=False) is None
    assert ahead.take(60, must=True) == 60
    ahead.give(60)
    ahead.give(60)
    assert ahead.take(100, must=False) == 100


def test_groups_of_unknown_size_count_as_the_largest_that_arrived() -> None:
    ahead = DecodedAhead(100)
    first = ahead.take(None, must=True)
    assert first == 100
    assert ahead.take(None, must=False) is None
    assert ahead.take(1, must=False) is None
    assert ahead.arrived(first, 30) == 30
    assert [ahead.take(None, must=False) for _ in range(3)] == [30, 30, None]
    ahead.give(ahead.arrived(30, 50))
    assert ahead.take(None, must=False) is None  # 60 are used, and the next one may be as large
    ahead.give(30)
    assert ahead.take(None, must=False) == 50
