"""What the state and one field of numbers say, and the fields of a build, of which a bounded number is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

from pipeline.audit.lookahead.numbers import filtered, lags
from pipeline.audit.lookahead.numbers.backwards import Recursion
from pipeline.audit.lookahead.numbers.episode_lags import EpisodeLags, ShiftedByEpisode
from pipeline.audit.lookahead.numbers.filtered import Filtered, FilterSums
from pipeline.audit.lookahead.numbers.kernels import EXACT
from pipeline.audit.lookahead.numbers.lags import Commands, Moments, Shifted
from pipeline.audit.lookahead.numbers.references import OTHER, FieldKey, FieldValues, Values
from pipeline.audit.lookahead.numbers.state_endings import FirstAndLast

MOST_CHANNELS = 256
"""Channels of fields besides state and actions that are kept, in the order of the names."""

Found = Shifted | Filtered | ShiftedByEpisode


@dataclass
class FieldNumbers:
    """Sums over the episodes that have the field."""

    moments: Moments
    filters: tuple[FilterSums, ...]
    recursion: Recursion
    lags: EpisodeLags
    endings: FirstAndLast
    episodes: int = 1

    @classmethod
    def of(cls, state: Values, field: FieldValues) -> Self:
        """Of one episode: its state [N, S] and a field of it."""
        moments = Moments.of(state, field)
        filters = tuple(FilterSums.of(state, field, ahead) for ahead in filtered.AHEAD)
        by_episode, endings = EpisodeLags.of(moments, len(state)), FirstAndLast.of(state, field)
        return cls(moments, filters, Recursion.of(state, field), by_episode, endings)

    @property
    def key(self) -> FieldKey:
        """The field."""
        return self.moments.key

    def add(self, other: FieldNumbers) -> None:
        """Add other episodes."""
        self.moments.add(other.moments)
        for own, more in zip(self.filters, other.filters, strict=True):
            own.add(more)
        self.recursion.add(other.recursion)
        self.lags.add(other.lags)
        self.endings.add(other.endings)
        self.episodes += other.episodes

    def found(self, commands: Commands) -> Iterator[Found]:
        """Channels that equal later frames of the field, or were filtered with them, over all episodes."""
        yield from self.moments.shifted(commands)
        for sums in self.filters:
            yield from sums.filtered(self.moments.busy, commands)
        yield from self.recursion.filtered(self.moments.busy, commands)
        yield from self.lags.shifted(commands)

    def found_alone(self, frames: int, commands: Commands) -> Iterator[Found]:
        """The same of one episode, as far as it is long enough to be judged alone."""
        if frames >= lags.LONG:
            yield from self.moments.shifted(commands, frames)
        for sums in self.filters:
            if sums.decides_alone:
                yield from sums.filtered(self.moments.busy, commands, EXACT)


class BuildFields:
    """The fields of the episodes of a build, or of a part of it.

    State and actions are always kept. Of the others, in the order of their names, as many as have MOST_CHANNELS
    channels together: a field that the whole build keeps is kept by each of its parts, so parts give the same sums.
    """

    def __init__(self) -> None:
        self._fields: dict[FieldKey, FieldNumbers] = {}
        self.left_out = 0

    def __iter__(self) -> Iterator[FieldNumbers]:
        return (self._fields[key] for key in sorted(self._fields))

    def add(self, fields: Sequence[FieldNumbers]) -> None:
        """Add the fields of other episodes."""
        for field in fields:
            if field.key in self._fields:
                self._fields[field.key].add(field)
            else:  # what another process made cannot be written to
                self._fields[field.key] = deepcopy(field)
        self._bound()

    def merge(self, other: BuildFields) -> None:
        """Add another part of the build."""
        self.left_out += other.left_out
        self.add(tuple(other))

    def _bound(self) -> None:
        channels = 0
        for key in sorted(key for key in self._fields if key.kind == OTHER):
            channels += key.width
            if channels > MOST_CHANNELS:
                self.left_out += self._fields.pop(key).episodes
