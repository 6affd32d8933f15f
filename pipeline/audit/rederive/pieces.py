"""Which samples of a shard the encoder took together, by the groups of tasks.jsonl and `shards.group_samples`.

The bits of a latent depend on the batch that it was computed in, so what is encoded again is encoded in whole pieces.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.entries import ShardEntry
from pipeline.errors import BuildError


@dataclass(frozen=True)
class Piece:
    """Rows of a shard that were encoded together. whole: no episode of their group has been dropped since."""

    rows: range
    whole: bool


def pieces_of(build: ClaimedBuild, shard: ShardEntry, episodes: Sequence[str]) -> list[Piece]:
    """The pieces of a shard, in order; they cover every row.

    Args:
        episodes: of each row.

    Raises:
        BuildError: tasks.jsonl has no groups for it, or shards.group_samples is no count.
    """
    line = build.tasks.tasks.index((shard.split, shard.index))
    where, size = f"{build.root}/tasks.jsonl:{line + 1}", _group_samples(build)
    own = build.tasks.episodes(line)
    counts = build.tasks.heads[line].get("groups")
    known = own.stop - own.start
    if not isinstance(counts, list) or any(type(n) is not int or n < 0 for n in counts) or sum(counts) != known:
        raise BuildError(f"{where}: groups must count its {known} episodes, found {counts!r:.80}")
    groups = np.repeat(np.arange(len(counts)), counts)
    broken = set(groups[build.tasks.dropped[own]].tolist())
    number = dict(zip(build.tasks.ids[own].to_pylist(), groups.tolist(), strict=True))
    of_row = np.array([number.get(episode, -1) for episode in episodes])
    starts = np.flatnonzero(np.diff(of_row, prepend=-2))
    ends = [*starts[1:].tolist(), len(of_row)]
    return [
        Piece(range(at, min(at + size, end)), int(of_row[start]) not in broken)
        for start, end in zip(starts.tolist(), ends, strict=True)
        for at in range(start, end, size)
    ]


class PieceChoice:
    """Draws pieces until `wanted` of `samples` samples are in them, or a few more.

    The last ones are drawn more often, if too few would be left.
    """

    def __init__(self, samples: int, seed: int, wanted: int) -> None:
        self._left, self._wanted, self._random = samples, wanted, random.Random(seed)

    def take(self, pieces: Sequence[Piece]) -> Iterator[Piece]:
        """The chosen ones of the next shard."""
        for piece in pieces:
            size = len(piece.rows)
            must = self._left - size < self._wanted  # too few would remain
            chosen = self._random.random() * self._left < self._wanted or must
            self._left -= size
            if chosen:
                self._wanted = max(0, self._wanted - size)
                yield piece


def _group_samples(build: ClaimedBuild) -> int:
    settings = build.settings.get("shards")
    size = settings.get("group_samples") if isinstance(settings, dict) else None
    if type(size) is not int or size < 1:
        raise BuildError(f"{build.root}/build.json: settings.shards.group_samples must be at least 1, found {size!r}")
    return size
