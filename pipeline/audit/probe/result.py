"""What the experiments on all clips say together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.audit.probe.experiment import ClipResult
from pipeline.errors import RunError

ABOVE_REPEATS = 3.0
"""A function that is not deterministic is moved by a frame when its output changes more than this times what it changes
by itself."""


@dataclass(frozen=True)
class Leak:
    """The context moved with frames after `now`: the strongest case of one kind of replacement."""

    what: str
    output: str
    change: float
    clip: str
    now: int


@dataclass(frozen=True)
class ProbeResult:
    """All clips together.

    outputs     names, the context's first;  context  how many of them
    rows        largest relative change over the clips, by what was replaced and output, in the order of the experiments
    repeated    by output, between calls with the same frames
    unmoved     outputs that do not move even with `now` and all later frames, as a text: nothing is shown of them
    stored      by output, a cache's largest relative difference from what the function makes
    leaks       what moved the context
    """

    clips: int
    outputs: tuple[str, ...]
    context: int
    rows: dict[str, dict[str, float]]
    repeated: dict[str, float]
    unmoved: tuple[str, ...]
    stored: dict[str, float]
    leaks: tuple[Leak, ...]

    @property
    def exit_code(self) -> int:
        """0 clean, 1 for a leak."""
        return int(self.status == "leak")

    @property
    def status(self) -> str:
        """ "leak" or "clean"."""
        return "leak" if self.leaks else "clean"


def combine(results: Sequence[ClipResult], cache_tolerance: float) -> ProbeResult:
    """The result of a probe.

    Raises:
        RunError: the experiment is blind, because the context does not move when all frames from `now` on do; or the
            function does not make what the cache holds.
    """
    for result in results:
        _require_seeing(result)
        _require_recipe(result, cache_tolerance)
    outputs = tuple(dict.fromkeys(name for result in results for name in result.repeated))
    repeated = {name: max(result.repeated.get(name, 0.0) for result in results) for name in outputs}
    stored = {name: max(result.stored.get(name, 0.0) for result in results) for name in outputs if results[0].stored}
    rows: dict[str, dict[str, float]] = {}
    for result in results:
        for change in result.later:
            row = rows.setdefault(change.what, {})
            for name, value in change.changes.items():
                row[name] = max(row.get(name, 0.0), value)
    leaks = tuple(leak for what in rows for leak in _strongest(results, what))
    unmoved = tuple(name for name in outputs if all(name in _unmoved(result) for result in results))
    return ProbeResult(len(results), outputs, len(results[0].context), rows, repeated, unmoved, stored, leaks)


def _require_seeing(result: ClipResult) -> None:
    if not set(result.context) - set(_unmoved(result)):
        raise RunError(
            f"{result.clip}, now={result.now}: the context does not change when frame now and all later ones do; "
            "the function does not read these frames, so the probe shows nothing"
        )


def _unmoved(result: ClipResult) -> list[str]:
    return [name for name, value in result.control.items() if not moved(value, result.repeated.get(name, 0.0))]


def _require_recipe(result: ClipResult, tolerance: float) -> None:
    for name, value in result.stored.items():
        if not value <= tolerance:
            raise RunError(
                f"{result.clip}: {name} in the cache differs by {percent(value)} from what the function makes, "
                f"{percent(tolerance)} allowed (cache_tolerance=); give the function that made the cache"
            )


def _strongest(results: Sequence[ClipResult], what: str) -> list[Leak]:
    """For each part of the context, the clip that moved most, if any moved."""
    best: dict[str, Leak] = {}
    for result in results:
        for change in result.later:
            for name, value in change.changes.items() if change.what == what else ():
                unseen = name in result.context and moved(value, result.repeated.get(name, 0.0))
                if unseen and (name not in best or value > best[name].change):
                    best[name] = Leak(what, name, value, result.clip, result.now)
    return list(best.values())


def moved(value: float, repeated: float) -> bool:
    """Whether a change is more than the function changes by itself."""
    return value > ABOVE_REPEATS * repeated


def percent(value: float) -> str:
    """A relative change as text."""
    if value == 0:
        return "0"
    return "without bound" if math.isinf(value) else f"{value:.2g}" if value < 1e-5 else f"{100 * value:.3g} %"
