"""Films of a made-up robot: a bright hand on a table of its own in each episode, and where the hand is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.lookahead.cameras.thumbnails import SIDE

Film = NDArray[np.uint8]
Values = NDArray[np.float64]
Change = Callable[[Film], Film]


@dataclass(frozen=True)
class Episode:
    """film [N, SIDE, SIDE], state [N, 2] where the hand is, actions [N, 2] by which it moves from there."""

    id: str
    film: Film
    state: Values
    actions: Values


def episodes(count: int = 24, frames: int = 70, noise: float = 3.0) -> Iterator[Episode]:
    """Smooth motion, with the noise of a sensor in each pixel."""
    for number in range(count):
        rng = np.random.default_rng(number)
        kernel = np.hanning(9)
        moves = np.stack([np.convolve(rng.normal(size=frames + 8), kernel, "valid") for _ in range(2)], axis=1)
        actions = moves * (0.06 * SIDE / 4)
        state = np.cumsum(np.concatenate([rng.uniform(8, SIDE - 8, (1, 2)), actions[:-1]]), axis=0)
        state = SIDE / 2 + (SIDE / 2 - 5) * np.sin((state - SIDE / 2) / SIDE * 2)
        actions = np.diff(state, axis=0, append=state[-1:])
        at = np.arange(SIDE)
        near = np.exp(-((at[None, :, None] - state[:, 0, None, None]) ** 2) / 20)
        near = near * np.exp(-((at[None, None, :] - state[:, 1, None, None]) ** 2) / 20)
        table = rng.normal(100, 10, (SIDE, SIDE))
        film = table + 120 * near + rng.normal(0, noise, near.shape)
        yield Episode(str(number), film.clip(0, 255).astype(np.uint8), state, actions)


def ahead(frames: int) -> Change:
    """Every picture so many frames early, the last one repeated."""
    return lambda film: np.concatenate([film[frames:], np.repeat(film[-1:], frames, axis=0)])


def behind(frames: int) -> Change:
    """Every picture so many frames late, the first one repeated."""
    return lambda film: np.concatenate([np.repeat(film[:1], frames, axis=0), film[:-frames]])


def as_decoded(group: int) -> Change:
    """Groups of frames with their last one first."""

    def change(film: Film) -> Film:
        order = np.arange(len(film))
        for first in range(1, len(film) - group + 1, group):
            order[first : first + group] = [first + group - 1, *range(first, first + group - 1)]
        return film[order]

    return change


def flashing(every: int) -> Change:
    """In the first half single frames are the last one."""

    def change(film: Film) -> Film:
        changed = film.copy()
        changed[3 : len(film) // 2 : every] = film[-1]
        return changed

    return change
