"""Level "source": the build derived again from the raw data.

Every episode is decoded and every sample's image, text, state, actions and times compared (L1, L6, L7, L8, L9); the
latents of a random share of samples are encoded again from the prefix of frames that rule L2 allows, in the batches
that the build was made in; videos of different splits are compared (L6).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.duplicates.search import DuplicateSearch
from pipeline.audit.entries import FileEntry
from pipeline.audit.files import BUILD, TASKS
from pipeline.audit.finding import Report
from pipeline.audit.ledger import ledger_entries
from pipeline.audit.levels.encoding import ShardEncoding
from pipeline.audit.levels.latents import LatentCheck
from pipeline.audit.lookahead.search import LookaheadSearch
from pipeline.audit.parsers.shard import Shard, TargetRows
from pipeline.audit.raw.registry import open_raw
from pipeline.audit.rederive.exactness import find_exactness
from pipeline.audit.rederive.images import BLOCK_SHARE, COEFFICIENT_STEPS, IMAGE_SHARE, Facts
from pipeline.audit.rederive.pieces import PieceChoice, pieces_of
from pipeline.audit.rederive.raw_episode import EpisodeResult, EpisodeWork, SampleWork, check_episode
from pipeline.audit.rederive.raw_files import check as check_raw_files
from pipeline.audit.rederive.reencode import Reencoder, read_claim, require_same_encoder
from pipeline.audit.report.evidence import Evidence
from pipeline.audit.report.raw_images import duplicate_pair
from pipeline.audit.rules.int8 import ERROR_TOLERANCE
from pipeline.audit.rules.supports import expected_supports
from pipeline.audit.samples import UNREADABLE, ShardRows, share_seed
from pipeline.audit.selection.episodes import Selection
from pipeline.audit.selection.left_out import LeftOut, LeftOutCheck
from pipeline.audit.selection.right_root import require_listed, require_some_alike
from pipeline.audit.selection.windows import WindowRule
from pipeline.errors import BuildError
from pipeline.format.file_names import image_member

_BOUNDS = "quantised DCT coefficients within bounds of every block, no ghost of another frame"

_Targets = dict[str, tuple[TargetRows, int]]


@dataclass(frozen=True)
class SourceOptions:
    """What level "source" needs in addition to the build.

    root     folder of the raw data
    encoder  the frozen encoder that the build names
    nonce    gives the random share, see `share_seed`
    share, least  samples encoded again: this share, and at least this number
    workers  threads that decode
    inexact  where this machine is not the one that made the build, bounds and statistics do
    """

    root: Path
    encoder: Reencoder
    nonce: str
    share: float = 0.02
    least: int = 16
    workers: int = 2
    inexact: bool = False


class SourceRule:
    """Compares every shard with the raw data, then the videos of all episodes with each other."""

    def __init__(
        self, build: ClaimedBuild, samples: int, options: SourceOptions, report: Report, evidence: Evidence
    ) -> None:
        self._build, self._options, self._report, self._evidence = build, options, report, evidence
        claim = read_claim(build)
        require_same_encoder(claim, options.encoder)
        self._exactness = find_exactness(build, options.encoder, options.inexact)
        inputs = build.settings.get("inputs")
        quality = inputs.get("jpeg_quality") if isinstance(inputs, dict) else None
        if type(quality) is not int or not 1 <= quality <= 100:
            raise BuildError(f"{build.root}/build.json: settings.inputs.jpeg_quality must be 1..100, found {quality!r}")
        self._facts = Facts(build.views, build.sizes.image_size, quality, self._exactness.images, claim)
        self._latents = LatentCheck(build, claim, options.encoder, report)
        self._raw = open_raw(build.settings.get("source"), options.root)
        wanted = min(samples, max(options.least, math.ceil(options.share * samples)))
        require_listed(build, self._raw, options.root)
        self._alike = 0
        self._choice = PieceChoice(samples, share_seed(build.sha256, options.nonce), wanted)
        self._rows = ShardRows(build)
        self._images_apart = 0
        self._claims: tuple[str, ...] = ()
        self._videos = DuplicateSearch(self._raw.readable_frames)
        self._lookahead = LookaheadSearch()
        self._lengths: dict[str, int] = {}
        self._added: set[str] = set()
        self.coverage = {"episodes_decoded": 0, "samples_compared": 0, "samples_encoded": 0, "videos_compared": 0}
        self.coverage |= {"latents_equal_to_the_bit": 0, "latents_within_bounds": 0}

    @property
    def exact(self) -> bool:
        """Whether all of it had to be equal."""
        return not self._exactness.reasons

    @property
    def claims(self) -> tuple[str, ...]:
        """How images and latents were compared, as sentences."""
        reasons = "; ".join(self._exactness.reasons)
        images = "images: derived to the byte"
        if not self._exactness.images:
            images = f"images: {_BOUNDS}, as the build names {reasons}"
        if self._images_apart:
            images += f"; {self._images_apart} images differ within these bounds"
        latents = []
        if self.coverage["latents_equal_to_the_bit"]:
            latents.append(f"latents: derived to the bit on {self._exactness.machine}")
        if self.coverage["latents_within_bounds"]:
            name, value = self._facts.encoder.tolerance
            latents.append(f"latents: within {name} {value:g}, as the build names {reasons}")
        return (images, *latents, *self._claims)

    @property
    def tolerance(self) -> dict[str, float]:
        """What comparisons allowed; equality allows nothing."""
        name, value = self._facts.encoder.tolerance
        images = {
            "image_coefficient_steps": COEFFICIENT_STEPS,
            "image_block_share": BLOCK_SHARE,
            "image_share": IMAGE_SHARE,
        }
        latents = {name: value} if self.coverage["latents_within_bounds"] else {}
        errors = {"latents_relative_error": ERROR_TOLERANCE} if self._latents.errors.applies else {}
        return {**({} if self._facts.exact else images), **latents, **errors}

    def run(self, advance: Callable[[Iterable[FileEntry]], None]) -> None:
        """Compare every shard; `advance` is called with the files of each."""
        with ThreadPoolExecutor(self._options.workers) as pool:
            for entry in self._build.shards:
                rows = self._rows.take(entry.split, entry.index, entry.samples)
                with self._build.present(entry):
                    self._check_shard(Shard(self._build, entry, rows), pool)
                advance(entry.files)
        require_some_alike(self._build, self._options.root, self._alike, self.coverage["episodes_decoded"])
        self._report.check("L8")
        if self._build.fps != self._raw.rate:
            self._report.found("L8", BUILD, f"fps is {self._build.fps!r:.40}, the raw data has {self._raw.rate}")
        self._latents.errors.check(self._report)
        self._claims = self._latents.residual.check(self._report)
        self.coverage |= self._latents.coverage
        self._compare_videos()
        self._lookahead.report(self._report)
        self._check_selection()
        self.coverage |= check_raw_files(self._build, self._options.root, self._report)

    def _check_shard(self, shard: Shard, pool: ThreadPoolExecutor) -> None:
        targets = _targets_by_key(shard)
        pieces = pieces_of(self._build, shard)
        chosen = list(self._choice.take(pieces))
        samples = self._samples(shard, targets, {row for piece in chosen for row in piece.rows})
        works = _episodes(shard, samples)
        exact = self._exactness.latents(shard.entry)
        encoding = ShardEncoding(self._latents, self._build, shard, targets, pieces, chosen, exact)
        size = 2 * self._options.workers  # bounds the frames held
        for start in range(0, len(works), size):
            for result in pool.map(lambda work: check_episode(work, self._facts, self._raw), works[start:][:size]):
                self._take(result)
                encoding.take(result)

    def _take(self, result: EpisodeResult) -> None:
        work = result.work
        self._report.checked.update(result.checked)
        for rule, key, detail in result.problems:
            self._report.found(rule, work.file, detail, key)
        self._images_apart += result.images_apart
        self.coverage["episodes_decoded"] += 1
        self._alike += not result.problems
        self.coverage["samples_compared"] += len(work.samples)
        if work.episode not in self._added:
            for view, words in result.words.items():
                self._videos.add_words(work.episode, work.split, view, words)
            if self._build.views[0] in result.thumbnails:
                self._lengths[work.episode] = len(result.thumbnails[self._build.views[0]])
            if result.lookahead is not None:
                self._lookahead.add(work.episode, result.lookahead)
        self._added.add(work.episode)

    def _samples(self, shard: Shard, targets: _Targets, chosen: set[int]) -> list[SampleWork]:
        """The samples of a shard in the order of the manifest; the rows chosen are encoded again."""
        rows = shard.rows.select(["now", "num_frames", "action_count", "now_s", "support_end_s"]).to_pylist()
        return [self._sample(shard, targets, at, row, at in chosen) for at, row in enumerate(rows)]

    def _sample(self, shard: Shard, targets: _Targets, at: int, row: dict[str, Any], encode: bool) -> SampleWork:
        key = shard.keys[at]
        first, last = expected_supports(np.array([row["now"]]), self._build.window.interval, self._build.sizes.steps)
        pairs = [(int(a), int(b)) if b < row["num_frames"] else () for a, b in zip(first[0], last[0], strict=True)]
        members = {view: shard.members.get(image_member(key, view)) for view in self._build.views}
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

    def _check_selection(self) -> None:
        """Which episodes there are, where, and why others are not."""
        entries = [LeftOut(**entry) for entry in ledger_entries(self._build)]
        left_out = frozenset(entry.episode for entry in entries)
        self.coverage |= Selection(self._build, self._raw, left_out, self._lengths, self._report).check()
        again = LeftOutCheck(self._raw, self._build.views, WindowRule.of(self._build), self._report)
        self.coverage |= again.run(entries, self._options.workers)

    def _compare_videos(self) -> None:
        self.coverage["videos_compared"] = self._videos.count
        self._report.check("L6", self._videos.count)
        for match in self._videos.matches():
            other = "" if match.other_view == match.view else f", {match.other_view}"
            what = f"{match.view}: episode {match.episode} shows the same as train episode {match.other}{other}"
            share = f"{match.share:.0%} of the frames have a counterpart"
            motion = f"fine motion correlates {match.correlation:.2f}"
            self._report.found("L6", TASKS, f"{what} ({match.relation}; {share}, {motion})")
            self._evidence.duplicates.append(duplicate_pair(match, self._raw))


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
