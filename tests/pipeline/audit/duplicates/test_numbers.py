"""Held-out episodes with the numbers of a train episode are found, also cut; honest ones that are alike are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.audit.duplicates.numbers import PIECE, NumberSearch, SameNumbers, number_marks

Values = NDArray[np.float32]


def _episode(seed: int, frames: int = 100) -> tuple[Values, Values]:
    rng = np.random.default_rng(seed)
    actions = rng.normal(size=(frames, 7)).astype(np.float32)
    return np.cumsum(actions, axis=0), actions


def _found(state: Values, actions: Values | None, train: tuple[Values, Values | None]) -> list[SameNumbers]:
    search = NumberSearch()
    search.add("a", "train", number_marks(*_episode(1), "train"))
    search.add("b", "train", number_marks(*train, "train"))
    search.add("c", "val", number_marks(*_episode(2), "val"))
    search.add("d", "val", number_marks(state, actions, "val"))
    return list(search.matches())


COPIES: dict[str, Callable[[Values], Values]] = {
    "as it is": lambda values: values,
    "cut at the beginning": lambda values: values[17:],
    "cut at both ends": lambda values: values[5 : 5 + 2 * PIECE],
    "with others before it": lambda values: np.concatenate([-values[:9], values]),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_of_the_numbers_is_found(name: str) -> None:
    state, actions = _episode(0)
    copied = COPIES[name](state), COPIES[name](actions)
    assert _found(*copied, (state, actions)) == [SameNumbers("d", "b")]
    assert _found(copied[0], None, (state, None)) == [SameNumbers("d", "b")]


def test_a_short_episode_counts_as_a_whole() -> None:
    state, actions = _episode(0, frames=12)
    assert _found(state, actions, (state, actions)) == [SameNumbers("d", "b")]
    assert _found(state[:-1], actions[:-1], (state, actions)) == []
    assert _found(state[:7], actions[:7], (state[:7], actions[:7])) == []


def test_what_is_alike_and_no_copy_is_not_found() -> None:
    state, actions = _episode(0)
    assert _found(np.nextafter(state, np.float32(9)), actions, (state, actions)) == []
    rest = np.repeat(state[:1], 100, axis=0)
    assert _found(rest, np.zeros_like(actions), (rest, np.zeros_like(actions))) == []
    home = np.concatenate([rest[:40], _episode(3)[0]])  # both begin at home
    other = np.concatenate([rest[:40], _episode(4)[0]])
    assert _found(home, None, (other, None)) == []


def test_human_video_has_no_numbers() -> None:
    assert not len(number_marks(None, None, "val"))
