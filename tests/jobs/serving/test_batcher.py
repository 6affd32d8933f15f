"""Queries that meet a busy policy go together, and each gets its own answer."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest

from jobs.serving.batcher import Answer, Batcher, Query
from jobs.serving.metrics.meter import Meter
from jobs.serving.metrics.prometheus import ServingMetrics
from pipeline.errors import RunError
from tests.jobs.serving.fakes import IN_TIME_S, FakePolicy, expected, observation


def queries(*numbers: int) -> list[Query]:
    return [Query(observation(number), 3 * number) for number in numbers]


def busy(policy: FakePolicy, batcher: Batcher) -> Future[Answer]:
    """A query that the policy works on until its gate opens."""
    policy.gate.clear()
    (answer,) = batcher.submit(queries(0))
    assert policy.entered.wait(IN_TIME_S)
    return answer


def test_those_who_wait_go_together_in_order_up_to_the_limit() -> None:
    policy = FakePolicy()
    batcher = Batcher(policy, max_batch=3)
    first = busy(policy, batcher)
    answers = [*batcher.submit(queries(1, 2)), *batcher.submit(queries(3)), *batcher.submit(queries(4))]
    assert batcher.waiting == 4
    policy.gate.set()
    found = [answer.result(IN_TIME_S) for answer in (first, *answers)]
    assert policy.calls == [1, 3, 1]
    assert [answer.batch for answer in found] == [1, 3, 1, 3, 3]  # one of each message in turn
    for number, answer in enumerate(found):
        np.testing.assert_array_equal(answer.actions, expected(observation(number), 3 * number))
    batcher.close(IN_TIME_S)


def test_a_query_does_not_wait_for_all_those_of_long_messages() -> None:
    policy = FakePolicy()
    batcher = Batcher(policy, max_batch=4)
    busy(policy, batcher)
    long = [answer for _ in range(3) for answer in batcher.submit(queries(*range(1, 17)))]
    (late,) = batcher.submit(queries(9))
    assert batcher.submit([]) == []
    order: list[Future[Answer]] = []
    for answer in (*long, late):
        answer.add_done_callback(order.append)
    policy.gate.set()
    for answer in long:
        answer.result(IN_TIME_S)
    assert order.index(late) < 4
    assert policy.calls == [1] + [4] * 12 + [1]
    batcher.close(IN_TIME_S)


def test_an_error_reaches_only_whom_it_concerns() -> None:
    policy = FakePolicy(broken=(observation(2).instruction,))
    batcher = Batcher(policy, max_batch=8)
    busy(policy, batcher)
    one, two, three = batcher.submit(queries(1, 2, 3))
    policy.gate.set()
    np.testing.assert_array_equal(one.result(IN_TIME_S).actions, expected(observation(1), 3))
    np.testing.assert_array_equal(three.result(IN_TIME_S).actions, expected(observation(3), 9))
    with pytest.raises(RuntimeError, match="out of ideas for xxx"):
        two.result(IN_TIME_S)
    assert policy.calls == [1, 3, 1, 1, 1]
    batcher.close(IN_TIME_S)


def test_cancelled_queries_are_left_out_and_the_others_answered_before_the_end() -> None:
    policy = FakePolicy()
    batcher = Batcher(policy, max_batch=8)
    first = busy(policy, batcher)
    one, two, three = batcher.submit(queries(1, 2, 3))
    assert two.cancel()
    assert not first.cancel()
    policy.gate.set()
    batcher.close(IN_TIME_S)
    assert policy.calls == [1, 2]
    assert one.done() and three.done()  # noqa: PT018
    with pytest.raises(RunError, match="is stopping"):
        batcher.submit(queries(4))


def test_actions_of_a_wrong_shape_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = FakePolicy()
    monkeypatch.setattr(policy, "act", lambda observations, seeds: np.zeros((len(observations), 4, 3), np.float32))
    batcher = Batcher(policy, max_batch=8)
    (answer,) = batcher.submit(queries(1))
    with pytest.raises(RunError, match=r"gave actions \[1, 4, 3\] instead of \[1, 4, 2\]"):
        answer.result(IN_TIME_S)
    batcher.close(IN_TIME_S)


def test_the_meter_counts_queries_calls_and_latencies() -> None:
    now = [10.0]
    meter = Meter(ServingMetrics(), lambda: now[0])
    assert meter.line(0) is None
    for latency in range(1, 101):
        meter.answered(latency / 1000, [4])
    now[0] += 8.0
    assert meter.line(3) == (
        "12.5 queries/s, batch 4.0, latency p50 50.5 ms, p99 99.0 ms, 3 clients, 100 queries, 0 errors"
    )
    assert meter.line(3) is None
    now[0] += 1.0
    meter.answered(0.5, [1, 2, 2])
    assert meter.line(1) == (
        "3.0 queries/s, batch 1.5, latency p50 500.0 ms, p99 500.0 ms, 1 clients, 103 queries, 0 errors"
    )
