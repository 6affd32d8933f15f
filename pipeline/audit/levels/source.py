"""Level "source": the build derived again from the raw data.

Every episode is decoded and every sample's image, text, state, actions and times compared (L1, L6, L7, L8, L9); the
latents of a random share of samples are encoded again from the prefix of frames that rule L2 allows, in the batches
that the build was made in; videos of different splits are compared (L6).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from pipeline.audit.duplicates.numbers import NumberSearch
from pipeline.audit.duplicates.search import DuplicateSearch, Question
from pipeline.audit.files import BUILD, TASKS
from pipeline.audit.finding import Report
from pipeline.audit.ledger import ledger_entries
from pipeline.audit.levels.bench import Bench, Runner, named
from pipeline.audit.levels.shards import Advance, ShardUnit, shard_units
from pipeline.audit.levels.source_shard import DecodedEpisode, SourcePart, check_source_shard
from pipeline.audit.lookahead.search import LookaheadSearch
from pipeline.audit.proofs.proof import Share
from pipeline.audit.proofs.statements import Facts
from pipeline.audit.rederive.exactness import Exactness
from pipeline.audit.rederive.images import BLOCK_SHARE, COEFFICIENT_STEPS, IMAGE_SHARE
from pipeline.audit.rederive.pieces import PieceChoice, pieces_of
from pipeline.audit.rederive.raw_files import PlannedFile, difference
from pipeline.audit.rederive.raw_files import check as check_raw_files
from pipeline.audit.rederive.residual import ResidualTest
from pipeline.audit.report.evidence import DuplicatePair, Evidence
from pipeline.audit.report.raw_images import duplicate_pair
from pipeline.audit.rules.shards.int8 import ERROR_TOLERANCE, ErrorClaim
from pipeline.audit.samples import share_seed
from pipeline.audit.selection.episode_filter import check_listed
from pipeline.audit.selection.episodes import Selection
from pipeline.audit.selection.left_out import LeftOut, check_left_out
from pipeline.audit.selection.right_root import require_listed, require_some_alike

_BOUNDS = "quantised DCT coefficients within bounds of every block, no ghost of another frame"

_BATCH = 8
"""Lines of the ledger, or raw files, of a unit."""

I = TypeVar("I")  # noqa: E741


class SourceRule:
    """Compares every shard with the raw data, then the videos of all episodes with each other.

    Args:
        exactness: of whoever runs the units.
    """

    def __init__(
        self, bench: Bench, samples: int, exactness: Exactness, runner: Runner, report: Report, evidence: Evidence
    ) -> None:
        build, options = bench.build, bench.deep
        self._bench, self._build, self._options, self._runner = bench, build, options, runner
        self._report, self._evidence, self._exactness = report, evidence, exactness
        require_listed(build, bench.raw, options.root)
        wanted = min(samples, max(options.least, math.ceil(options.share * samples)))
        self._choice = PieceChoice(samples, share_seed(build.sha256, options.nonce), wanted)
        self._errors, self._residual = ErrorClaim(build), ResidualTest(build)
        self._videos, self._numbers, self._lookahead = DuplicateSearch(), NumberSearch(), LookaheadSearch()
        self._images_apart = self._alike = self._pieces = self._chosen = 0
        self._samples = samples
        self._claims: tuple[str, ...] = ()
        self._lengths: dict[str, int] = {}
        self._added: set[str] = set()
        self._latents: Counter[str] = Counter()
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
            name, value = self._bench.claim.tolerance
            latents.append(f"latents: within {name} {value:g}, as the build names {reasons}")
        return (images, *latents, *self._claims, *self._lookahead.claims)

    @property
    def facts(self) -> Facts:
        """What the statements of the verdict depend on."""
        bounded = self.coverage["latents_within_bounds"] > 0
        return Facts(
            state=self._build.sizes.state > 0,
            images=self._exactness.images,
            latents=not bounded,
            encoded=Share(self.coverage["samples_encoded"], self._samples, self._chosen, self._pieces),
            whispers="what differs was tested for whispers of the future: see claims" if bounded else "",
        )

    @property
    def tolerance(self) -> dict[str, float]:
        """What comparisons allowed; equality allows nothing."""
        name, value = self._bench.claim.tolerance
        images = {
            "image_coefficient_steps": COEFFICIENT_STEPS,
            "image_block_share": BLOCK_SHARE,
            "image_share": IMAGE_SHARE,
        }
        latents = {name: value} if self.coverage["latents_within_bounds"] else {}
        errors = {"latents_relative_error": ERROR_TOLERANCE} if self._errors.applies else {}
        return {**({} if self._exactness.images else images), **latents, **errors}

    def run(self, advance: Advance) -> None:
        """Compare every shard; `advance` is called with the files of each."""
        found = self._runner.map(check_source_shard, self._units())
        for entry, part in zip(self._build.shards, found, strict=True):
            self._take(part)
            advance(entry.files)
        require_some_alike(self._build, self._options.root, self._alike, self.coverage["episodes_decoded"])
        self._report.check("L8")
        rate = self._bench.raw.rate
        if self._build.fps != rate:
            self._report.found("L8", BUILD, f"fps is {self._build.fps!r:.40}, the raw data has {rate}")
        self._errors.check(self._report)
        self._claims = self._residual.check(self._report)
        self.coverage |= self._latents
        self._compare_videos()
        for same in self._numbers.matches():
            what = f"episode {same.episode} has the state and actions of train episode {same.other}, to the bit"
            self._report.found("L6", TASKS, what)
        self._lookahead.report(self._report, self._options.channels, rate)
        self._check_selection()
        self.coverage |= check_raw_files(self._build, self._in_batches(_differences), self._report)

    def _units(self) -> Iterator[ShardUnit]:
        """The shards, each with the pieces of the random share that lie in it."""
        for unit in shard_units(self._build):
            entry, episodes = self._build.shards[unit.number], unit.rows.column("episode").to_pylist()
            pieces = pieces_of(self._build, entry, episodes)
            chosen = tuple(self._choice.take(pieces))
            self._pieces += len(pieces)
            self._chosen += len(chosen)
            yield replace(unit, chosen=chosen)

    def _take(self, part: SourcePart) -> None:
        self._report.merge(part.report)
        self._errors.merge(part.errors)
        self._residual.merge(part.residual)
        self._lookahead.merge(part.lookahead)
        self._latents.update(part.coverage)
        self._images_apart += part.images_apart
        for episode in part.episodes:
            self._take_episode(episode)

    def _take_episode(self, found: DecodedEpisode) -> None:
        self.coverage["episodes_decoded"] += 1
        self.coverage["samples_compared"] += found.samples
        self._alike += found.alike
        if found.episode in self._added:
            return  # planned twice: reported
        self._added.add(found.episode)
        for view, words in found.words.items():
            self._videos.add_words(found.episode, found.split, view, words)
        self._numbers.add(found.episode, found.split, found.numbers)
        if found.length is not None:
            self._lengths[found.episode] = found.length

    def _check_selection(self) -> None:
        """Which episodes there are, where, and why others are not."""
        entries = [LeftOut(**entry) for entry in ledger_entries(self._build)]
        left_out = frozenset(entry.episode for entry in entries)
        self.coverage |= check_listed(self._build, self._bench.raw, self._report)
        self.coverage |= Selection(self._build, self._bench.raw, left_out, self._lengths, self._report).check()
        self.coverage |= check_left_out(entries, self._in_batches(_refuted), self._report)

    def _compare_videos(self) -> None:
        self.coverage["videos_compared"] = self._videos.count
        self._report.check("L6", self._videos.count)
        for pair in filter(None, self._runner.map(_compare_film, self._videos.questions())):
            match = pair.match
            other = "" if match.other_view == match.view else f", {match.other_view}"
            what = f"{match.view}: episode {match.episode} shows the same as train episode {match.other}{other}"
            share = f"{match.share:.0%} of the frames have a counterpart"
            motion = f"fine motion correlates {match.correlation:.2f}"
            self._report.found("L6", TASKS, f"{what} ({match.relation}; {share}, {motion})")
            self._evidence.duplicates.append(pair)

    def _in_batches(self, unit: Callable[[Bench, tuple[I, ...]], list[str]]) -> Callable[[Iterable[I]], Iterator[str]]:
        """A function of many small items whose units are a few of them."""
        return lambda items: itertools.chain.from_iterable(self._runner.map(unit, _batches(items)))


def _batches(items: Iterable[I]) -> Iterator[tuple[I, ...]]:
    rest = iter(items)
    while batch := tuple(itertools.islice(rest, _BATCH)):
        yield batch


def exactness_of(bench: Bench, _: int) -> Exactness:
    """A unit: what must be equal where units run. Raises BuildError where that is less than the auditor asks for, or
    the settings of the build do not tell."""
    with named(exactness_of, "the raw data"):
        bench.require_facts()
        return bench.exactness


def _compare_film(bench: Bench, question: Question) -> DuplicatePair | None:
    """A unit: a held-out film against its candidates."""
    with named(_compare_film, "the raw data"):
        match = bench.films.answer(question)
        return None if match is None else duplicate_pair(match, bench.raw)


def _refuted(bench: Bench, entries: tuple[LeftOut, ...]) -> list[str]:
    """A unit: some lines of the ledger."""
    with named(_refuted, "the raw data"), ThreadPoolExecutor(bench.deep.workers) as pool:
        return list(pool.map(bench.reasons.refuted, entries))


def _differences(bench: Bench, files: tuple[PlannedFile, ...]) -> list[str]:
    """A unit: some raw files."""
    with named(_differences, "the raw data"):
        return [difference(file, bench.deep.root) for file in files]
