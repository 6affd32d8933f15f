"""Held-out episodes with the very numbers of a train episode (rule L6), whatever their films show.

The same event filmed by another camera, or rendered anew, under another id has other pictures, but the same state and
actions, to the bit. So pieces of them are hashed: of held-out episodes at every frame, of train episodes side by side,
so that an episode that was cut is found too; and episodes as a whole. A robot at rest repeats its numbers honestly:
only pieces in which it moves count.

N frames, S and A channels, M marks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PIECE = 32
"""Frames of a piece."""

WHOLE = 8
"""Frames from which an episode as a whole counts."""

TRAIN = "train"

Marks = NDArray[np.uint64]


def number_marks(state: NDArray[np.float32] | None, actions: NDArray[np.float32] | None, split: str) -> Marks:
    """Hashes of the numbers of an episode, uint64 [M]; none without a state.

    Args:
        state, actions: float32 [N, S] and [N, A].
        split: decides how densely pieces lie.
    """
    if state is None or len(state) < WHOLE:
        return np.zeros(0, np.uint64)
    parts = [state] if actions is None or len(actions) != len(state) else [state, actions]
    rows = np.ascontiguousarray(np.concatenate(parts, axis=1))
    moves = np.concatenate([[0], (np.diff(state, axis=0) != 0).any(axis=1).cumsum()])
    starts = range(0, len(rows) - PIECE + 1, PIECE if split == TRAIN else 1)
    pieces = [(at, at + PIECE) for at in starts] + [(0, len(rows))]
    busy = [(begin, end) for begin, end in pieces if 2 * (moves[end - 1] - moves[begin]) >= end - begin - 1]
    return np.array([_mark(rows[begin:end]) for begin, end in busy], np.uint64)


@dataclass(frozen=True)
class SameNumbers:
    """A held-out episode, and a train episode with the same numbers."""

    episode: str
    other: str


class NumberSearch:
    """Takes episodes of all splits; 8 bytes a mark are kept."""

    def __init__(self) -> None:
        self._episodes: list[str] = []
        self._marks: dict[bool, list[Marks]] = {True: [], False: []}
        self._owners: dict[bool, list[NDArray[np.int64]]] = {True: [], False: []}

    def add(self, episode: str, split: str, marks: Marks) -> None:
        """Add an episode."""
        self._marks[split == TRAIN].append(marks)
        self._owners[split == TRAIN].append(np.full(len(marks), len(self._episodes)))
        self._episodes.append(episode)

    def matches(self) -> Iterator[SameNumbers]:
        """Each held-out episode that has numbers of a train episode, with one of these."""
        train, held_out = (np.concatenate([np.zeros(0, np.uint64), *self._marks[side]]) for side in (True, False))
        owners, own = (np.concatenate([np.zeros(0, np.int64), *self._owners[side]]) for side in (True, False))
        _, first, second = np.intersect1d(train, held_out, return_indices=True)
        found: dict[int, int] = {}
        for i, j in zip(owners[first].tolist(), own[second].tolist(), strict=True):
            found[j] = min(i, found.get(j, i))
        for episode, other in sorted(found.items()):
            yield SameNumbers(self._episodes[episode], self._episodes[other])


def _mark(rows: NDArray[np.float32]) -> int:
    size = f"{rows.shape}".encode()
    return int.from_bytes(hashlib.blake2b(size + rows.tobytes(), digest_size=8).digest(), "big")
