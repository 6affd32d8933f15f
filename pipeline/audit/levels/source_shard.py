"""A shard at level "source": its episodes decoded and compared, the chosen pieces of it encoded again."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.finding import Report
from pipeline.audit.levels.bench import Bench, named
from pipeline.audit.levels.encoding import ShardEncoding
from pipeline.audit.levels.latents import LatentCheck
from pipeline.audit.levels.shards import ShardUnit
from pipeline.audit.lookahead.search import LookaheadSearch
from pipeline.audit.parsers.shard import Shard, TargetRows
from pipeline.audit.rederive.pieces import pieces_of
from pipeline.audit.rederive.raw_episode import EpisodeResult, EpisodeWork, SampleWork, check_episode
from pipeline.audit.rederive.residual import ResidualTest
from pipeline.audit.rules.identity import check_file
from pipeline.audit.rules.supports import expected_supports
from pipeline.audit.samples import UNREADABLE
from pipeline.format.file_names import image_member

_Targets = dict[str, tuple[TargetRows, int]]


@dataclass(frozen=True)
class DecodedEpisode:
    """What is kept of an episode.

    words   uint32 [W] by view;  numbers  uint64 [M], see `number_marks`
    length  its frames, None where the first view cannot be read
    samples, alike  samples that were compared; whether nothing differed
    """

    episode: str
    split: str
    words: Mapping[str, NDArray[np.uint32]]
    numbers: NDArray[np.uint64]
    length: int | None
    samples: int
    alike: bool


@dataclass(frozen=True)
class SourcePart:
    """What a shard says. errors: float64 [K+1, 2], see `ErrorClaim`."""

    report: Report
    episodes: tuple[DecodedEpisode, ...]
    images_apart: int
    lookahead: LookaheadSearch
    errors: NDArray[np.float64]
    residual: ResidualTest
    coverage: Counter[str]


def check_source_shard(bench: Bench, unit: ShardUnit) -> SourcePart:
    """The unit of level "source"."""
    with named(check_source_shard, "the raw data"), bench.build.present(bench.build.shards[unit.number]):
        return _Comparison(bench, unit).run()


class _Comparison:
    """Freed, with the memory maps of the shard, before its files are removed."""

    def __init__(self, bench: Bench, unit: ShardUnit) -> None:
        self._bench, self._build, self._unit = bench, bench.build, unit
        self._shard = Shard(bench.build, bench.build.shards[unit.number], unit.rows)
        self._report, self._lookahead = Report(), LookaheadSearch()
        self._latents = LatentCheck(bench.build, bench.claim, bench.tools.encoder, self._report)
        self._episodes: list[DecodedEpisode] = []
        self._images_apart = 0

    def run(self) -> SourcePart:
        bench, shard, chosen = self._bench, self._shard, self._unit.chosen
        for file in shard.entry.files:  # a bucket may give another one than it gave to level "shards", hours ago
            check_file(self._build, file, self._report)
        facts, raw, exact = bench.facts, bench.raw, bench.exactness.latents(shard.entry)
        targets = _targets_by_key(shard)
        pieces = pieces_of(self._build, shard.entry, shard.rows.column("episode").to_pylist())
        encoding = ShardEncoding(self._latents, self._build, shard, targets, pieces, chosen, exact)
        works = _episodes(shard, self._samples(targets, {row for piece in chosen for row in piece.rows}))
        size = 2 * bench.deep.workers  # bounds the frames held
        with ThreadPoolExecutor(bench.deep.workers) as pool:
            for start in range(0, len(works), size):
                for result in pool.map(lambda work: check_episode(work, facts, raw), works[start:][:size]):
                    self._take(result)
                    encoding.take(result)
        latents = self._latents
        found = (self._images_apart, self._lookahead, latents.errors.sums, latents.residual, latents.coverage)
        return SourcePart(self._report, tuple(self._episodes), *found)

    def _take(self, result: EpisodeResult) -> None:
        work, first = result.work, self._build.views[0]
        self._report.checked.update(result.checked)
        for rule, key, detail in result.problems:
            self._report.found(rule, work.file, detail, key)
        self._images_apart += result.images_apart
        length = len(result.thumbnails[first]) if first in result.thumbnails else None
        marks, alike = (dict(result.words), result.numbers), not result.problems
        self._episodes.append(DecodedEpisode(work.episode, work.split, *marks, length, len(work.samples), alike))
        if result.lookahead is not None:
            self._lookahead.add(work.episode, result.lookahead)

    def _samples(self, targets: _Targets, chosen: set[int]) -> list[SampleWork]:
        """The samples of the shard in the order of the manifest; the rows chosen are encoded again."""
        rows = self._shard.rows.select(["now", "num_frames", "action_count", "now_s", "support_end_s"]).to_pylist()
        return [self._sample(targets, at, row, at in chosen) for at, row in enumerate(rows)]

    def _sample(self, targets: _Targets, at: int, row: dict[str, Any], encode: bool) -> SampleWork:
        shard, build, key = self._shard, self._build, self._shard.keys[at]
        first, last = expected_supports(np.array([row["now"]]), build.window.interval, build.sizes.steps)
        pairs = [(int(a), int(b)) if b < row["num_frames"] else () for a, b in zip(first[0], last[0], strict=True)]
        members = {view: shard.members.get(image_member(key, view)) for view in build.views}
        batch, place = targets.get(key, (None, 0))
        return SampleWork(
            key=key,
            now=row["now"],
            num_frames=row["num_frames"],
            now_s=row["now_s"],
            ends=tuple(pair[-1] if pair else -1 for pair in pairs),
            ends_s=tuple(row["support_end_s"]),
            images={view: None if member is None else shard.payload(member) for view, member in members.items()},
            document=shard.documents[at][0],
            actions=None if batch is None or batch.actions is None else batch.actions[place],
            action_count=row["action_count"],
            frames=tuple(pairs) if encode else (),
        )


def _targets_by_key(shard: Shard) -> _Targets:
    """Record batch of targets and place in it by key; as far as the file can be read (reported at level shards)."""
    found: _Targets = {}
    with contextlib.suppress(*UNREADABLE):
        for rows in shard.targets():
            found |= {key: (rows, place) for place, key in enumerate(rows.keys)}
    return found


def _episodes(shard: Shard, samples: list[SampleWork]) -> list[EpisodeWork]:
    """The samples of a shard by episode, in the order of the manifest."""
    by_episode: dict[str, list[SampleWork]] = {}
    for episode, sample in zip(shard.rows.column("episode").to_pylist(), samples, strict=True):
        by_episode.setdefault(episode, []).append(sample)
    split, file = shard.entry.split, shard.entry.inputs.path
    return [EpisodeWork(episode, split, file, tuple(own)) for episode, own in by_episode.items()]
