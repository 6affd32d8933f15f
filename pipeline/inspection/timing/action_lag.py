"""Which action moves the state from frame n to n+1: a[n], as it should be, an earlier or a later one.

Changes of the state are compared with the actions and with changes of the actions (of targets), by correlations that
are summed over episodes. An action that comes earlier is a robot that takes time; a later one is a row that slipped.

N frames, S and A channels, L lags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.inspection.cameras.look import Values
from pipeline.inspection.flag import Flag

LAGS = 8
"""Frames that are searched to each side."""

FOLLOWS = 0.5
"""Correlation from which on a channel of the state is said to follow an action."""

BETTER = 1.5
"""How many times less another lag must leave unexplained than lag 0."""

MIN_FRAMES = 32


@dataclass(frozen=True)
class ActionLag:
    """a[n+lag] moves the state from n to n+1: of the pair of channels that says it most clearly.

    correlation  at this lag;  at_zero  at lag 0
    """

    action: int
    state: int
    lag: int
    correlation: float
    at_zero: float


class ActionLagSums:
    """Sums over episodes, however many."""

    def __init__(self) -> None:
        self._sums: tuple[Any, ...] | None = None
        self._frames = 0

    def add(self, state: Values, actions: Values) -> None:
        """Add an episode, float64 [N, S] and [N, A]; a short one, or one of another width, is passed over."""
        if len(state) < MIN_FRAMES:
            return
        moved = np.diff(state, axis=0)[LAGS + 1 : -LAGS]
        change = np.diff(actions, axis=0, prepend=actions[:1])
        asked = np.concatenate([actions, change], axis=1)[:-1]
        moved = moved - moved.mean(axis=0)
        parts = []
        for lag in range(-LAGS, LAGS + 1):
            own = asked[LAGS + 1 + lag : len(asked) - LAGS + lag]
            own = own - own.mean(axis=0)
            parts.append((moved.T @ own, (own**2).sum(axis=0)))
        new = (np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts]), (moved**2).sum(axis=0))
        if self._sums is not None and self._sums[0].shape != new[0].shape:
            return
        self._sums = new if self._sums is None else tuple(a + b for a, b in zip(self._sums, new, strict=True))
        self._frames += len(moved)

    def result(self) -> ActionLag | None:
        """None where no channel of the state follows an action."""
        if self._sums is None or self._frames < MIN_FRAMES:
            return None
        cross, asked, moved = self._sums
        power = np.sqrt(asked[:, None, :] * moved[None, :, None])
        size = np.abs(np.where(power > 1e-12, cross / np.maximum(power, 1e-12), 0))  # [L, S, 2A]
        at, state, action = np.unravel_index(int(size.argmax()), size.shape)
        if size[at, state, action] < FOLLOWS:
            return None
        found = float(size[at, state, action]), float(size[LAGS, state, action])
        return ActionLag(int(action) % (size.shape[2] // 2), int(state), int(at) - LAGS, *found)


def slipped(found: ActionLag | None, state_names: list[str], action_names: list[str]) -> Flag | None:
    """A later action than a[n] moves the state."""
    if found is None or found.lag <= 0:
        return None
    left, best = 1 - found.at_zero**2, 1 - found.correlation**2
    if left < BETTER * max(best, 1e-6):
        return None
    detail = (
        f"action {action_names[found.action]} of frame n+{found.lag} moves state {state_names[found.state]} from n to "
    )
    detail += f"n+1 (correlation {found.correlation:.2f}; that of frame n: {found.at_zero:.2f}): its rows are late"
    return Flag(
        "action-lag", detail, min(100.0, left / max(best, 1e-6) / BETTER), f"action {action_names[found.action]}"
    )
