"""Recorded functions without a device: a stand-in for CUDA's graph, which runs the call again into the same tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from model import recording
from model.recording import Recorded, fill


@dataclass(frozen=True)
class Pair:
    first: Tensor
    name: str


def graph_of(function: Callable[[], Any], _: Any) -> tuple[Callable[[], None], Any]:
    """As `capture`: the call's results in tensors of their own, which a replay writes to."""
    result = function()

    def replay() -> None:
        again = function()
        with torch.no_grad():
            fill(result, again)

    return replay, result


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "capture", graph_of)
    monkeypatch.setattr(recording, "warm_up", lambda function: [function() for _ in range(recording.WARM_UP)])
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))


def test_other_values_of_the_same_shapes_are_computed_again_by_one_recording() -> None:
    calls: list[tuple[int, ...]] = []

    def double(pair: Pair, added: Tensor) -> tuple[Tensor, str]:
        calls.append(tuple(pair.first.shape))
        return 2 * pair.first + added, pair.name

    recorded = Recorded(double)
    for length, runs in ((3, 4), (3, 1), (5, 4), (3, 1)):  # warm-up, recording and replay; then replays alone
        first, added = torch.randn(length), torch.randn(length)
        before = len(calls)
        found, name = recorded(Pair(first, "a"), added)
        assert torch.equal(found, 2 * first + added)
        assert name == "a"
        assert len(calls) - before == runs
    assert recorded(Pair(torch.zeros(3), "b"), torch.zeros(3))[1] == "b"  # what is no tensor belongs to the shapes


def test_the_recordings_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "KEPT", 2)
    made: list[int] = []

    def count(x: Tensor) -> Tensor:
        made.append(len(x))
        return x + 1

    recorded = Recorded(count)
    for length in (1, 2, 1, 3):
        recorded(torch.zeros(length))
    made.clear()
    recorded(torch.zeros(1))
    assert made == [1]
    made.clear()
    recorded(torch.zeros(2))
    assert made == [2] * 4


def test_what_unasked_runs_change_is_put_back() -> None:
    total = torch.zeros(())

    @contextmanager
    def undone() -> Iterator[None]:
        before = total.clone()
        yield
        total.copy_(before)

    def add(x: Tensor) -> Tensor:
        return total.add_(x.sum())

    recorded = Recorded(add, undone)
    for number in range(1, 4):
        recorded(torch.ones(2))
        assert total == 2 * number
