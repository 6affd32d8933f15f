"""Episodes -> shard tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.planning.tasks import ShardTask
from pipeline.sources.base import EpisodeRef


@dataclass(frozen=True)
class ShardSettings:
    """How episodes are packed into shards. Episodes are never split.

    samples        a shard is closed once it is expected to hold this many samples
    chunk_samples  targets are decoded in chunks of whole episodes of about this many samples, and encoded and written
                   at most so many at a time
    """

    samples: int = 256
    chunk_samples: int = 64

    def __post_init__(self) -> None:
        for name in ("samples", "chunk_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def pack(
    split: str, refs: Sequence[EpisodeRef], windows: Sequence[int], settings: ShardSettings
) -> Iterable[ShardTask]:
    chunks: list[tuple[EpisodeRef, ...]] = []
    chunk: list[EpisodeRef] = []
    index = in_chunk = in_shard = 0
    for ref, count in zip(refs, windows, strict=True):
        if ref.split != split:
            continue
        chunk.append(ref)
        in_chunk += count
        in_shard += count
        if in_chunk >= settings.chunk_samples or in_shard >= settings.samples:
            chunks.append(tuple(chunk))
            chunk, in_chunk = [], 0
        if in_shard >= settings.samples:
            yield ShardTask(split, index, tuple(chunks))
            chunks, in_shard, index = [], 0, index + 1
    if chunk:
        chunks.append(tuple(chunk))
    if chunks:
        yield ShardTask(split, index, tuple(chunks))
