"""Level "source": the build derived again from the raw data.

Every episode is decoded and every sample's image, text, state, actions and times compared (L1, L6, L7, L8, L9); the
latents of a random share of samples are encoded again from the prefix of frames that rule L2 allows; videos of
different splits are compared (L6).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.duplicates.search import DuplicateSearch
from pipeline.audit.entries import FileEntry
from pipeline.audit.files import TASKS
from pipeline.audit.finding import Report
from pipeline.audit.parsers.shard import Shard, TargetRows
from pipeline.audit.raw.base import RawError, RawSource
from pipeline.audit.raw.registry import open_raw
from pipeline.audit.rederive.images import IMAGE_TOLERANCE, Facts
from pipeline.audit.rederive.raw_episode import VECTOR_TOLERANCE, EpisodeResult, EpisodeWork, SampleWork, check_episode
from pipeline.audit.rederive.raw_files import check as check_raw_files
from pipeline.audit.rederive.reencode import Reencoder, latents_differ, read_claim, require_same_encoder
from pipeline.audit.report.evidence import Evidence
from pipeline.audit.report.raw_images import duplicate_pair
from pipeline.audit.rules.int8 import ERROR_TOLERANCE, ErrorClaim
from pipeline.audit.rules.supports import expected_supports
from pipeline.audit.samples import UNREADABLE, ShardRows, chosen_rows
from pipeline.errors import BuildError
from pipeline.format.file_names import image_member

_Targets = dict[str, tuple[TargetRows, int]]
_Latents = NDArray[np.float64]

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
        self._videos = DuplicateSearch(lambda episode, view: _frames_again(self._raw, episode, view))
        self._added: set[str] = set()
        self.coverage = {"episodes_decoded": 0, "samples_compared": 0, "samples_encoded": 0, "videos_compared": 0}

    @property
    def tolerance(self) -> dict[str, float]:
        """What comparisons allowed."""
        name, value = self._facts.encoder.tolerance
        image = {} if self._facts.exact else {"image_mean_grey_levels": IMAGE_TOLERANCE}
        vectors = {"state_and_actions": VECTOR_TOLERANCE} if self._computed else {}
        latents = {"latents_relative_error": ERROR_TOLERANCE} if self._errors.applies else {}
        return {name: value, **image, **vectors, **latents}

    def run(self, advance: Callable[[Iterable[FileEntry]], None]) -> None:
        """Compare every shard; `advance` is called with the files of each."""
        with ThreadPoolExecutor(self._options.workers) as pool:
            for entry in self._build.shards:
                rows = self._rows.take(entry.split, entry.index, entry.samples)
                with self._build.present(entry):
                    self._check_shard(Shard(self._build, entry, rows), pool)
                advance(entry.files)
        self._errors.check(self._report)
        self._compare_videos()
        self.coverage |= check_raw_files(self._build, self._options.root, self._report)

    def _check_shard(self, shard: Shard, pool: ThreadPoolExecutor) -> None:
        targets = _targets_by_key(shard)
        works = self._episodes(shard, targets)
        self._at += len(shard.keys)
        size = 2 * self._options.workers  # bounds the frames held
        for start in range(0, len(works), size):
            for result in pool.map(lambda work: check_episode(work, self._facts, self._raw), works[start:][:size]):
                self._take(result, targets, shard)

    def _take(self, result: EpisodeResult, targets: _Targets, shard: Shard) -> None:
        work = result.work
        self._report.checked.update(result.checked)
        for rule, key, detail in result.problems:
            self._report.found(rule, work.file, detail, key)
        self._computed |= result.computed
        self.coverage["episodes_decoded"] += 1
        self.coverage["samples_compared"] += len(work.samples)
        if work.episode not in self._added:
            for view, words in result.words.items():
                self._videos.add_words(work.episode, work.split, view, words)
        self._added.add(work.episode)
        for sample in work.samples:
            if sample.frames and sample.key in targets:  # a missing row was reported at level shards
                self._encode_again(sample, result, *_stored_latents(*targets[sample.key]), shard.entry.targets.path)

    def _encode_again(
        self, sample: SampleWork, result: EpisodeResult, stored: _Latents, slack: _Latents, file: str
    ) -> None:
        """Latents [K+1, V, N, D] as stored, and by how much rounding may have moved each."""
        self.coverage["samples_encoded"] += 1
        name, allowed = self._facts.encoder.tolerance
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
                gap = latents_differ(stored[step, at], found, self._facts.encoder, slack[step, at])
                if not gap <= allowed:
                    what = f"{view}: the {'context' if step == 0 else f'latents of step {step}'}"
                    detail = f"{what} is not what the encoder makes of the frames up to {support[-1]}"
                    self._report.found("L2", file, f"{detail} ({name} {gap:.3g}, {allowed:.3g} allowed)", sample.key)

    def _episodes(self, shard: Shard, targets: _Targets) -> list[EpisodeWork]:
        """The samples of a shard by episode, in the order of the manifest."""
        rows = shard.rows.select(["episode", "now", "num_frames", "action_count", "now_s", "support_end_s"]).to_pylist()
        by_episode: dict[str, list[SampleWork]] = {}
        for at, row in enumerate(rows):
            by_episode.setdefault(row["episode"], []).append(self._sample(shard, targets, at, row))
        split, file = shard.entry.split, shard.entry.inputs.path
        return [EpisodeWork(episode, split, file, tuple(samples)) for episode, samples in by_episode.items()]

    def _sample(self, shard: Shard, targets: _Targets, at: int, row: dict[str, Any]) -> SampleWork:
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
            frames=tuple(pairs) if self._at + at in self._chosen else (),
        )

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


def _frames_again(raw: RawSource, episode: str, view: str) -> Iterator[NDArray[np.uint8]]:
    """The frames of a video once more; where they cannot be read, which was reported, there are none."""
    with contextlib.suppress(RawError):
        for _, frame in raw.open(episode).frames(view):
            yield frame


def _stored_latents(rows: TargetRows, i: int) -> tuple[_Latents, _Latents]:
    """Context and future [K+1, V, N, D], and what rounding may have moved each: half a scale [K+1, V, N, 1]."""
    values = np.concatenate([rows.context[i][None], rows.latents[i]]).astype(np.float64)
    if rows.context_scale is None or rows.latents_scale is None:
        return values, np.zeros((*values.shape[:-1], 1))
    scale = np.concatenate([rows.context_scale[i][None], rows.latents_scale[i]]).astype(np.float64)[..., None]
    return values * scale, scale / 2


def _same_libraries(build: ClaimedBuild) -> bool:
    claimed = build.settings.get("versions")
    try:
        return isinstance(claimed, dict) and all(claimed.get(name) == version(name) for name in IMAGE_LIBRARIES)
    except PackageNotFoundError:
        return False
