"""What differs between stored latents and those encoded again, tested for dependence on the future.

Another device or library rounds otherwise, so latents may differ a little; but what differs must be noise. For a step j
of a sample and a later step k, let r = stored_j - encoded_j and f = stored_k - stored_j, without its part along
stored_j. A whisper r = a f + noise shows in the cosine of r and f. The cosines of r and the futures of samples of other
episodes, which have nothing to do with r, show what noise gives. Means over rows and columns of that table are
subtracted, so that what all residuals or all futures share does not count. The same is done with r by size (positive
where it makes a value larger than the encoder's without its sign) and with the last bit of every stored value: a bit
set to whether a value will grow follows f in one of the three.

P values of a step over views, tokens and channels, S samples of a table.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.finding import Report

TABLE_BYTES = 256 * 2**20
"""Memory of the residuals and futures of one table."""

LARGEST_TABLE = 32

FEWEST = 10
"""Pairs of samples of different episodes, beyond the means that are subtracted, below which noise is not known."""

OVER_BUILD = 5.0
"""Standard deviations that the mean whisper of a build may lie from 0: one honest test in 1.7 million exceeds it."""

OF_SAMPLE = 8.0
"""Standard deviations of a single sample's whisper."""

CERTAINTY = 2.326
"""Standard deviations of 99 % of a normal distribution."""


_FORMS = {
    "value": "what differs in {} from the encoder's latents",
    "size": "what makes values of {} larger than the encoder's",
    "bit": "the last bit of the values of {}",
}
"""What is compared with the future, and how a finding names it."""


@dataclass(frozen=True)
class ResidualSample:
    """Latents of one sample as they are stored.

    stored  what they stand for, float32 [K+1, V, N, D];  bits  the last bit of each stored value, 0 or 1
    file    that holds them
    """

    key: str
    episode: str
    file: str
    stored: NDArray[np.float32]
    bits: NDArray[np.integer]


@dataclass(frozen=True)
class _Row:
    """One sample of a table. residual, future: float32 [P]."""

    key: str
    episode: str
    residual: NDArray[np.float32]
    future: NDArray[np.float32]


@dataclass
class _Sums:
    """Over the finished tables of one pair of steps.

    own      key, cosine of the residual with the sample's own future, and |r| / |f|
    squares  of the cosines of other futures, and their number
    """

    rows: list[_Row] = field(default_factory=list)
    own: list[tuple[str, float, float]] = field(default_factory=list)
    squares: float = 0.0
    pairs: int = 0
    file: str = ""

    @property
    def noise(self) -> float:
        """Standard deviation of a cosine by chance."""
        return math.sqrt(self.squares / self.pairs)


class ResidualTest:
    """Collects residuals, and tests them at the end; memory is bounded by the tables of the pairs of steps."""

    def __init__(self, build: ClaimedBuild) -> None:
        sizes = build.sizes
        steps = (sizes.steps + 1) * sizes.steps // 2
        row = 8 * len(_FORMS) * sizes.views * sizes.tokens * sizes.width
        self._size = max(FEWEST, min(LARGEST_TABLE, TABLE_BYTES // (steps * row)))
        self._sums: dict[tuple[int, int, str], _Sums] = defaultdict(_Sums)

    def add(self, sample: ResidualSample, step: int, found: NDArray[np.float16]) -> None:
        """Add a step of a sample. found: what the encoder makes of it, float16 [V, N, D]."""
        stored = sample.stored
        own = stored[step].ravel().astype(np.float64)
        length = float(own @ own)
        residual = stored[step].ravel() - found.ravel().astype(np.float32)
        bits = sample.bits[step].ravel().astype(np.float32)
        forms = dict(zip(_FORMS, (residual, residual * np.sign(found.ravel()), 2 * bits - 1), strict=True))
        for later in range(step + 1, len(stored)):
            if not stored[later].any():
                continue  # masked
            future = stored[later].ravel() - own
            future -= own * (float(own @ future) / length if length else 0.0)
            future32 = future.astype(np.float32)
            for form, values in forms.items():
                sums = self._sums[step, later, form]
                sums.file = sample.file
                self._add_row(sums, _Row(sample.key, sample.episode, values, future32))

    def _add_row(self, sums: _Sums, row: _Row) -> None:
        sums.rows.append(row)
        if len(sums.rows) >= self._size:
            _finish(sums)

    def merge(self, other: ResidualTest) -> None:
        """Add the residuals of another part of the build. Rows of its unfinished tables join those here."""
        for pair, sums in other._sums.items():
            mine = self._sums[pair]
            mine.own += sums.own
            mine.squares += sums.squares
            mine.pairs += sums.pairs
            mine.file = sums.file
            for row in sums.rows:
                self._add_row(mine, row)

    def check(self, report: Report) -> tuple[str, ...]:
        """Report residuals that follow a future, and say which whisper would have been found."""
        claims = []
        for (step, later, form), sums in sorted(self._sums.items()):
            _finish(sums)
            if sums.pairs >= FEWEST:
                _judge(sums, f"{_FORMS[form].format(_name(step))} follows step {later}", report)
            if form == "value":
                claims.append(_power(sums, step, later))
        return tuple(claims)


def _judge(sums: _Sums, what: str, report: Report) -> None:
    """Cosines with the samples' own futures against those of chance: over the build, and one by one."""
    noise = max(sums.noise, 1e-30)
    cosines = np.array([cosine for _, cosine, _ in sums.own])
    report.check("L2", len(cosines))
    deviations = abs(float(cosines.mean())) * math.sqrt(len(cosines)) / noise
    if deviations > OVER_BUILD:
        size = f"over the build, {deviations:.1f} standard deviations of chance, {OVER_BUILD:g} allowed"
        report.found("L2", sums.file, f"{what}: {size}")
    for key, cosine, _ in sums.own:
        if abs(cosine) > OF_SAMPLE * noise:
            size = f"{abs(cosine) / noise:.1f} standard deviations of chance, {OF_SAMPLE:g} allowed"
            report.found("L2", sums.file, f"{what}: {size}", key)


def _power(sums: _Sums, step: int, later: int) -> str:
    """Which whisper would have been found, as a sentence."""
    if sums.pairs < FEWEST:
        return f"whispers of step {later} in step {step} were not looked for: too few samples of different episodes"
    if sums.noise == 0:
        return f"step {step} is equal to the bit in the {len(sums.own)} samples compared with step {later}"
    ratio = float(np.median([ratio for _, _, ratio in sums.own]))
    found = (OVER_BUILD + CERTAINTY) * sums.noise / math.sqrt(len(sums.own)) * ratio
    size = f"{found:.2g} of the way to step {later} in step {step} of every sample"
    return f"a whisper of {size} would have been found with 99 % certainty ({len(sums.own)} samples)"


def _name(step: int) -> str:
    return "the context" if step == 0 else f"step {step}"


def _finish(sums: _Sums) -> None:
    """Turn the rows of a table into cosines."""
    rows, sums.rows = sums.rows, []
    episodes = np.array([row.episode for row in rows])
    others = episodes[:, None] != episodes[None, :]
    free = int(others.sum()) - 2 * len(rows) + 1
    if free < FEWEST:
        return
    residuals, futures = np.stack([row.residual for row in rows]), np.stack([row.future for row in rows])
    long, far = (np.linalg.norm(values.astype(np.float64), axis=1) for values in (residuals, futures))
    table = (residuals @ futures.T).astype(np.float64) / np.maximum(long[:, None] * far, 1e-30)
    table -= _mean(table, others, 0)[None, :]
    table -= _mean(table, others, 1)[:, None]
    sums.squares += float(np.square(table[others]).sum())
    sums.pairs += free
    ratios = long / np.maximum(far, 1e-30)
    sums.own += [(row.key, float(table[i, i]), float(ratios[i])) for i, row in enumerate(rows)]


def _mean(table: NDArray[np.float64], chosen: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    """Mean over the chosen entries along an axis; 0 where there is none."""
    count = chosen.sum(axis=axis)
    mean: NDArray[np.float64] = np.where(chosen, table, 0.0).sum(axis=axis) / np.maximum(count, 1)
    return mean
