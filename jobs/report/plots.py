"""Line plots: a chart becomes an inline SVG, drawn by matplotlib, and the last value of each series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from jobs.common.svg import COLOURS, FONT_SIZE, empty_axes, inline_svg
from jobs.report.run_files import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 500
"""Points of a drawn line at most."""
VALUE_ROOM = 20.0
"""Pixels between the values of points, which a narrow screen shows larger."""
LOG_RATIO = 30.0
"""A chart that may choose gets a logarithmic axis when its largest value is so many times the smallest."""
SMOOTH_FROM = 100
"""Curves of fewer points are drawn as they are."""


@dataclass(frozen=True)
class Series:
    """A line of a chart. `colour` 0..7 is one of the page's colours; a dashed line is a baseline."""

    label: str
    curve: Curve
    colour: int = 0
    dashed: bool = False

    @property
    def last(self) -> str:
        """The last value, for the legend."""
        return short_number(float(self.curve.y[-1]))


@dataclass(frozen=True)
class Chart:
    """Series in one drawing.

    unit   shown after numbers
    log    a logarithmic axis if the values span decades
    zero   the axis of a linear chart starts at 0
    smooth  long curves get a running mean
    line   a value that is marked across the chart
    """

    title: str
    series: tuple[Series, ...]
    unit: str = ""
    log: bool = False
    zero: bool = False
    smooth: bool = False
    line: float | None = None


@dataclass(frozen=True)
class Plot:
    """A drawn chart. `mean_of`: rows of the running mean, 0: none."""

    chart: Chart
    svg: Markup
    log: bool
    mean_of: int


def draw(chart: Chart, first: int, last: int) -> Plot:
    """Draw a chart whose x axis reaches from step `first`, or from 0 if that is near, to step `last`.

    Every series has at least one point.
    """
    axes = empty_axes(width=440, height=214, left=52, bottom=24)
    log, low, high = y_limits(chart)
    first = 0 if first <= 0.1 * last else first
    left, right = (first, last) if last > first else (first - 0.5, first + 0.5)
    axes.set(yscale="log" if log else "linear", xlim=(left, right), ylim=(low, high))
    axes.minorticks_off()
    for set_ticks, ticks in (
        (axes.set_xticks, round_ticks(left, right, 5, whole=True) if last > first else [(last, tick_label(last, 1.0))]),
        (axes.set_yticks, round_ticks(low, high, log=log)),
    ):
        set_ticks([value for value, _ in ticks], [label for _, label in ticks])
    axes.grid(axis="y", color=COLOURS["grid"], linewidth=1)
    axes.set_xlabel("step", color=COLOURS["soft"], fontsize=FONT_SIZE)
    axes.xaxis.set_label_coords(-0.08, -0.062)
    if chart.line is not None:
        axes.axhline(chart.line, color=COLOURS["soft"], linewidth=1, linestyle="--", gid="mark")
    window = max([_add_series(axes, series, chart.smooth) for series in chart.series])
    if all(len(series.curve.x) == 1 for series in chart.series):
        _add_values(axes, chart.series)
    return Plot(chart, inline_svg(axes), log, window)


def _add_series(axes: Axes, series: Series, smooth: bool) -> int:
    """Lines and end point of a series. Returns the rows of its running mean, 0 without one."""
    curve, name = series.curve, f"c{series.colour}"
    smooth = smooth and len(curve.x) >= SMOOTH_FROM
    reach = len(curve.x) // 100
    classes = f"line {name}" + (" dashed" if series.dashed else "")
    look: dict[str, Any] = {"color": COLOURS[name], "linestyle": "--" if series.dashed else "-", "clip_on": False}
    width = 1.4 if series.dashed else 1.75
    rows = shrink(curve.x.astype(np.float64), curve.y)
    if smooth:
        axes.plot(*rows, **look, linewidth=1, alpha=0.28, zorder=2, gid=f"{classes} faint")
        chosen = np.unique(np.linspace(0, len(curve.x) - 1, POINTS // 2).round().astype(int))
        rows = curve.x[chosen].astype(np.float64), running_mean(curve.y, reach)[chosen]
    axes.plot(*rows, **look, linewidth=width, zorder=3, gid=classes)
    axes.plot(curve.x[-1:], curve.y[-1:], "o", color=COLOURS[name], markersize=5, clip_on=False, gid=f"end {name}")
    return 2 * reach + 1 if smooth else 0


def _add_values(axes: Axes, series: Sequence[Series]) -> None:
    """The value of each series' only point beside it, at least a line's height apart."""
    places: list[float] = []
    for one in sorted(series, key=lambda each: float(each.curve.y[-1])):
        point = axes.transData.transform((float(one.curve.x[-1]), float(one.curve.y[-1])))[1] * 72 / axes.figure.dpi
        places.append(max(point, places[-1] + VALUE_ROOM) if places else point)
        axes.annotate(
            one.last,
            (float(one.curve.x[-1]), float(one.curve.y[-1])),
            (-9.0, places[-1] - point - 0.35 * FONT_SIZE),
            textcoords="offset points",
            ha="right",
            color=COLOURS["ink"],
            fontsize=FONT_SIZE,
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


def round_ticks(
    low: float, high: float, count: int = 4, log: bool = False, whole: bool = False
) -> list[tuple[float, str]]:
    """(value, label) of round numbers between two limits, about `count` of them; of a logarithmic axis, of any number.

    Args:
        whole: integers alone.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator

    if log:
        values = LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,), numticks=7).tick_values(low, high)
        return [(float(value), short_number(value)) for value in values if low <= value <= high]
    values = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10], integer=whole).tick_values(low, high)
    step, rounding = float(values[1] - values[0]), 1e-9 * (high - low)
    return [(float(v), tick_label(v, step)) for v in values if low - rounding <= v <= high + rounding]


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


def y_limits(chart: Chart) -> tuple[bool, float, float]:
    """Whether the axis is logarithmic, and where it begins and ends."""
    low = min(float(series.curve.y.min()) for series in chart.series)
    high = max(float(series.curve.y.max()) for series in chart.series)
    if chart.line is not None:
        low, high = min(low, chart.line), max(high, chart.line)
    if chart.log and low > 0 and LOG_RATIO <= high / low < 1e100:
        room = (high / low) ** 0.04
        return True, low / room, high * room
    if chart.zero and low >= 0:
        return False, 0.0, 1.06 * high if high > 0 else 1.0
    flat = high - low <= 1e-9 * abs(high)
    room = (0.1 * abs(high) or 1.0) if flat else 0.06 * (high - low)
    return False, low - room, high + room
