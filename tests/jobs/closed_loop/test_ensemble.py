"""Which action comes out of overlapping chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.closed_loop import ensemble
from jobs.closed_loop.ensemble import EnsembleMode, Ensembler

AVERAGING = [EnsembleMode.TEMPORAL, EnsembleMode.ADAPTIVE]


def chunk_of(step: int, length: int) -> np.ndarray:
    """Actions that name the step they are meant for, and the step they were predicted at: [T, 2]."""
    return np.array([[step + offset, step] for offset in range(length)], np.float32)


def walk(ensembler: Ensembler, steps: int, length: int) -> tuple[np.ndarray, list[int]]:
    """The actions of an episode, and the steps at which a chunk was due."""
    actions, due = [], []
    for step in range(steps):
        try:
            actions.append(ensembler.next())
        except ValueError:
            due.append(step)
            ensembler.add(chunk_of(step, length))
            actions.append(ensembler.next())
    return np.stack(actions), due


sizes = st.tuples(st.integers(1, 6), st.integers(0, 5), st.integers(0, 4), st.integers(1, 25))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(mode=st.sampled_from(list(EnsembleMode)), size=sizes)
def test_every_action_was_meant_for_its_step(mode: EnsembleMode, size: tuple[int, int, int, int]) -> None:
    execute, more, unused, steps = size
    actions, asked = walk(Ensembler(mode, execute, execute + more), steps, execute + more + unused)
    np.testing.assert_allclose(actions[:, 0], np.arange(steps), atol=1e-4)
    assert asked == list(range(0, steps, execute))
    assert actions.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(mode=st.sampled_from(AVERAGING), size=sizes)
def test_no_prediction_older_than_the_horizon_counts(mode: EnsembleMode, size: tuple[int, int, int, int]) -> None:
    execute, more, unused, steps = size
    actions, _ = walk(Ensembler(mode, execute, execute + more), steps, execute + more + unused)
    ages = np.arange(steps) - actions[:, 1]
    assert (ages >= -1e-4).all()
    assert (ages <= execute + more - 1 + 1e-4).all()


def test_without_averaging_the_newest_chunk_acts_alone() -> None:
    actions, _ = walk(Ensembler(EnsembleMode.NONE, 3, 7), 9, 7)
    np.testing.assert_array_equal(actions[:, 1], [0, 0, 0, 3, 3, 3, 6, 6, 6])


def test_temporal_weights_are_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    decay = 0.5
    monkeypatch.setattr(ensemble, "TEMPORAL_DECAY", decay)
    actions, _ = walk(Ensembler(EnsembleMode.TEMPORAL, 1, 3), 6, 3)
    weights = np.exp(-decay * np.arange(3))
    expected = weights @ [3, 4, 5] / weights.sum()
    np.testing.assert_allclose(actions[5, 1], expected, rtol=1e-6)


def test_adaptive_weights_go_by_agreement_with_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble, "ADAPTIVE_ALPHA", 2.0)
    ensembler = Ensembler(EnsembleMode.ADAPTIVE, 1, 2)
    ensembler.add(np.array([[1, 0], [0, 3]], np.float32))
    ensembler.next()
    ensembler.add(np.array([[2, 0], [2, 0]], np.float32))
    across, same = np.exp(0.0), np.exp(2.0)
    np.testing.assert_allclose(
        ensembler.next(), (across * np.array([0, 3]) + same * np.array([2, 0])) / (across + same), rtol=1e-5
    )


predictions = st.lists(st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3), min_size=2, max_size=6)


@settings(max_examples=80, deadline=None)
@given(rows=predictions, mode=st.sampled_from(AVERAGING))
def test_a_mean_lies_between_what_was_predicted(rows: list[list[float]], mode: EnsembleMode) -> None:
    """Each chunk predicts one thing for all its steps, so the last action averages all of them."""
    ensembler = Ensembler(mode, 1, len(rows))
    for row in rows:
        ensembler.add(np.tile(np.array(row, np.float32), (len(rows), 1)))
        action = ensembler.next()
    values = np.array(rows, np.float32)
    assert (action >= values.min(axis=0) - 1e-5).all()
    assert (action <= values.max(axis=0) + 1e-5).all()


@settings(max_examples=40, deadline=None)
@given(rows=predictions)
def test_without_decay_and_with_alpha_0_both_are_the_plain_mean(rows: list[list[float]]) -> None:
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "TEMPORAL_DECAY", 0)
        patch.setattr(ensemble, "ADAPTIVE_ALPHA", 0)
        for mode in AVERAGING:
            ensembler = Ensembler(mode, 1, len(rows))
            for row in rows:
                ensembler.add(np.tile(np.array(row, np.float32), (len(rows), 1)))
                action = ensembler.next()
            found.append(action)
    np.testing.assert_allclose(found[0], np.mean(np.array(rows, np.float32), axis=0), atol=1e-5)
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)


def test_a_caller_may_change_what_it_gave_and_got() -> None:
    ensembler, chunk = Ensembler(EnsembleMode.NONE, 2, 2), np.ones((2, 2), np.float32)
    ensembler.add(chunk)
    chunk[:] = 5
    ensembler.next()[:] = 7
    np.testing.assert_array_equal(ensembler.next(), [1, 1])


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (np.zeros(7), r"must be \[T, A\].*got \[7\]"),
        (np.zeros((1, 7)), r"T of at least 2, got \[1, 7\]"),
        (np.zeros((4, 6)), r"actions had 7 numbers, got 6"),
        (np.full((4, 7), np.nan), r"actions must be finite"),
    ],
)
def test_a_chunk_that_cannot_be_executed_is_refused(chunk: np.ndarray, message: str) -> None:
    ensembler = Ensembler(EnsembleMode.TEMPORAL, 2, 4)
    ensembler.add(np.zeros((4, 7), np.float32))
    with pytest.raises(ValueError, match=message):
        ensembler.add(chunk)


def test_an_action_without_a_chunk_is_refused() -> None:
    ensembler = Ensembler(EnsembleMode.ADAPTIVE, 1, 4)
    ensembler.add(np.zeros((4, 7), np.float32))
    ensembler.next()
    with pytest.raises(ValueError, match=r"call add first"):
        ensembler.next()
