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
Each field is summed by itself, over the episodes that have it.

Shapes: N frames, S channels of state, X references, K lags.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.lookahead.numbers.references import STATE, FieldKey, FieldValues, Values

AHEAD, BACK = 64, 256
"""Frames that references are shifted by: towards later ones, and towards earlier ones for honest explanations."""

OVERLAP, LONG = 8, 48
"""Frames that a shift must leave besides a quarter of the episode; length from which an episode is judged alone."""

AT_TARGET, LATER, ALONE = 1e-6, 1e-3, 1e-7
"""Share of variance that may be left unexplained: at the action of the frame itself, at later frames, and where one
episode decides: in one of many, what is reached slowly is nearly a copy of its command."""

RIVAL = 20.0
"""Honest explanations must leave so many times more."""

MOVES = 0.02
"""Share of the whole variance that the frames of a lag must have: a few frames at the edge are alike by chance."""

TURNS = 3
"""How often a channel must turn back in one episode that decides: scripted axes move one after the other, alike."""

BESIDE = 4
"""Frames from a lag at which a copy must fit so much worse."""

CHANGES, CHANGES_MEASURED, VALUES_MEASURED = 8, 24, 8
"""Frames at which a channel must change to be compared with actions; the same, and different values, for the rest."""

_NOTHING, _ROUNDING = 1e-12, 1e-10
_ORDER = 3


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

    @property
    def same_as(self) -> tuple[object, ...]:
        """Equal for findings of other episodes that say the same."""
        return "shifted", self.channel, self.name, self.lag

    def __str__(self) -> str:
        where = f"frame n+{self.lag}" if self.lag else "frame n, a target"
        return f"state channel {self.channel} of frame n equals {self.name} of {where} ({self.left:.2g} of it differs)"


@dataclass
class Moments:
    """Sums over episodes that the coefficients of determination of a state and one field follow from.

    ss [K, S], xx [K, X], sx [K, S, X]  centred products at lags -BACK..AHEAD
    gram [AHEAD+1, X, 3, 3], cross [AHEAD+1, X, 3], power [AHEAD+1, X]  of the extrapolation, by horizon from 1
    changes, values, turns int64 [S]  frames at which a channel changes; different values in one episode; how often it
                                      turns back
    """

    key: FieldKey
    ss: Values
    xx: Values
    sx: Values
    gram: Values
    cross: Values
    power: Values
    changes: NDArray[np.int64]
    values: NDArray[np.int64]
    turns: NDArray[np.int64]

    @classmethod
    def of(cls, state: Values, field: FieldValues) -> Self:
        """Of one episode: its state [N, S] and a field of it."""
        (state, state_scale), (values, scale) = _normal(state), _normal(field.values)
        steps = np.diff(state, axis=0)
        moved = np.abs(steps) > 1e-6
        turns = np.array([_turns(step[move]) for step, move in zip(steps.T, moved.T, strict=True)], np.int64)
        distinct = np.array([len(np.unique(channel)) for channel in np.round(state, 6).T], np.int64)
        products = _products(state, values, state_scale, scale)
        return cls(field.key, *products, *_extrapolation(values, scale), moved.sum(axis=0), distinct, turns)

    def add(self, other: Moments) -> None:
        """Add those of another episode with the same field."""
        for name in ("ss", "xx", "sx", "gram", "cross", "power", "changes", "turns"):
            getattr(self, name).__iadd__(getattr(other, name))
        self.values = np.maximum(self.values, other.values)

    @property
    def left(self) -> Values:
        """Share of variance that is left at each lag, [K, S, X]."""
        return _left(self.ss[:, :, None] * self.xx[:, None], self.sx**2)

    @property
    def later(self) -> Values:
        """The same at the lags 0..AHEAD; 1 where what overlaps hardly moves, [AHEAD+1, S, X]."""
        ss, xx = (power[BACK:] >= MOVES * power[BACK] for power in (self.ss, self.xx))
        return np.where(ss[:, :, None] & xx[:, None], self.left[BACK:], 1.0)

    @property
    def busy(self) -> NDArray[np.bool_]:
        """Channels that change often enough to be compared with measured ones, [S]."""
        return (self.changes >= CHANGES_MEASURED) & (self.values >= VALUES_MEASURED)

    @property
    def unpredicted(self) -> Values:
        """Share of variance that extrapolation leaves, by horizon from 1, [AHEAD+1, X]."""
        moves = self.power > _NOTHING
        gram = np.where(moves[..., None, None], self.gram, np.eye(_ORDER))
        weights = (np.linalg.pinv(gram, rcond=1e-12, hermitian=True) @ self.cross[..., None])[..., 0]
        return _left(self.power**2, (weights * self.cross).sum(axis=2) * self.power)

    def shifted(self, commands: Commands, frames: int | None = None) -> Iterator[Shifted]:
        """For each channel the reference and lag that leave least, where that is a finding.

        Args:
            frames: of the one episode that decides; lags up to half of it count.
        """
        left, rest, action = self.left, self.unpredicted, self.key.action
        ahead = self.later if frames is None else self.later[: frames // 2 + 1]
        most = LATER if frames is None else ALONE
        begin = 0 if action else 1
        says = self.changes >= CHANGES if action else self.busy & ~commands.measured
        says &= (self.turns >= TURNS) | (frames is None)
        for channel in np.flatnonzero(says).tolist():
            found = []
            for at, name in enumerate(self.key.channels):
                if self.key.kind == STATE and at == channel:
                    continue
                later = ahead[begin:, channel, at]
                lag = begin + int(later.argmin())
                follows = float(commands.follows[channel])
                honest = follows if action else float(left[: BACK + begin, channel, at].min())
                honest = min(honest, float(rest[lag - begin, at]), _beside(left[:, channel, at], lag))
                share = float(later.min())
                if share <= (AT_TARGET if lag == 0 else most) and honest >= RIVAL * max(share, _ROUNDING):
                    found.append(Shifted(channel, name, action, lag, share))
            if found:
                yield min(found, key=lambda shifted: max(shifted.left, 1e-9))


@dataclass(frozen=True)
class Commands:
    """What the actions say of the state, whatever field they stand in.

    follows   float64 [S]  share that the best earlier action leaves
    measured  bool [S]     the channel follows an action, as measured values do
    """

    follows: Values
    measured: NDArray[np.bool_]

    @classmethod
    def of(cls, moments: Sequence[Moments], channels: int) -> Self:
        """Of all fields of the same episodes."""
        follows, at_once = np.ones(channels), np.ones(channels)
        for field in moments:
            if field.key.action:
                left = field.left.min(axis=2)
                follows = np.minimum(follows, left[:BACK].min(axis=0))
                at_once = np.minimum(at_once, left[BACK:].min(axis=0))
        return cls(follows, (follows <= LATER) & (follows < at_once))


def _beside(left: Values, lag: int) -> float:
    """What the lags beside one leave, [K]: a copy fits at its own lag alone, slow motion that is alike by chance
    fits nearly as well beside it."""
    return float(min(left[at] for at in (BACK + lag - BESIDE, BACK + lag + BESIDE) if at < len(left)))


def _turns(steps: Values) -> int:
    """How often the steps that are no rest change their sign."""
    return int((np.diff(np.sign(steps)) != 0).sum())


def _normal(values: Values) -> tuple[Values, Values]:
    """Centred values at most 1, and what they are divided by."""
    centred = values - values.mean(axis=0)
    scale = np.maximum(np.abs(centred).max(axis=0), _NOTHING)
    return centred / scale, scale


def _left(power: Values, explained: Values) -> Values:
    """1 - explained / power; 1 where there is nothing to explain."""
    moves = power > _NOTHING**2
    return np.where(moves, np.clip(1 - explained / np.where(moves, power, 1), 0, 1), 1.0)


def _products(state: Values, values: Values, state_scale: Values, scale: Values) -> tuple[Values, Values, Values]:
    """Centred sums of products of s[n] and x[n+k] at all lags, in the units of the raw data: ss, xx, sx."""
    (frames, channels), references = state.shape, values.shape[1]
    lags = np.arange(-BACK, AHEAD + 1)
    usable = frames - np.abs(lags) >= max(OVERLAP, frames // 4)
    lags = lags[usable]
    count = (frames - np.abs(lags))[:, None]
    begin, end = np.maximum(0, -lags), np.minimum(frames, frames - lags)  # the state's frames; those of x are k later
    s_sum, s_power = _centred(state, begin, end)
    x_sum, x_power = _centred(values, begin + lags, end + lags)
    ss, xx, sx = (
        np.zeros((BACK + AHEAD + 1, *shape)) for shape in ((channels,), (references,), (channels, references))
    )
    ss[usable], xx[usable] = s_power * state_scale**2, x_power * scale**2
    size = 1 << (2 * frames - 1).bit_length()
    spectrum, own = np.fft.rfft(values, size, axis=0), np.fft.rfft(state, size, axis=0).conj()
    for channel in range(channels):
        raw = np.fft.irfft(spectrum * own[:, channel, None], size, axis=0)[lags]
        centred = raw - s_sum[:, channel, None] * x_sum / count
        sx[usable, channel] = centred * state_scale[channel] * scale
    return ss, xx, sx


def _centred(values: Values, begin: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[Values, Values]:
    """Sums and centred sums of squares over frames begin..end-1, [K, X]."""
    total, square = (
        np.concatenate([np.zeros((1, values.shape[1])), part.cumsum(axis=0)]) for part in (values, values**2)
    )
    sums = total[end] - total[begin]
    return sums, np.maximum(square[end] - square[begin] - sums**2 / (end - begin)[:, None], 0)


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
        turned = np.ascontiguousarray(known.transpose(2, 0, 1))
        gram[horizon - 1] = turned @ turned.transpose(0, 2, 1)
        cross[horizon - 1] = (turned @ np.ascontiguousarray(wanted.T)[:, :, None])[:, :, 0]
        power[horizon - 1] = (wanted**2).sum(axis=0)
    return gram, cross, power
