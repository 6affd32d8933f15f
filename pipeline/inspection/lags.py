"""Which channel of a state equals another channel of a later frame (rules L3 and L8), by sums over episodes.

For every lag k the affine fit of state channel s at frame n on a reference x at frame n+k is judged by the share of
variance that it leaves unexplained, 1 - r^2, with every episode's means removed. A copy of later values leaves nothing;
so may honest data, hence a match counts only where what is known at n does much worse in saying x[n+k]:

- the same channel at lags that are honest. A measured joint repeats the command of the frame before: state[n] equals
  action[n-1], which is physics. state[n] = action[n+k] with k >= 0 puts the target into the input. For another channel
  of the state, k <= 0 is honest. Of two channels that are equal at a distance, the leading one is named: it shows at n
  what the other shows later. If it follows an action as a measured value does, the other is a record of the past.
- linear prediction of x[n+k] from its last three known values, exact for ramps, parabolas and sinusoids.

Shapes: N frames, S channels of state, X of references, L lags, H horizons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

LATER, EARLIER = 64, 256
"""Lags that are searched, in frames: for later values, and for honest explanations (a period of a periodic motion)."""

MIN_OVERLAP = 8
"""Frames that a lag must leave of an episode, besides a quarter of it."""

EXACT, NEAR = 1e-6, 1e-3
"""Largest share of unexplained variance. A target at its own frame must be exact: a robot that follows its commands
quickly is near to them."""

MUCH_BETTER = 20.0
"""How many times more what is known at the frame must leave unexplained."""

MIN_CHANGES, MIN_CHANGES_STATE, MIN_VALUES_STATE = 8, 24, 8
"""Frames at which a channel must change in all episodes together before a match says anything; and different values,
for a match with another channel of the state: two grippers that a script closes one after the other are no leak."""

_AR = 3
_TINY, _FLOOR = 1e-12, 1e-11


@dataclass(frozen=True)
class Match:
    """State channel `channel` of frame n equals reference `reference` of frame n+lag; `unexplained` of its variance."""

    channel: int
    reference: int
    lag: int
    unexplained: float


class LagSums:
    """Sums of products of a state (S channels) and references (X channels) at every lag.

    Args:
        commands: bool [X], whether each reference is an action; the others are the channels of the state itself.
    """

    def __init__(self, channels: int, commands: NDArray[np.bool_]) -> None:
        references = len(commands)
        self._commands, self._lags = commands, np.arange(-EARLIER, LATER + 1)
        self._ss = np.zeros((len(self._lags), channels))
        self._xx = np.zeros((len(self._lags), references))
        self._sx = np.zeros((len(self._lags), channels, references))
        self._gram = np.zeros((LATER + 1, references, _AR, _AR))
        self._cross = np.zeros((LATER + 1, references, _AR))
        self._power = np.zeros((LATER + 1, references))
        self._changes, self._values = np.zeros(channels, np.int64), np.zeros(channels, np.int64)

    def add(self, state: Values, references: Values) -> None:
        """Add an episode: float64 [N, S] and [N, X]."""
        frames, scale = len(state), np.maximum(np.abs(state).max(axis=0), _TINY)
        self._changes += (np.abs(np.diff(state, axis=0)) > 1e-6 * scale).sum(axis=0)
        values = [len(np.unique(channel)) for channel in np.round(state / scale, 6).T]
        self._values = np.maximum(self._values, values)
        least = max(MIN_OVERLAP, frames // 4)
        for at, lag in enumerate(self._lags.tolist()):
            if frames - abs(lag) < least:
                continue
            now, later = (state[: frames - lag], references[lag:]) if lag >= 0 else (state[-lag:], references[:lag])
            now, later = now - now.mean(axis=0), later - later.mean(axis=0)
            self._ss[at] += (now**2).sum(axis=0)
            self._xx[at] += (later**2).sum(axis=0)
            self._sx[at] += now.T @ later
        for horizon in range(1, LATER + 2):
            self._add_prediction(references, horizon, least)

    def _add_prediction(self, values: Values, horizon: int, least: int) -> None:
        frames = len(values) - horizon - (_AR - 1)
        if frames < least:
            return
        past = np.stack([values[_AR - 1 - back :][:frames] for back in range(_AR)], axis=2)  # [frames, X, AR]
        later = values[_AR - 1 + horizon :][:frames]
        past, later = past - past.mean(axis=0), later - later.mean(axis=0)
        past = past.transpose(1, 2, 0)  # [X, AR, frames]
        self._gram[horizon - 1] += past @ past.transpose(0, 2, 1)
        self._cross[horizon - 1] += (past @ later.T[:, :, None])[:, :, 0]
        self._power[horizon - 1] += (later**2).sum(axis=0)

    def matches(self) -> list[Match]:
        """The best match of every channel of the state with later values, where there is one."""
        fits, predicted = self._fits(), self._predicted()
        found = []
        for channel in range(fits.shape[1]):
            some = [self._match(channel, reference, fits, predicted) for reference in range(fits.shape[2])]
            if matching := [match for match in some if match is not None]:
                found.append(min(matching, key=self._rank))
        return found

    def _rank(self, match: Match) -> tuple[float, bool]:
        """The closest first; of copies to the bit the action, which leads to the later state."""
        return max(match.unexplained, 1e-9), not self._commands[match.reference]

    def _match(self, channel: int, reference: int, fits: Values, predicted: Values) -> Match | None:
        command = bool(self._commands[reference])
        if not command and (channel == reference or self._values[channel] < MIN_VALUES_STATE):
            return None
        follows = fits[self._lags < 0, channel][:, self._commands].min(initial=1.0)
        if not command and follows <= NEAR and follows < fits[self._lags >= 0, channel][:, self._commands].min():
            return None
        if self._changes[channel] < (MIN_CHANGES if command else MIN_CHANGES_STATE):
            return None
        first = 0 if command else 1  # the first lag that is no honest one
        known = follows if command else fits[self._lags < first, channel, reference].min()
        accused = np.flatnonzero(self._lags >= first)
        lag = int(self._lags[accused[fits[accused, channel, reference].argmin()]])
        left = float(fits[self._lags == lag, channel, reference][0])
        # horizon of what is predicted from the last known value: x[n] of a state, x[n-1] of an action
        rival = min(known, float(predicted[lag - first, reference]))
        allowed = EXACT if command and lag == 0 else NEAR
        if left > allowed or rival < MUCH_BETTER * max(left, _FLOOR):
            return None
        return Match(channel, reference, lag, left)

    def _fits(self) -> Values:
        """Share of variance left by the fit at each lag [L, S, X]; 1 where nothing varies."""
        power = self._ss[:, :, None] * self._xx[:, None, :]
        varies = (self._ss[:, :, None] > _TINY) & (self._xx[:, None, :] > _TINY)
        return np.where(varies, np.clip(1 - self._sx**2 / np.where(varies, power, 1), 0, 1), 1.0)

    def _predicted(self) -> Values:
        """Share of variance left by linear prediction at each horizon [H, X]; 1 where nothing varies."""
        varies = self._power > _TINY
        gram = np.where(varies[..., None, None], self._gram, np.eye(_AR))
        weights = (np.linalg.pinv(gram, rcond=1e-12, hermitian=True) @ self._cross[..., None])[..., 0]
        explained = (weights * self._cross).sum(axis=2)
        return np.where(varies, np.clip(1 - explained / np.where(varies, self._power, 1), 0, 1), 1.0)
