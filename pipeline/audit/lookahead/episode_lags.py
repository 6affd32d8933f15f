"""State channels that equal a later frame at a lag, and with a sign, that differ from episode to episode (rule L8).

A long episode is judged alone. Of a short one a few frames overlap, and a slow curve is alike at some lag by chance;
but not in every episode. So each episode has its own lag and its own line, and what these leave is summed, as is what
honest explanations of the same episode leave: earlier frames, lags beside it, prediction from known values.

S channels of state, X references, K lags.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.lookahead.lags import AHEAD, BACK, BESIDE, LATER, RIVAL, Commands, Moments
from pipeline.audit.lookahead.references import STATE, FieldKey, Values

EPISODES = 8
"""Episodes in which a channel moves, that are needed to tell."""

_VALUES, _ROUNDING = 8, 1e-10
"""Different values in an episode in which a channel moves; share of variance below which rounding decides."""


@dataclass(frozen=True)
class ShiftedByEpisode:
    """State channel `channel` equals the reference `name` at a later frame, at another distance in each episode."""

    channel: int
    name: str
    left: float
    episodes: int
    rule: str = "L8"

    def __str__(self) -> str:
        where = f"{self.name} of a later frame, at a distance of its own in each episode"
        return f"state channel {self.channel} equals {where} ({self.left:.2g} of it differs in {self.episodes})"


@dataclass
class EpisodeLags:
    """Shares of variance that the best later lag of each episode leaves, and honest explanations; summed.

    later, honest  float64 [S, X];  episodes  int64 [S, X], in which both move
    """

    key: FieldKey
    later: Values
    honest: Values
    episodes: NDArray[np.int64]

    @classmethod
    def of(cls, moments: Moments) -> Self:
        """Of one episode, by its moments."""
        left, rest = moments.left, moments.unpredicted
        lag = 1 + left[BACK + 1 :].argmin(axis=0)  # [S, X]
        at = BACK + lag[None]
        later = np.take_along_axis(left, at, axis=0)[0]
        before = np.take_along_axis(left, at - BESIDE, axis=0)[0]
        after = np.take_along_axis(left, np.minimum(at + BESIDE, BACK + AHEAD), axis=0)[0]
        beside = np.where(lag + BESIDE <= AHEAD, np.minimum(before, after), before)
        rest = np.take_along_axis(rest, lag - 1, axis=0)
        honest = np.minimum(np.minimum(left[: BACK + 1].min(axis=0), beside), rest)
        moves = (moments.values >= _VALUES)[:, None] & (moments.xx[BACK] > 0)
        return cls(moments.key, np.where(moves, later, 0), np.where(moves, honest, 0), moves.astype(np.int64))

    def add(self, other: EpisodeLags) -> None:
        """Add those of other episodes with the same field."""
        for name in ("later", "honest", "episodes"):
            getattr(self, name).__iadd__(getattr(other, name))

    def shifted(self, commands: Commands) -> Iterator[ShiftedByEpisode]:
        """For each channel the reference that leaves least, where that is a finding."""
        enough = self.episodes >= EPISODES
        count = np.maximum(self.episodes, 1)
        share, honest = self.later / count, self.honest / count
        found = enough & (share <= LATER) & (honest >= RIVAL * np.maximum(share, _ROUNDING))
        if self.key.kind == STATE:
            np.fill_diagonal(found, False)
        if not self.key.action:
            found &= ~commands.measured[:, None]
        for channel in np.flatnonzero(found.any(axis=1)).tolist():
            at = int(np.where(found[channel], share[channel], np.inf).argmin())
            episodes = int(self.episodes[channel, at])
            yield ShiftedByEpisode(channel, self.key.channels[at], float(share[channel, at]), episodes)
