"""Queries of many clients -> few calls of a policy.

One thread calls the policy. A query that finds it idle is answered at once; those that arrive while it is busy go
together into the next call: one of each message in turn, in order of arrival. So a batch grows with the load, no query
waits for others, and nobody waits for all the queries of messages that hold many.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.common.policy.committed import Committed
from jobs.common.policy.robot_interface import Policy, RobotObservation
from pipeline.errors import RunError


@dataclass(frozen=True)
class Query:
    """An observation, checked, the seed of its noise, and what the robot is about to do meanwhile."""

    observation: RobotObservation
    seed: int
    committed: Committed | None = None


@dataclass(frozen=True)
class Answer:
    """The policy's answer to a query.

    actions   float32 [T, A] in the build's units
    wait_ms   from the query's arrival to the call of the policy;  infer_ms  in the call
    batch     queries in the call
    """

    actions: NDArray[np.float32]
    wait_ms: float
    infer_ms: float
    batch: int


@dataclass(frozen=True)
class _Waiting:
    query: Query
    answer: Future[Answer]
    arrived: float


class Batcher:
    """Calls a policy, in one thread, for queries from any thread.

    Args:
        max_batch: most observations in a call.
        called: told, in that thread, how many there were in a call that was answered.
    """

    def __init__(self, policy: Policy, max_batch: int, called: Callable[[int], None] = lambda _: None) -> None:
        self._policy, self._max_batch, self._called = policy, max_batch, called
        self._waiting: deque[deque[_Waiting]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        # A daemon: a policy that never returns must not keep the process from ending
        self._thread = threading.Thread(target=self._work, name="policy", daemon=True)
        self._thread.start()

    def submit(self, queries: Sequence[Query], first: bool = False) -> list[Future[Answer]]:
        """Queue the queries of a message, with `first` ahead of those that wait.

        A future that is cancelled before its call is left out of it. A call that fails with several queries is repeated
        for each alone, so that only the wrong query fails: its future has the policy's own exception, or a RunError for
        actions of a wrong shape.

        Raises:
            RunError: the batcher is closed.
        """
        now = time.monotonic()
        waiting = deque(_Waiting(query, Future(), now) for query in queries)
        answers = [entry.answer for entry in waiting]
        with self._changed:
            if self._closed:
                raise RunError("the policy server is stopping")
            if waiting and first:
                self._waiting.appendleft(waiting)
            elif waiting:
                self._waiting.append(waiting)
            self._changed.notify()
        return answers

    @property
    def waiting(self) -> int:
        """Queries that no call has taken yet."""
        with self._changed:
            return sum(map(len, self._waiting))

    def close(self, timeout_s: float | None = None) -> None:
        """Refuse new queries, answer those that wait, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while batch := self._next():
            self._call(batch)

    def _next(self) -> list[_Waiting]:
        """The next call's queries; none at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return []
                batch: list[_Waiting] = []
                while self._waiting and len(batch) < self._max_batch:
                    message = self._waiting.popleft()
                    entry = message.popleft()
                    if message:
                        self._waiting.append(message)
                    if entry.answer.set_running_or_notify_cancel():
                        batch.append(entry)
                if batch:
                    return batch

    def _call(self, batch: Sequence[_Waiting]) -> None:
        started = time.monotonic()
        try:
            actions = self._act([entry.query for entry in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            for entry in batch:
                self._call([entry])
            return
        took = 1e3 * (time.monotonic() - started)
        self._called(len(batch))
        for entry, chunk in zip(batch, actions, strict=True):
            entry.answer.set_result(Answer(chunk, 1e3 * (started - entry.arrived), took, len(batch)))

    def _act(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        interface = self._policy.interface
        asked = [query.observation for query in queries], [query.seed for query in queries]
        committed = [query.committed for query in queries]
        going_on = any(one is not None for one in committed)
        actions = self._policy.act_continuing(*asked, committed) if going_on else self._policy.act(*asked)
        wanted = (len(queries), interface.chunk, interface.action)
        if actions.shape != wanted:
            raise RunError(f"the policy gave actions {list(actions.shape)} instead of {list(wanted)}")
        return np.asarray(actions, np.float32)
