"""State channels that equal what the raw data holds at a later frame (rules L3 and L8), from every decoded episode.

A second reading of the raw data agrees with a build whose state was recorded a frame late, or is an action under
another name. So the numbers themselves are looked at. For state channel s and a reference x (another channel of the
state, an action, or another number that was recorded with the observation) the coefficient of determination between
s[n] and x[n+k] is computed for every lag k, all by one Fourier transform. A later lag is a finding when next to nothing
of x is left unexplained, and what is honest explains far less:

- s[n] and an earlier x. state[n] = action[n-1] is physics: a command is measured one step later. state[n] = action[n+k]
  with k >= 0 is the target in the input; of two measured channels the one that leads shows the future of the other,
  unless it follows an action as measured values do: then the other is a record of the past.
- x at neighbouring lags: slow curves of a short episode are alike at many lags, by chance.
- x[n+k] extrapolated from its last three known values: slow, steady and periodic motion is predictable, and no leak.

The audit judges each long episode alone (some of a data set may leak), and all together (a gripper changes rarely).

Shapes: N frames, S channels of state, X references, K lags.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.raw.base import RawEpisode

Values = NDArray[np.float64]

AHEAD, BACK = 64, 256
"""Frames that references are shifted by: towards later ones, and towards earlier ones for honest explanations."""

OVERLAP, LONG = 8, 48
"""Frames that a shift must leave besides a quarter of the episode; length from which an episode is judged alone."""

AT_TARGET, LATER = 1e-6, 1e-3
"""Share of variance that may be left unexplained: at the action of the frame itself, and at later frames."""

RIVAL = 20.0
"""Honest explanations must leave so many times more."""

BESIDE = 4
"""Frames from a lag at which a copy must fit so much worse."""

CHANGES, CHANGES_MEASURED, VALUES_MEASURED = 8, 24, 8
"""Frames at which a channel must change to be compared with actions; the same, and different values, for the rest."""

_NOTHING, _ROUNDING = 1e-12, 1e-10
_ORDER = 3


@dataclass(frozen=True)
class References:
    """Numbers of an episode that a state is compared with. values: float64 [N, X]; names, action: one for each."""

    names: tuple[str, ...]
    action: NDArray[np.bool_]
    values: Values


@dataclass(frozen=True)
class Shifted:
    """State channel `channel` of frame n equals the reference `name` of frame n+lag."""

    channel: int
    name: str
    action: bool
    lag: int
    left: float

    @property
    def rule(self) -> str:
        """The action of the frame itself is a target (L3), everything later is the future (L8)."""
        return "L3" if self.action and self.lag == 0 else "L8"

    def __str__(self) -> str:
        where = f"frame n+{self.lag}" if self.lag else "frame n, a target"
        return f"state channel {self.channel} of frame n equals {self.name} of {where} ({self.left:.2g} of it differs)"


def references_of(episode: RawEpisode) -> References | None:
    """The state's own channels, the actions, and every other number of the raw data; None without a state."""
    if episode.state is None or not len(episode.state):
        return None
    frames = len(episode.state)
    parts: list[tuple[str, bool, Values]] = [("state channel", False, episode.state.astype(np.float64))]
    if episode.actions is not None:
        parts.append(("action channel", True, episode.actions[:frames].astype(np.float64)))
    parts += [(f"{other.name} channel", other.action, other.values[:frames]) for other in episode.others]
    parts = [part for part in parts if len(part[2]) == frames and np.isfinite(part[2]).all()]
    names = tuple(f"{name} {i}" for name, _, values in parts for i in range(values.shape[1]))
    action = np.concatenate([np.full(values.shape[1], is_action) for _, is_action, values in parts])
    return References(names, action, np.concatenate([values for _, _, values in parts], axis=1))


@dataclass
class Moments:
    """Sums over episodes that the coefficients of determination follow from.

    ss [K, S], xx [K, X], sx [K, S, X]  centred products at lags -BACK..AHEAD
    gram [AHEAD+1, X, 3, 3], cross [AHEAD+1, X, 3], power [AHEAD+1, X]  of the extrapolation, by horizon from 1
    changes, values int64 [S]  frames at which a channel changes; different values in one episode
    """

    names: tuple[str, ...]
    action: NDArray[np.bool_]
    ss: Values
    xx: Values
    sx: Values
    gram: Values
    cross: Values
    power: Values
    changes: NDArray[np.int64]
    values: NDArray[np.int64]

    @classmethod
    def of(cls, references: References, channels: int) -> Self:
        """Of one episode; the first `channels` references are the state."""
        values = references.values - references.values.mean(axis=0)
        values /= np.maximum(np.abs(values).max(axis=0), _NOTHING)
        state = values[:, :channels]
        moved = np.abs(np.diff(state, axis=0)) > 1e-6
        distinct = np.array([len(np.unique(channel)) for channel in np.round(state, 6).T], np.int64)
        scale = np.maximum(np.abs(references.values - references.values.mean(axis=0)).max(axis=0), _NOTHING)
        products = _products(values, channels, scale)
        extrapolation = _extrapolation(values, scale)
        return cls(references.names, references.action, *products, *extrapolation, moved.sum(axis=0), distinct)

    def add(self, other: Moments) -> None:
        """Add those of another episode with the same references."""
        for name in ("ss", "xx", "sx", "gram", "cross", "power", "changes"):
            getattr(self, name).__iadd__(getattr(other, name))
        self.values = np.maximum(self.values, other.values)

    def shifted(self) -> Iterator[Shifted]:
        """For each channel the reference and lag that leave least, where that is a finding."""
        lags = np.arange(-BACK, AHEAD + 1)
        left, rest = _left(self.ss[:, :, None] * self.xx[:, None], self.sx**2), self._unpredicted()
        for channel in range(left.shape[1]):
            commands = left[:, channel][:, self.action]
            follows = float(commands[lags < 0].min(initial=1.0))
            measured = follows <= LATER and follows < commands[lags >= 0].min(initial=1.0)
            found = []
            for at, (name, action) in enumerate(zip(self.names, self.action.tolist(), strict=True)):
                if not self._says_something(channel, at, action) or (measured and not action):
                    continue
                begin = 0 if action else 1
                later = left[BACK + begin :, channel, at]
                lag = begin + int(later.argmin())
                honest = follows if action else float(left[: BACK + begin, channel, at].min())
                honest = min(honest, float(rest[lag - begin, at]), self._beside(left[:, channel, at], lag))
                share = float(later.min())
                if share <= (AT_TARGET if lag == 0 else LATER) and honest >= RIVAL * max(share, _ROUNDING):
                    found.append(Shifted(channel, name, action, lag, share))
            if found:
                yield min(found, key=lambda shifted: (max(shifted.left, 1e-9), not shifted.action))

    def _beside(self, left: Values, lag: int) -> float:
        """What the lags beside one leave, [K]: a copy fits at its own lag alone, slow motion that is alike by chance
        fits nearly as well beside it."""
        return float(min(left[at] for at in (BACK + lag - BESIDE, BACK + lag + BESIDE) if at < len(left)))

    def _says_something(self, channel: int, at: int, action: bool) -> bool:
        if action:
            return bool(self.changes[channel] >= CHANGES)
        enough = self.changes[channel] >= CHANGES_MEASURED and self.values[channel] >= VALUES_MEASURED
        return at != channel and bool(enough)

    def _unpredicted(self) -> Values:
        """Share of variance that extrapolation leaves, by horizon, [AHEAD+1, X]."""
        moves = self.power > _NOTHING
        gram = np.where(moves[..., None, None], self.gram, np.eye(_ORDER))
        weights = (np.linalg.pinv(gram, rcond=1e-12, hermitian=True) @ self.cross[..., None])[..., 0]
        return _left(self.power**2, (weights * self.cross).sum(axis=2) * self.power)


def _left(power: Values, explained: Values) -> Values:
    """1 - explained / power; 1 where there is nothing to explain."""
    moves = power > _NOTHING**2
    return np.where(moves, np.clip(1 - explained / np.where(moves, power, 1), 0, 1), 1.0)


def _products(values: Values, channels: int, scale: Values) -> tuple[Values, Values, Values]:
    """Centred sums of products of s[n] and x[n+k] at all lags, in the units of the raw data: ss, xx, sx."""
    frames, references = values.shape
    lags = np.arange(-BACK, AHEAD + 1)
    usable = frames - np.abs(lags) >= max(OVERLAP, frames // 4)
    lags = lags[usable]
    count = (frames - np.abs(lags))[:, None]
    size = 1 << (2 * frames - 1).bit_length()
    spectrum = np.fft.rfft(values, size, axis=0)
    total, square = (np.concatenate([np.zeros((1, references)), part.cumsum(axis=0)]) for part in (values, values**2))
    begin, end = np.maximum(0, -lags), np.minimum(frames, frames - lags)  # the state's frames; those of x are k later
    s_sum, x_sum = total[end, :channels] - total[begin, :channels], total[end + lags] - total[begin + lags]
    ss, xx, sx = (
        np.zeros((BACK + AHEAD + 1, *shape)) for shape in ((channels,), (references,), (channels, references))
    )
    ss[usable] = (square[end, :channels] - square[begin, :channels] - s_sum**2 / count) * scale[:channels] ** 2
    xx[usable] = (square[end + lags] - square[begin + lags] - x_sum**2 / count) * scale**2
    for channel in range(channels):
        raw = np.fft.irfft(spectrum * spectrum[:, channel, None].conj(), size, axis=0)[lags]
        centred = raw - s_sum[:, channel, None] * x_sum / count
        sx[usable, channel] = centred * scale[channel] * scale
    return np.maximum(ss, 0), np.maximum(xx, 0), sx


def _extrapolation(values: Values, scale: Values) -> tuple[Values, Values, Values]:
    """Normal equations of x[n+h] from x[n], x[n-1], x[n-2] for every horizon h, in the units of the raw data."""
    frames, references = values.shape
    shapes = ((_ORDER, _ORDER), (_ORDER,), ())
    gram, cross, power = (np.zeros((AHEAD + 1, references, *shape)) for shape in shapes)
    for horizon in range(1, AHEAD + 2):
        rows = frames - horizon - _ORDER + 1
        if rows < max(OVERLAP, frames // 4):
            break
        known = np.stack([values[_ORDER - 1 - back :][:rows] for back in range(_ORDER)]) * scale
        known -= known.mean(axis=1, keepdims=True)
        wanted = values[_ORDER - 1 + horizon :][:rows] * scale
        wanted = wanted - wanted.mean(axis=0)
        gram[horizon - 1] = np.einsum("anx,bnx->xab", known, known, optimize=True)
        cross[horizon - 1] = np.einsum("anx,nx->xa", known, wanted, optimize=True)
        power[horizon - 1] = (wanted**2).sum(axis=0)
    return gram, cross, power
