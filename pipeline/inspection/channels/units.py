"""Channels whose values do not fit the unit that the manifest names: degrees for radians, millimetres for metres."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pipeline.inspection.channels.summary import Values
from pipeline.inspection.flag import Flag

LIMITS = {
    "metres": (5.0, "millimetres"),
    "metres a step": (0.5, "millimetres, or positions"),
    "radians": (4 * math.pi, "degrees"),
    "radians a step": (math.pi, "degrees"),
    "degrees": (1080.0, "another unit"),
    "degrees a step": (180.0, "another unit"),
    "0 to 1": (1.5, "another scale, such as 0 to 100 or millimetres of opening"),
}
"""Unit, as a manifest begins to say it -> largest size of a value, and what it is beyond."""

LEAST = {"degrees": (2 * math.pi, "radians"), "millimetres": (5.0, "metres")}
"""Unit -> all values are at most so large when it is rather another one."""


def misfits(kind: str, names: Sequence[str], units: Sequence[str], low: Values, high: Values) -> Iterator[Flag]:
    """Channels beyond the limit of their unit.

    Args:
        units: one for each channel, "" where none is known.
        low, high: smallest and largest value of each channel in the set, float64 [C].
    """
    for c, unit in enumerate(units):
        size, where = max(abs(float(low[c])), abs(float(high[c]))), f"{kind} {names[c]}"
        found = f"{where} has values from {low[c]:.4g} to {high[c]:.4g}; the manifest says {unit}"
        known = max((name for name in LIMITS if unit.startswith(name)), key=len, default="")
        if known and size > LIMITS[known][0]:
            limit, rather = LIMITS[known]
            yield Flag("wrong-unit", f"{found} (at most {limit:.3g}): {rather}?", size / limit, where)
    for unit, (limit, rather) in LEAST.items():
        own = [c for c, said in enumerate(units) if said == unit]
        size = max((max(abs(float(low[c])), abs(float(high[c]))) for c in own), default=math.inf)
        if 0 < size <= limit:
            where = ", ".join(names[c] for c in own)
            detail = f"{kind} {where}: no value is larger than {size:.4g}; the manifest says {unit}: {rather}?"
            yield Flag("wrong-unit", detail, limit / size, f"{kind} {names[own[0]]}")
