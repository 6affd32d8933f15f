"""Line plots for pages without script: a chart becomes polylines in a unit square, ticks in percent, and last values.

The template stretches the square to the width there is, so that labels keep their size on any screen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.report.run_files import Curve

POINTS = 500
"""Points of a drawn line at most."""
LOG_RATIO = 30.0
"""A chart that may choose gets a logarithmic axis when its largest value is so many times the smallest."""
SMOOTH_FROM = 100
"""Curves of fewer points are drawn as they are."""
SIDE = 1000.0
"""Of the square the lines are drawn in."""


@dataclass(frozen=True)
class Series:
    """A line of a chart. `colour` 0..7 is one of the page's colours; a dashed line is a baseline."""

    label: str
    curve: Curve
    colour: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """What to draw.

    unit   shown after numbers
    log    a logarithmic axis if the values span decades
    zero   the axis of a linear chart starts at 0
    smooth  long curves get a running mean
    line   a value to mark across the chart
    """

    title: str
    series: tuple[Series, ...]
    unit: str = ""
    log: bool = False
    zero: bool = False
    smooth: bool = False
    line: float | None = None


@dataclass(frozen=True)
class Line:
    """`points` of a polyline; `faint`: single rows, behind their running mean."""

    points: str
    colour: int
    dashed: bool
    faint: bool


@dataclass(frozen=True)
class Key:
    """A series in the legend: its last value and where its end stands, in percent from left and top."""

    label: str
    last: str
    colour: int
    dashed: bool
    left: float
    top: float


@dataclass(frozen=True)
class Plot:
    """A drawn chart; ticks are (percent from left or top, label). `mean_of`: rows of the running mean, 0: none."""

    title: str
    lines: tuple[Line, ...]
    keys: tuple[Key, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    mark: float | None
    log: bool
    mean_of: int


class Axis:
    """Values low..high to 0..1.

    Args:
        log: both are positive, and so are all values placed.
    """

    def __init__(self, low: float, high: float, log: bool = False) -> None:
        self.log = log
        self.low, self.high = (math.log10(low), math.log10(high)) if log else (low, high)

    def place(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.log10(values) if self.log else values
        placed: NDArray[np.float64] = (found - self.low) / (self.high - self.low)
        return placed

    def ticks(self, count: int = 4, whole: bool = False) -> list[tuple[float, str]]:
        """(value, label) of round numbers, about `count` of them."""
        if self.log and self.high - self.low > 0.7:
            return _log_ticks(self.low, self.high)
        low, high = (10**self.low, 10**self.high) if self.log else (self.low, self.high)
        step = nice_step((high - low) / count)
        if whole:
            step = max(1.0, step)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return [(i * step, tick_label(i * step, step)) for i in range(first, last + 1)]


def draw(chart: Chart, first: int, last: int) -> Plot:
    """Draw a chart whose x axis reaches from step `first`, or from 0 if that is near, to step `last`.

    Every series has at least one point.
    """
    log, y_axis = _y_axis(chart)
    first = 0 if first <= 0.1 * last else first
    x_axis = Axis(first, last) if last > first else Axis(first - 0.5, first + 0.5)
    lines, window = [], 0
    for series in chart.series:
        curve, size = series.curve, len(series.curve.x) // 50
        smooth = chart.smooth and len(curve.x) >= SMOOTH_FROM
        x, y = shrink(curve.x.astype(np.float64), curve.y)
        lines.append(Line(_points(x_axis.place(x), y_axis.place(y)), series.colour, series.dashed, smooth))
        if smooth:
            window = max(window, 2 * (size // 2) + 1)
            chosen = np.unique(np.linspace(0, len(curve.x) - 1, POINTS // 2).round().astype(int))
            x, y = curve.x[chosen].astype(np.float64), running_mean(curve.y, size // 2)[chosen]
            lines.append(Line(_points(x_axis.place(x), y_axis.place(y)), series.colour, series.dashed, False))
    mark = None
    if chart.line is not None:
        mark = round(100 - 100 * float(y_axis.place(np.array(chart.line))), 2)
    return Plot(
        title=chart.title,
        lines=tuple(sorted(lines, key=lambda line: not line.faint)),
        keys=tuple(_key(series, chart.unit, x_axis, y_axis) for series in chart.series),
        x_ticks=_percent(x_axis, x_axis.ticks(5, whole=True), upwards=False),
        y_ticks=_percent(y_axis, y_axis.ticks(), upwards=True),
        mark=mark,
        log=log,
        mean_of=window,
    )


def shrink(
    x: NDArray[np.float64], y: NDArray[np.float64], points: int = POINTS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most about `points` points of a curve: first and last, and smallest and largest of each of many stretches."""
    if len(x) <= points:
        return x, y
    kept = {0, len(x) - 1}
    for stretch in np.array_split(np.arange(len(x)), points // 2 - 1):
        kept |= {int(stretch[y[stretch].argmin()]), int(stretch[y[stretch].argmax()])}
    order = np.array(sorted(kept))
    return x[order], y[order]


def running_mean(y: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Mean of each value and the `reach` values on either side of it, fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(y)])
    at = np.arange(len(y))
    start, stop = np.maximum(0, at - reach), np.minimum(len(y), at + reach + 1)
    # A mean lies between its values; rounding of the sums must not take it out (of the positive ones, for a logarithm).
    mean: NDArray[np.float64] = ((sums[stop] - sums[start]) / (stop - start)).clip(y.min(), y.max())
    return mean


def nice_step(raw: float) -> float:
    """The smallest of 1, 2, 2.5, 5, 10 times a power of ten that is at least `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))


def tick_label(value: float, step: float) -> str:
    """A tick's label with as many digits as its step needs."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000 and step >= 10:
        unit, letter = (1e6, "M") if abs(value) >= 1e6 else (1e3, "K")
        return f"{value / unit:.4g}{letter}"
    if abs(value) < 1e-3 or abs(value) >= 1e6:
        return short_number(value)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step / 10**-decimals, 6) % 1:
        decimals += 1
    return f"{value:.{decimals}f}"


def short_number(value: float) -> str:
    """Four digits, "12,345" from a thousand on, "1.5e-5" for small ones."""
    if abs(value) >= 1000 and abs(value) < 1e9:
        return f"{value:,.0f}"
    if abs(value) >= 1e-3 or value == 0:
        return f"{value:.4g}".replace("e+0", "e").replace("e+", "e")
    mantissa, _, power = f"{value:.3e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"


def _y_axis(chart: Chart) -> tuple[bool, Axis]:
    low = min(float(series.curve.y.min()) for series in chart.series)
    high = max(float(series.curve.y.max()) for series in chart.series)
    if chart.line is not None:
        low, high = min(low, chart.line), max(high, chart.line)
    if chart.log and low > 0 and LOG_RATIO <= high / low < 1e100:
        room = (high / low) ** 0.04
        return True, Axis(low / room, high * room, log=True)
    if chart.zero and low >= 0:
        return False, Axis(0.0, 1.06 * high if high > 0 else 1.0)
    flat = high - low <= 1e-9 * abs(high)
    room = (0.1 * abs(high) or 1.0) if flat else 0.06 * (high - low)
    return False, Axis(low - room, high + room)


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Powers of ten, with 2 and 5 between them where they are few."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    every = max(1, math.ceil((high - low) / 6))
    factors: Sequence[int] = (1, 2, 5) if high - low < 2 else (1,)
    values = [factor * 10.0**power for power in powers if power % every == 0 for factor in factors]
    return [(value, short_number(value)) for value in values if low <= math.log10(value) <= high]


def _points(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    pairs = zip(SIDE * x, SIDE * (1 - y), strict=True)
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in pairs)


def _percent(axis: Axis, ticks: Sequence[tuple[float, str]], upwards: bool) -> tuple[tuple[float, str], ...]:
    places = [(100 * float(axis.place(np.array(value))), label) for value, label in ticks]
    return tuple((round(100 - at if upwards else at, 2), label) for at, label in places)


def _key(series: Series, unit: str, x_axis: Axis, y_axis: Axis) -> Key:
    x, y = np.array(float(series.curve.x[-1])), series.curve.y[-1:]
    left, top = 100 * float(x_axis.place(x)), 100 - 100 * float(y_axis.place(y)[0])
    last = short_number(float(y[0])) + (f" {unit}" if unit else "")
    return Key(series.label, last, series.colour, series.dashed, round(left, 2), round(top, 2))
