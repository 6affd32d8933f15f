"""The numbers of an episode that its state is compared with, field by field.

Which fields an episode has is its own business: a stray field in one of them changes nothing for the others. The state
itself and the actions are always there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.raw.base import RawEpisode

Values = NDArray[np.float64]

STATE, ACTION, OTHER = 0, 1, 2

LARGEST = 1e30
"""Numbers beyond are taken for missing: their products would be infinite."""


class FieldKey(NamedTuple):
    """What makes fields of two episodes the same. kind: STATE, ACTION or OTHER; action: it holds actions."""

    kind: int
    name: str
    action: bool
    width: int

    @property
    def channels(self) -> tuple[str, ...]:
        """A name for each channel."""
        return tuple(f"{self.name} channel {i}" for i in range(self.width))


@dataclass(frozen=True)
class FieldValues:
    """A field of one episode. values: float64 [N, X]."""

    key: FieldKey
    values: Values


def fields_of(episode: RawEpisode) -> tuple[FieldValues, ...]:
    """The state's own channels first, the actions, and every other number of the raw data; () without a state.

    A field without a row for each frame is left out. Numbers that are not finite, as where a sensor drops out, are
    filled in from those before and after; a channel of which half is missing counts as one that does not move.
    """
    if episode.state is None or not len(episode.state):
        return ()
    frames = len(episode.state)
    parts: list[tuple[int, str, bool, Values]] = [(STATE, "state", False, episode.state.astype(np.float64))]
    if episode.actions is not None:
        parts.append((ACTION, "action", True, episode.actions[:frames].astype(np.float64)))
    parts += [(OTHER, other.name, other.action, other.values[:frames]) for other in episode.others]
    return tuple(
        FieldValues(FieldKey(kind, name, action, values.shape[1]), values if kind == STATE else _filled(values))
        for kind, name, action, values in parts
        if len(values) == frames and values.shape[1]
    )


def _filled(values: Values) -> Values:
    finite = np.abs(values) < LARGEST  # False for NaN too
    if finite.all():
        return values
    rows, filled = np.arange(len(values)), np.zeros_like(values)
    for channel in np.flatnonzero(2 * finite.sum(axis=0) > len(values)):
        known = finite[:, channel]
        filled[:, channel] = np.interp(rows, rows[known], values[known, channel])
    return filled
