"""Episodes -> shard tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.format.build_settings import ShardSettings
from pipeline.planning.tasks import ShardTask
from pipeline.sources.base import EpisodeRef


def pack(
    split: str, refs: Sequence[EpisodeRef], windows: Sequence[int], settings: ShardSettings
) -> Iterable[ShardTask]:
    groups: list[tuple[EpisodeRef, ...]] = []
    group: list[EpisodeRef] = []
    index = in_group = in_shard = 0
    for ref, count in zip(refs, windows, strict=True):
        if ref.split != split:
            continue
        group.append(ref)
        in_group += count
        in_shard += count
        if in_group >= settings.group_samples or in_shard >= settings.samples:
            groups.append(tuple(group))
            group, in_group = [], 0
        if in_shard >= settings.samples:
            yield ShardTask(split, index, tuple(groups))
            groups, in_shard, index = [], 0, index + 1
    if group:
        groups.append(tuple(group))
    if groups:
        yield ShardTask(split, index, tuple(groups))
