"""The filters that explain a channel by the frames around it, each with what honest explanations leave.

X references, T taps from n-8 to n+F, M weights, S channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.audit.lookahead.numbers.references import Values

BACK = 8
"""Frames before n."""

NEXT = 4
"""Later frames that a velocity, a force or a command of the frame decides by physics."""

EXACT = 1e-9
"""Share that a shape without free weights may leave. A true velocity is near the slope of the frames around n, and
leaves more: 5e-8 where a motion of 0.3 Hz is recorded at 50 Hz."""

_RIDGE, _NOTHING, _MINOR = 1e-10, 1e-12, 0.05
"""Part of the power that is not used; variance of nothing, as a share of the largest; weight of nothing."""


@dataclass(frozen=True)
class Kernel:
    """A filter, the share of variance that it leaves, and the share that what is honest leaves."""

    how: str
    left: float
    honest: float


@dataclass(frozen=True)
class Fit:
    """Least squares from centred sums of products.

    taps [X, T, T]  of x[n+i] and x[n+j];  cross [X, T, S]  of x[n+i] and s[n];  power [S]  of s[n]
    """

    taps: Values
    cross: Values
    power: Values

    def pair(self, at: int, channel: int) -> Fit:
        """One reference and one channel."""
        return Fit(self.taps[at : at + 1], self.cross[at : at + 1, :, [channel]], self.power[[channel]])

    def left(self, basis: Values) -> Values:
        """Share of the variance of s that weights in the span of a basis [T, M] leave, [X, S]."""
        _, explained = self._solved(basis)
        moves = self.power > 0
        return np.where(moves, np.clip(1 - explained / np.where(moves, self.power, 1), 0, 1), 1.0)

    def average(self, basis: Values) -> tuple[float, Values]:
        """Of one pair: the share that weights of one sign leave, and these weights [M]."""
        from scipy.optimize import nnls  # SciPy: half a second

        scaled, right, size = self._scaled(basis)
        gram, wanted = scaled[0], right[0, :, 0]
        root = np.linalg.cholesky(gram + _RIDGE * np.trace(gram) * np.eye(len(gram)))
        best = (1.0, np.zeros(len(gram)))
        for sign in (1.0, -1.0):
            try:
                weights, _ = nnls(root.T, np.linalg.solve(root, sign * wanted))
            except RuntimeError:  # it did not converge
                continue
            explained = weights @ (2 * sign * wanted - gram @ weights)
            best = min(best, (float(1 - explained / self.power[0]), weights / size[0]), key=lambda fit: fit[0])
        return max(best[0], 0.0), best[1]

    def _scaled(self, basis: Values) -> tuple[Values, Values, Values]:
        gram, cross = basis.T @ self.taps @ basis, basis.T @ self.cross
        own = np.einsum("xmm->xm", gram)  # next to nothing where the frames on both sides cancel out
        size = np.sqrt(np.where(own > _NOTHING * own.max(axis=1, keepdims=True), own, np.inf))
        return gram / (size[:, :, None] * size[:, None, :]), cross / size[:, :, None], size

    def _solved(self, basis: Values) -> tuple[Values, Values]:
        """Weights [X, M, S] and the variance that they explain, [X, S]."""
        scaled, right, size = self._scaled(basis)
        weights = np.linalg.pinv(scaled, rcond=_RIDGE, hermitian=True) @ right
        # Of these very weights, so that what rounding does to them leaves more and never less.
        explained = (weights * (2 * right - scaled @ weights)).sum(axis=1)
        return weights / size[:, :, None], explained


@dataclass(frozen=True)
class Taps:
    """The frames n-BACK..n+ahead and the filters over them, each as a basis [T, M]."""

    ahead: int
    now: int = BACK

    @property
    def count(self) -> int:
        """T."""
        return self.now + 1 + self.ahead

    @cached_property
    def all(self) -> Values:
        """Any weights."""
        return np.eye(self.count)

    @property
    def past(self) -> Values:
        """Frames up to n."""
        return self.all[:, : self.now + 1]

    def kernels(self, pair: Fit) -> Iterator[Kernel]:
        """The filters of one reference and one channel."""
        now, eye = self.now, self.all
        past = float(pair.left(self.past)[0, 0])
        left, weights = pair.average(eye)
        yield Kernel(f"averaged over the frames {self._span(weights, 0)}", left, past)
        near = float(pair.left(eye[:, : now + 1 + NEXT])[0, 0])
        left, weights = pair.average(np.diff(eye, axis=1))
        yield Kernel(f"as the way between the frames {self._span(weights, 1)}", left, near)
        for how, shape in self._shapes():
            exact = float(pair.left(shape[:, None])[0, 0])
            if exact <= EXACT:
                yield Kernel(f"{how} over the frames around n", exact, past)

    def _shapes(self) -> Iterator[tuple[str, Values]]:
        """Savitzky-Golay filters, [T]. A slope of three frames is NumPy's gradient."""
        from scipy.signal import savgol_coeffs  # SciPy: half a second

        for reach in range(1, self.now + 1):
            wide = np.zeros(self.count)
            for how, order, slope in (("differentiated", 1, 1), ("smoothed", 2, 0), ("smoothed", 4, 0)):
                if order < 2 * reach:
                    weights = savgol_coeffs(2 * reach + 1, order, deriv=slope, use="dot")
                    wide[self.now - reach : self.now + reach + 1] = weights
                    yield how, wide.copy()

    def _span(self, weights: Values, more: int) -> str:
        """The frames with more than the smallest weights, as n-2 to n+6."""
        used = np.flatnonzero(weights >= _MINOR * weights.max()) - self.now
        return f"n{used[0]:+d} to n{used[-1] + more:+d}"
