"""State channels that equal a later frame at a lag, and with a sign, that differ from episode to episode (rule L8).

A long episode is judged alone. Of a short one a few frames overlap, and a slow curve is alike at some lag by chance;
but not in half of all episodes, and each time by the same factor but for the sign. So each episode has its own lag, and
those are counted in which it leaves next to nothing and what is honest far more.

S channels of state, X references, K lags.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.audit.lookahead.numbers.lags import BACK, BESIDE, LONG, RIVAL, TURNS, Commands, Moments
from pipeline.audit.lookahead.numbers.references import STATE, FieldKey, Values

EPISODES = 8
"""Episodes in which a channel moves, that are needed to tell."""

COPY = 1e-5
"""Share of variance that a copy may leave; a record that lags by a filter leaves more in most episodes."""

FACTOR = 0.02
"""Standard deviation of the logarithm of the factor that all copies must have."""

_VALUES, _FEWEST, _ROUNDING = 8, 16, 1e-10
"""Different values in an episode in which a channel moves; frames of one that counts; share of variance below which
rounding decides."""


@dataclass(frozen=True)
class ShiftedByEpisode:
    """State channel `channel` equals the reference `name` at a later frame, at another distance in each episode."""

    channel: int
    name: str
    copies: int
    episodes: int
    left: float = COPY
    rule: str = "L8"

    @property
    def same_as(self) -> tuple[object, ...]:
        """Equal for findings of other episodes that say the same."""
        return "shifted by episode", self.channel, self.name

    def __str__(self) -> str:
        where = f"{self.name} of a later frame, at a distance of its own in each episode"
        return f"state channel {self.channel} equals {where} ({self.copies} of {self.episodes} episodes)"


@dataclass
class EpisodeLags:
    """Counts over episodes, each [S, X].

    moves  episodes in which both move;  copies  those of them that have a lag at which one is a copy of the other
    factors, squares  sums over the copies of the logarithm of the factor, and of its square
    """

    key: FieldKey
    moves: Values
    copies: Values
    factors: Values
    squares: Values

    @classmethod
    def of(cls, moments: Moments, frames: int) -> Self:
        """Of one episode, by its moments. One that is judged alone does not count."""
        if frames >= LONG or frames < _FEWEST:
            nothing = [np.zeros(moments.sx.shape[1:]) for _ in range(4)]
            return cls(moments.key, *nothing)
        left, rest, ahead = moments.left, moments.unpredicted, moments.later[1 : frames // 2 + 1]
        lag = 1 + ahead.argmin(axis=0)  # [S, X]
        later = np.take_along_axis(ahead, lag[None] - 1, axis=0)[0]
        sides = [np.take_along_axis(left, BACK + lag[None] + side, axis=0)[0] for side in (-BESIDE, BESIDE)]
        rest = np.take_along_axis(rest, lag - 1, axis=0)
        honest = np.minimum.reduce([*sides, left[: BACK + 1].min(axis=0), rest])
        says = (moments.values >= _VALUES) & (moments.turns >= TURNS)
        moves = says[:, None] & (moments.xx[BACK] > 0)
        copies = moves & (later <= COPY) & (honest >= RIVAL * np.maximum(later, _ROUNDING))
        xx = np.take_along_axis(moments.xx[BACK:], lag, axis=0)
        ss = np.take_along_axis(moments.ss[BACK:].T, lag, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            factors = np.where(copies, np.log(ss / xx) / 2, 0.0)
        return cls(moments.key, moves.astype(float), copies.astype(float), factors, factors**2)

    def add(self, other: EpisodeLags) -> None:
        """Add those of other episodes with the same field."""
        for name in ("moves", "copies", "factors", "squares"):
            getattr(self, name).__iadd__(getattr(other, name))

    def shifted(self, commands: Commands) -> Iterator[ShiftedByEpisode]:
        """For each channel the reference of which it is a copy in most episodes, where that is a finding."""
        count = np.maximum(self.copies, 1)
        spread = self.squares / count - (self.factors / count) ** 2
        found = (self.copies >= np.maximum(EPISODES, self.moves / 2)) & (spread <= FACTOR**2)
        if self.key.kind == STATE:
            np.fill_diagonal(found, False)
        if not self.key.action:
            found &= ~commands.measured[:, None]
        for channel in np.flatnonzero(found.any(axis=1)).tolist():
            at = int(np.where(found[channel], self.copies[channel], 0).argmax())
            copies, moves = int(self.copies[channel, at]), int(self.moves[channel, at])
            yield ShiftedByEpisode(channel, self.key.channels[at], copies, moves)
