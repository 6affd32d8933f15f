"""How episodes, in their order, fill groups and shards: `settings.shards` (rule L7)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from pipeline.audit.build import ClaimedBuild
from pipeline.errors import BuildError

Task = tuple[list[str], list[int]]
"""Episodes of a shard, and how many of them each group has."""


@dataclass(frozen=True)
class Packing:
    """Expected samples at which a shard, and at which a group in it, is complete."""

    samples: int
    group_samples: int

    @classmethod
    def of(cls, build: ClaimedBuild) -> Self:
        """Raises BuildError when the settings hold no such numbers."""
        stored = build.settings.get("shards")
        found = [stored.get(name) if isinstance(stored, dict) else None for name in ("samples", "group_samples")]
        samples, group = found
        if type(samples) is not int or type(group) is not int or min(samples, group) < 1:
            where = f"{build.root}/build.json: settings.shards"
            raise BuildError(f"{where}: samples and group_samples must be numbers from 1 up, found {found}")
        return cls(samples, group)

    def pack(self, episodes: Iterable[tuple[str, int]]) -> Iterator[Task]:
        """The shards of (episode, windows expected of it), in order. An episode is never cut."""
        names: list[str] = []
        groups: list[int] = []
        waiting = in_group = in_shard = 0
        for name, windows in episodes:
            names.append(name)
            waiting, in_group, in_shard = waiting + 1, in_group + windows, in_shard + windows
            if in_group >= self.group_samples or in_shard >= self.samples:
                groups.append(waiting)
                waiting = in_group = 0
            if in_shard >= self.samples:
                yield names, groups
                names, groups, in_shard = [], [], 0
        if names:
            yield names, groups + [waiting] * (waiting > 0)
