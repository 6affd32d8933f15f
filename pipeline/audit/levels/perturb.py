"""Level "perturb": noninterference by experiment (rules L1 to L5).

For a random share of samples, the code that makes shards runs again in memory on copies of the episode whose later
frames are noise, black, or another episode's. What may not depend on them must stay equal to the bit, and equal to what
the build holds. Controls show that the experiment can fail: a changed `now` must change the inputs, a changed next
step must change its latents. The same is done to the model through its training code (`StudentTrial`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.finding import Report
from pipeline.audit.levels.source import chosen_rows
from pipeline.audit.rederive.perturbed_episode import PerturbedEpisode, Replacement, black, frames_of, noise
from pipeline.audit.samples import batches
from pipeline.errors import BuildError, EpisodeError
from pipeline.format.episode import Episode

CODE = "the code that makes shards"
MODEL = "the model"


class Rebuilder(Protocol):
    """The two jobs of a shard, for one sample in memory; handed to the audit by its caller."""

    @property
    def exact(self) -> bool:
        """Whether the libraries at hand are those of the build, so that its bytes must come out again."""
        ...

    def open(self, episode: str) -> AbstractContextManager[Episode]:
        """Raises EpisodeError when the episode cannot be read."""
        ...

    def inputs(self, episode: Episode, now: int) -> Sequence[bytes]:
        """Payloads of the sample's members, in order."""
        ...

    def latents(self, episode: Episode, now: int) -> NDArray[np.float16]:
        """Context and future, float16 [K+1, V, N, D]; zeros where a step is masked."""
        ...


@dataclass(frozen=True)
class Trial:
    """One experiment on the model. `passed` is False when something depended on what it may not (or, in a control,
    did not depend on what it must)."""

    rule: str
    what: str
    passed: bool


StudentTrial = Callable[[], Sequence[Trial]]
"""Runs the model's experiments on a batch of the build."""


@dataclass(frozen=True)
class PerturbOptions:
    """What level "perturb" needs in addition to level "source"."""

    rebuilder: Rebuilder
    student: StudentTrial
    seed: int
    share: float = 0.005
    least: int = 8


@dataclass(frozen=True)
class _Row:
    key: str
    episode: str
    now: int
    ends: tuple[int, ...]
    inputs_sha256: str


def check(build: ClaimedBuild, samples: int, options: PerturbOptions, report: Report) -> dict[str, int]:
    """Run all experiments. Returns the coverage."""
    rows = list(_rows(build, chosen_rows(samples, options.seed, options.share, options.least)))
    done = 0
    for row in rows:
        other = next((r.episode for r in rows if r.episode != row.episode), row.episode)
        try:
            with options.rebuilder.open(row.episode) as episode, options.rebuilder.open(other) as stranger:
                _Experiment(options.rebuilder, episode, row, report).run(frames_of(stranger))
                done += 1
        except EpisodeError as error:
            report.found("L7", CODE, f"cannot build the sample again: {error}", row.key)
    trials = options.student()
    for trial in trials:
        report.check(trial.rule)
        if not trial.passed:
            report.found(trial.rule, MODEL, trial.what)
    return {"samples_perturbed": done, "model_trials": len(trials)}


class _Experiment:
    """One sample, several copies of its episode."""

    def __init__(self, rebuilder: Rebuilder, episode: Episode, row: _Row, report: Report) -> None:
        self._rebuilder, self._episode, self._row, self._report = rebuilder, episode, row, report
        self._inputs = rebuilder.inputs(episode, row.now)
        self._latents = rebuilder.latents(episode, row.now)

    def run(self, stranger: Replacement) -> None:
        if self._rebuilder.exact:
            digest = hashlib.sha256(b"".join(self._inputs)).hexdigest()
            self._expect(
                "L1", digest == self._row.inputs_sha256, "the inputs, built again, are other bytes than stored"
            )
        for name, replace in (("noise", noise), ("black", black), ("another episode", stranger)):
            self._replace_after_now(name, replace)
        self._change_now()
        for step in range(1, len(self._row.ends)):
            self._replace_after_step(step)

    def _replace_after_now(self, name: str, replace: Replacement) -> None:
        copy = PerturbedEpisode(self._episode, self._row.now, replace)
        same = self._rebuilder.inputs(copy, self._row.now) == self._inputs
        self._expect("L1", same, f"the inputs change when all frames after now={self._row.now} are {name}")
        context = self._rebuilder.latents(copy, self._row.now)[0]
        same = np.array_equal(_bits(context), _bits(self._latents[0]))
        self._expect("L2", same, f"the context changes when all frames after now={self._row.now} are {name}")

    def _change_now(self) -> None:
        """Control: with noise from `now` on, every image must change."""
        copy = PerturbedEpisode(self._episode, self._row.now - 1, noise)
        images = zip(self._rebuilder.inputs(copy, self._row.now)[:-1], self._inputs[:-1], strict=True)
        changed = all(a != b for a, b in images)
        self._expect("L1", changed, f"control: an image does not change when frame now={self._row.now} does")

    def _replace_after_step(self, step: int) -> None:
        """Frames after the end of step k-1: steps before k stay, step k must change (where it exists)."""
        if self._row.ends[step] < 0:
            return
        last = self._row.ends[step - 1]
        found = self._rebuilder.latents(PerturbedEpisode(self._episode, last, noise), self._row.now)
        same = np.array_equal(_bits(found[:step]), _bits(self._latents[:step]))
        self._expect("L2", same, f"steps up to {step - 1} change when frames after {last} do")
        changed = not np.array_equal(_bits(found[step]), _bits(self._latents[step]))
        self._expect("L2", changed, f"control: step {step} does not change when frames after {last} do")

    def _expect(self, rule: str, true: bool, detail: str) -> None:
        self._report.check(rule)
        if not true:
            self._report.found(rule, CODE, detail, self._row.key)


def _bits(values: NDArray[np.float16]) -> NDArray[np.uint16]:
    return np.ascontiguousarray(values).view(np.uint16)


def _rows(build: ClaimedBuild, chosen: Sequence[int]) -> list[_Row]:
    wanted, at, result = set(chosen), 0, []
    for batch in batches(build, ("key", "episode", "now", "supports", "inputs_sha256")):
        for i in sorted(w - at for w in wanted if at <= w < at + batch.num_rows):
            row = batch.slice(i, 1).to_pylist()[0]
            ends = tuple(support[-1] if support else -1 for support in row["supports"])
            result.append(_Row(row["key"], row["episode"], row["now"], ends, row["inputs_sha256"]))
        at += batch.num_rows
    if len(result) != len(wanted):
        raise BuildError(f"{build.root}/samples.parquet: {len(wanted)} rows were chosen, {len(result)} found")
    return result
