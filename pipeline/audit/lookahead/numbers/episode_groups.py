"""Sums over all episodes, and over groups of them: what most groups agree on counts, whatever the others hold.

A drop-out stored as 0 is larger than everything else: in sums over all episodes it hides what
all the other episodes say. Of several groups it hides one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipeline.audit.lookahead.numbers.field_numbers import BuildFields, FieldNumbers, Found
from pipeline.audit.lookahead.numbers.lags import Commands
from pipeline.audit.lookahead.numbers.state_endings import known_endings

GROUPS, AGREE = 8, 5
"""Groups of episodes; how many must say the same."""

EPISODES = 8
"""Episodes of a field that a group needs to say anything: of few, slow curves are alike by chance."""


_Found = TypeVar("_Found")


@dataclass(frozen=True)
class FoundIn:
    """A finding, and in which episodes."""

    found: Found
    where: str


class EpisodeGroups:
    """The fields of a build, by groups of episodes. Memory does not grow with the number of episodes."""

    def __init__(self) -> None:
        self._groups = tuple(BuildFields() for _ in range(GROUPS))

    def add(self, episode: str, fields: Sequence[FieldNumbers]) -> None:
        """Add an episode."""
        self._groups[zlib.crc32(episode.encode(errors="surrogatepass")) % GROUPS].add(fields)

    def merge(self, other: EpisodeGroups) -> None:
        """Add another part of the build."""
        for own, more in zip(self._groups, other._groups, strict=True):
            own.merge(more)

    def together(self) -> BuildFields:
        """All episodes."""
        fields = BuildFields()
        for group in self._groups:
            fields.merge(group)
        return fields

    def found(self, channels: int) -> Iterator[FoundIn]:
        """Channels that know later frames. channels: of the state."""
        for found in _found(list(self.together()), channels):
            yield FoundIn(found, "over all episodes")
        groups = [list(_found(fields, channels)) for fields in self._that_say()]
        for same in _agreed(groups, lambda found: found.same_as):
            yield FoundIn(min(same, key=lambda found: found.left), _groups_text(same))

    def endings(self) -> Iterator[tuple[int, str]]:
        """Channels that know the end of their episode, and what of it."""
        for channel, what, count in known_endings([field.endings for field in self.together()]):
            yield channel, f"{what} ({count} episodes)"
        groups = [list(known_endings([field.endings for field in fields])) for fields in self._that_say()]
        for same in _agreed(groups, lambda ending: ending[:2]):
            yield same[0][0], f"{same[0][1]} ({_groups_text(same)})"

    def _that_say(self) -> Iterator[list[FieldNumbers]]:
        for group in self._groups:
            yield [field for field in group if field.episodes >= EPISODES]


def _found(fields: Sequence[FieldNumbers], channels: int) -> Iterator[Found]:
    commands = Commands.of([field.moments for field in fields], channels)
    for field in fields:
        yield from field.found(commands)


def _agreed(groups: Iterable[Iterable[_Found]], key: Callable[[_Found], Hashable]) -> Iterator[list[_Found]]:
    """What enough groups say, from each of them."""
    said: dict[Hashable, list[_Found]] = {}
    for group in groups:
        for found in {key(found): found for found in group}.values():
            said.setdefault(key(found), []).append(found)
    return (same for same in said.values() if len(same) >= AGREE)


def _groups_text(same: Sequence[object]) -> str:
    return f"in {len(same)} of {GROUPS} groups of episodes"
