"""A state that holds in the first frame what only the whole episode shows (rule L8): its end, its mean, its length.

Sums over episodes of the first state and of the first, last and mean values of each field (the state itself, actions,
other numbers) decide, field by field. The first value of a reference is known, so what is left beside it counts: a
constant copy of the last pose is found, and so is the distance to it, which begins with the last pose less the first.
A channel that is scaled by its own episode has the same mean and spread in all. The last command says nothing: of a
scripted robot it is the place of an object that every frame shows.

S channels of state, X references, N frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.lookahead.numbers.references import STATE, FieldKey, FieldValues, Values

EPISODES = 8
"""Episodes, and different values of a channel, that are needed to tell."""

COPY, DIFFERENT = 1e-9, 1e-6
"""Share of the variance over the episodes that a copy may leave, and that the first value of the same reference must.
A robot that reaches for an object ends near its place, but never so near."""

OWN_SCALE = 1e-4
"""Mean of a channel scaled by its own episode, and difference of its spread from 1 or from that of another episode, as
a share of the spread."""

_FIRST, _LAST, _MEAN = range(3)
_WAYS = [(_LAST, "of the last"), (_MEAN, "on average over all frames")]
_NOTHING, _ALIKE = 1e-20, 1e-6
"""Variance of nothing; share that the first value must leave of the last one for both to be told apart."""


@dataclass
class FirstAndLast:
    """Sums over episodes of one field, less those of one episode, so that small numbers keep their digits.

    origin [S + 3 X]  the first state, then first, last and mean of each reference, of that episode
    sums [S + 3 X], power [S] of the first state, cross [X, 3, S], gram [X, 3, 3]
    """

    key: FieldKey
    count: int
    origin: Values
    sums: Values
    power: Values
    cross: Values
    gram: Values

    @classmethod
    def of(cls, state: Values, field: FieldValues) -> Self:
        """Of one episode: its state [N, S] and a field of it. To the state itself its last frame number is added."""
        values, channels = field.values, state.shape[1]
        ends = np.stack([values[0], values[-1], values.mean(axis=0)])
        if field.key.kind == STATE:
            ends = np.concatenate([ends, [[0.0], [len(values) - 1.0], [0.0]]], axis=1)
        origin, width = np.concatenate([state[0], ends.T.ravel()]), ends.shape[1]
        zeros = np.zeros(len(origin)), np.zeros(channels), np.zeros((width, 3, channels)), np.zeros((width, 3, 3))
        return cls(field.key, 1, origin, *zeros)

    def add(self, other: FirstAndLast) -> None:
        """Add those of other episodes with the same field."""
        channels, total = len(self.power), other.count
        shift = other.origin - self.origin
        moved = other.sums + total * shift
        (own, far), (s, x) = _parts(other.sums, channels), _parts(shift, channels)
        self.power += other.power + 2 * own * s + total * s**2
        self.cross += other.cross + far[:, :, None] * s + x[:, :, None] * own + total * x[:, :, None] * s
        mixed = far[:, :, None] * x[:, None]
        self.gram += other.gram + mixed + mixed.transpose(0, 2, 1) + total * x[:, :, None] * x[:, None]
        self.sums += moved
        self.count += total

    def copies(self, same: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        """Channels whose first value gives the end or the mean of a reference, and which.

        Args:
            same: bool [S, 3], channels that have the same first, last, mean value in all episodes. A distance to the
                last pose ends at zero; one to a goal that the robot nearly reaches does not.
        """
        if self.count < EPISODES:
            return
        known, names = self._left((_FIRST,)), self.key.channels
        ways = [(_MEAN, "on average over all frames")] if self.key.action else _WAYS
        for of, what in ways:
            alone, beside = self._left((of,)), self._left((_FIRST, of))
            gives = (alone <= COPY) | (same[:, of, None] & (beside <= COPY))
            for channel, at in np.argwhere(gives & (known >= DIFFERENT)).tolist():
                if at == self.key.width:
                    yield channel, "how many frames follow"
                else:
                    less = "" if alone[channel, at] <= COPY else ", less that of the first"
                    yield channel, f"{names[at]} {what}{less}"

    @property
    def same(self) -> NDArray[np.bool_]:
        """Of the state's own field: channels whose first, last, mean value is the same in all episodes, [S, 3]."""
        channels = len(self.power)
        _, x_sum = _parts(self.sums, channels)
        spread = (np.einsum("xii->xi", self.gram) - x_sum**2 / self.count)[:channels]
        return np.asarray(spread <= COPY * spread[:, :1])

    def _left(self, of: tuple[int, ...]) -> Values:
        """Share of the variance of the first state that these of a reference leave together, [S, X]."""
        s_sum, x_sum = _parts(self.sums, len(self.power))
        power = self.power - s_sum**2 / self.count
        cross = (self.cross - x_sum[:, :, None] * s_sum / self.count)[:, of].transpose(2, 0, 1)
        gram = (self.gram - x_sum[:, :, None] * x_sum[:, None] / self.count)[:, of][:, :, of]
        varies = gram[:, 0, 0] > _NOTHING
        explained = np.where(varies, cross[..., 0] ** 2 / np.where(varies, gram[:, 0, 0], 1), 0.0)
        if len(of) == 2:
            slope = np.where(varies, gram[:, 0, 1] / np.where(varies, gram[:, 0, 0], 1), 0.0)
            rest = gram[:, 1, 1] - slope * gram[:, 0, 1]
            apart = rest > np.maximum(_ALIKE * gram[:, 1, 1], _NOTHING)
            explained = explained + np.where(
                apart, (cross[..., 1] - slope * cross[..., 0]) ** 2 / np.where(apart, rest, 1), 0.0
            )
        moves = power > _NOTHING
        return np.where(moves[:, None], 1 - explained / np.where(moves, power, 1)[:, None], 1.0)


class StateEndings:
    """What the state alone says: different first values, and a scale of its own. Memory does not grow."""

    def __init__(self) -> None:
        self._count = 0
        self._different: list[set[float]] = []
        self._least, self._most, self._off = np.zeros(0), np.zeros(0), np.zeros(0)

    def add(self, state: Values) -> None:
        """Add an episode: its state [N, S]."""
        spread = state.std(axis=0)
        off = np.where(spread > _NOTHING, np.abs(state.mean(axis=0)) / np.where(spread > _NOTHING, spread, 1), np.inf)
        self._take(1, [{value} for value in state[0].tolist()], (spread, spread, off))

    def merge(self, other: StateEndings) -> None:
        """Add the episodes of another part of the build."""
        if other._count:
            self._take(other._count, other._different, (other._least, other._most, other._off))

    def _take(self, count: int, different: list[set[float]], sums: tuple[Values, Values, Values]) -> None:
        if not self._count:
            self._different, (self._least, self._most, self._off) = [set() for _ in different], sums
        self._count += count
        self._different = [
            set(sorted(own | more)[:EPISODES]) for own, more in zip(self._different, different, strict=True)
        ]
        least, most, off = sums
        self._least, self._most = np.minimum(self._least, least), np.maximum(self._most, most)
        self._off = np.maximum(self._off, off)

    def findings(self, endings: Iterable[tuple[int, str]]) -> Iterator[str]:
        """One line for each channel that knows the end of its episode. endings: what the sums of all fields say."""
        known: dict[int, str] = {}
        for channel, what in endings:
            known.setdefault(channel, what)
        scaled = (self._off <= OWN_SCALE) & (self._most - self._least <= OWN_SCALE * self._least)
        for channel, different in enumerate(self._different):
            if self._count < EPISODES or len(different) < EPISODES:
                continue
            if channel in known:
                yield f"state channel {channel} of the first frame of an episode gives {known[channel]}"
            if scaled[channel]:
                yield f"state channel {channel} is scaled by its own episode, all of it ({self._count} episodes)"


def known_endings(fields: Sequence[FirstAndLast]) -> Iterator[tuple[int, str, int]]:
    """Channels that know the end of their episode by the sums of each field: what of it, and over how many episodes."""
    own = [field.same for field in fields if field.key.kind == STATE]
    for field in fields if own else ():
        for channel, what in field.copies(own[0]):
            yield channel, what, field.count


def _parts(row: Values, channels: int) -> tuple[Values, Values]:
    """The part of the state [S], that of the references [X, 3]."""
    return row[:channels], row[channels:].reshape(-1, 3)
