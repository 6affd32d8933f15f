"""Level "source": the build derived again from the raw data.

Every episode is decoded and every sample's image, text, state, actions and times compared (L1, L6, L7, L8, L9); the
latents of a random share of samples are encoded again from the prefix of frames that rule L2 allows; videos of
different splits are compared (L6).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.finding import Report
from pipeline.audit.parsers.shard import Shard, TargetRows
from pipeline.audit.raw.base import RawSource
from pipeline.audit.raw.registry import open_raw
from pipeline.audit.rederive.duplicates import DuplicateSearch, Match
from pipeline.audit.rederive.images import IMAGE_TOLERANCE, Facts
from pipeline.audit.rederive.raw_episode import VECTOR_TOLERANCE, EpisodeResult, EpisodeWork, SampleWork, check_episode
from pipeline.audit.rederive.raw_files import check as check_raw_files
from pipeline.audit.rederive.reencode import Reencoder, latents_differ, read_claim, require_same_encoder
from pipeline.audit.report.evidence import Evidence
from pipeline.audit.report.raw_images import duplicate_pair
from pipeline.audit.rules.int8 import ERROR_TOLERANCE, ErrorClaim
from pipeline.audit.rules.supports import expected_supports
from pipeline.audit.samples import ShardRows
from pipeline.errors import BuildError
from pipeline.format.file_names import image_member

IMAGE_LIBRARIES = ("av", "decord", "pillow")
"""Where their versions are those of the build, a stored JPEG must be equal to the byte."""


@dataclass(frozen=True)
class SourceOptions:
    """What level "source" needs in addition to the build.

    root     folder of the raw data
    encoder  the frozen encoder that the build names
    seed     of the random share;  share, least  samples encoded again: this share, and at least this number
    workers  threads that decode
    """

    root: Path
    encoder: Reencoder
    seed: int
    share: float = 0.02
    least: int = 16
    workers: int = 2


def chosen_rows(count: int, seed: int, share: float, least: int) -> list[int]:
    """Rows of the manifest that are checked more deeply, sorted; depends on nothing but the arguments."""
    wanted = min(count, max(least, math.ceil(share * count)))
    return sorted(random.Random(seed).sample(range(count), wanted))


class SourceRule:
    """Compares every shard with the raw data, then the videos of all episodes with each other."""

    def __init__(
        self, build: ClaimedBuild, samples: int, options: SourceOptions, report: Report, evidence: Evidence
    ) -> None:
        self._build, self._options, self._report, self._evidence = build, options, report, evidence
        claim = read_claim(build)
        require_same_encoder(claim, options.encoder)
        inputs = build.settings.get("inputs")
        quality = inputs.get("jpeg_quality") if isinstance(inputs, dict) else None
        if type(quality) is not int or not 1 <= quality <= 100:
            raise BuildError(f"{build.root}/build.json: settings.inputs.jpeg_quality must be 1..100, found {quality!r}")
        self._facts = Facts(build.views, build.sizes.image_size, quality, _same_libraries(build), claim)
        self._raw = open_raw(build.settings.get("source"), options.root)
        self._chosen = set(chosen_rows(samples, options.seed, options.share, options.least))
        self._rows = ShardRows(build)
        self._at = 0
        self._computed = False
        self._errors = ErrorClaim(build)
        self._videos = DuplicateSearch()
        self._added: set[str] = set()
        self.coverage = {"episodes_decoded": 0, "samples_compared": 0, "samples_encoded": 0, "videos_compared": 0}

    @property
    def raw(self) -> RawSource:
        """The raw data that was compared with."""
        return self._raw

    @property
    def tolerance(self) -> dict[str, float]:
        """What comparisons allowed."""
        name, value = self._facts.encoder.tolerance
        image = {} if self._facts.exact else {"image_mean_grey_levels": IMAGE_TOLERANCE}
        vectors = {"state_and_actions": VECTOR_TOLERANCE} if self._computed else {}
        latents = {"latents_relative_error": ERROR_TOLERANCE} if self._errors.applies else {}
        return {name: value, **image, **vectors, **latents}

    def run(self, advance: Callable[[int], None]) -> None:
        """Compare every shard; `advance` is called with the bytes of each."""
        with ThreadPoolExecutor(self._options.workers) as pool:
            for entry in self._build.shards:
                rows = self._rows.take(entry.split, entry.index, entry.samples)
                with self._build.present(entry):
                    self._check_shard(Shard(self._build, entry, rows), pool)
                advance(sum(file.bytes for file in entry.files))
        self._errors.check(self._report)
        self._compare_videos()
        self.coverage |= check_raw_files(self._build, self._options.root, self._report)

    def _check_shard(self, shard: Shard, pool: ThreadPoolExecutor) -> None:
        targets = _TargetsOf(shard)
        works = list(self._episodes(shard, targets))
        self._at += len(shard.keys)
        size = 2 * self._options.workers  # bounds the frames held
        for start in range(0, len(works), size):
            for result in pool.map(self._check_episode, works[start : start + size]):
                self._take(result, targets, shard)

    def _check_episode(self, work: EpisodeWork) -> EpisodeResult:
        return check_episode(work, self._facts, self._raw)

    def _take(self, result: EpisodeResult, targets: _TargetsOf, shard: Shard) -> None:
        work = result.work
        for rule, count in result.checked.items():
            self._report.check(rule, count)
        for rule, key, detail in result.problems:
            self._report.found(rule, work.file, detail, key)
        self._computed |= result.computed
        self.coverage["episodes_decoded"] += 1
        self.coverage["samples_compared"] += len(work.samples)
        for view, thumbnails in result.thumbnails.items():
            if work.episode not in self._added:
                self._videos.add(work.episode, work.split, view, thumbnails)
        self._added.add(work.episode)
        for sample in work.samples:
            if sample.frames:
                self._encode_again(sample, result, targets, shard)

    def _encode_again(self, sample: SampleWork, result: EpisodeResult, targets: _TargetsOf, shard: Shard) -> None:
        read = targets.latents(sample.key)
        if read is None:
            return  # reported at level shards
        stored, slack = read
        self.coverage["samples_encoded"] += 1
        for step, support in enumerate(sample.frames):
            if not support:
                continue
            parts = [support] if self._build.shares_latents else sample.frames[: step + 1]
            prefix = [frame for part in parts for frame in part]
            for at, view in enumerate(self._build.views):
                self._report.check("L2")
                if any((view, frame) not in result.clips for frame in prefix):
                    continue  # the video is shorter than the manifest says: reported
                found = self._options.encoder.last_tubelet(np.stack([result.clips[view, frame] for frame in prefix]))
                self._errors.add(step, found)
                gap = self._gap(stored[step, at], found, slack[step, at])
                if gap:
                    what = f"{view}: the {'context' if step == 0 else f'latents of step {step}'}"
                    detail = f"{what} is not what the encoder makes of the frames up to {support[-1]} ({gap})"
                    self._report.found("L2", shard.entry.targets.path, detail, sample.key)

    def _gap(self, stored: NDArray[Any], found: NDArray[np.float16], slack: NDArray[np.float64]) -> str:
        """By how much a stored latent [N, D] differs from the one found; "" when the difference is allowed."""
        name, allowed = self._facts.encoder.tolerance
        gap = latents_differ(stored, found, self._facts.encoder, slack) if stored.shape == found.shape else math.inf
        return "" if gap <= allowed else f"{name} {gap:.3g}, {allowed:.3g} allowed"

    def _episodes(self, shard: Shard, targets: _TargetsOf) -> Iterator[EpisodeWork]:
        """The samples of a shard by episode, in the order of the manifest."""
        rows = shard.rows.select(["episode", "now", "num_frames", "action_count", "now_s", "support_end_s"]).to_pylist()
        by_episode: dict[str, list[SampleWork]] = {}
        for at, (key, row) in enumerate(zip(shard.keys, rows, strict=True)):
            sample = self._sample(shard, targets, at, key, row)
            by_episode.setdefault(row["episode"], []).append(sample)
        for episode, samples in by_episode.items():
            yield EpisodeWork(episode, shard.entry.split, shard.entry.inputs.path, tuple(samples))

    def _sample(self, shard: Shard, targets: _TargetsOf, at: int, key: str, row: dict[str, Any]) -> SampleWork:
        window = self._build.window
        first, last = expected_supports(np.array([row["now"]]), window.interval, self._build.sizes.steps)
        pairs = [(int(a), int(b)) if b < row["num_frames"] else () for a, b in zip(first[0], last[0], strict=True)]
        members = {view: shard.members.get(image_member(key, view)) for view in self._build.views}
        return SampleWork(
            key=key,
            now=row["now"],
            num_frames=row["num_frames"],
            now_s=row["now_s"],
            ends=tuple(pair[-1] if pair else -1 for pair in pairs),
            ends_s=tuple(row["support_end_s"]),
            images={view: None if member is None else shard.payload(member) for view, member in members.items()},
            document=shard.documents[at][0],
            actions=targets.actions(key),
            action_count=row["action_count"],
            frames=tuple(pairs) if self._at + at in self._chosen else (),
        )

    def _compare_videos(self) -> None:
        self.coverage["videos_compared"] = self._videos.count
        self._report.check("L6", self._videos.count)
        for match in self._videos.matches():
            self._report.found("L6", "tasks.jsonl", _describe(match))
            self._evidence.duplicates.append(duplicate_pair(match, self._raw))


class _TargetsOf:
    """Rows of a targets shard by key; nothing when the file cannot be read (reported at level shards)."""

    def __init__(self, shard: Shard) -> None:
        self._places: dict[str, tuple[TargetRows, int]] = {}
        try:
            for rows in shard.targets():
                self._places |= {key: (rows, i) for i, key in enumerate(rows.keys)}
        except (pa.ArrowException, OSError, ValueError):
            return

    def latents(self, key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Context and future [K+1, V, N, D], and what rounding may have moved each: half a scale [K+1, V, N, 1]."""
        if key not in self._places:
            return None
        rows, i = self._places[key]
        values = np.concatenate([rows.context[i][None], rows.latents[i]]).astype(np.float64)
        if rows.context_scale is None or rows.latents_scale is None:
            return values, np.zeros((*values.shape[:-1], 1))
        scale = np.concatenate([rows.context_scale[i][None], rows.latents_scale[i]]).astype(np.float64)[..., None]
        return values * scale, scale / 2

    def actions(self, key: str) -> NDArray[np.float32] | None:
        """float32 [T, A]."""
        rows, i = self._places.get(key, (None, 0))
        return None if rows is None or rows.actions is None else rows.actions[i]


def _same_libraries(build: ClaimedBuild) -> bool:
    claimed = build.settings.get("versions")
    if not isinstance(claimed, dict):
        return False
    try:
        return all(claimed.get(name) == version(name) for name in IMAGE_LIBRARIES)
    except PackageNotFoundError:
        return False


def _describe(match: Match) -> str:
    return (
        f"{match.view}: episode {match.episode} shows the same as train episode {match.other} ({match.relation}; "
        f"{match.share:.0%} of the frames have a counterpart, change over time correlates {match.correlation:.3f})"
    )
