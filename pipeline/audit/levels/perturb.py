"""Level "perturb": noninterference by experiment (rules L1 to L5).

For a random share of samples, the code that makes shards runs again in memory on copies of the episode whose later
frames are noise, black, or another episode's. What may not depend on them must stay equal to the bit, and equal to what
the build holds. Controls show that the experiment can fail: a changed `now` must change the inputs, a changed next
step must change its latents. The same is done to the model through its training code (`StudentTrial`).
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Any

from pipeline.audit.finding import Report
from pipeline.audit.levels.bench import Bench, Runner, named
from pipeline.audit.levels.options import Rebuilder
from pipeline.audit.rederive.perturbed_episode import PerturbedEpisode, Replacement, black, frames_of, noise
from pipeline.audit.samples import chosen_rows, rows_at, share_seed
from pipeline.errors import EpisodeError
from pipeline.format.episode import Episode

CODE = "the code that makes shards"
MODEL = "the model"


@dataclass(frozen=True)
class PerturbUnit:
    """A sample as a row of samples.parquet, and an episode whose frames replace later ones."""

    row: dict[str, Any]
    stranger: str


@dataclass(frozen=True)
class PerturbPart:
    """What the experiments on a sample say. done: its episodes could be read."""

    report: Report
    done: bool


def check(bench: Bench, samples: int, runner: Runner, report: Report) -> dict[str, int]:
    """Run all experiments. Returns the coverage."""
    build, options = bench.build, bench.deep
    chosen = chosen_rows(samples, share_seed(build.sha256, options.nonce), options.share, options.least)
    rows = rows_at(build, ("key", "episode", "now", "supports", "inputs_sha256"), chosen)
    done = 0
    for part in runner.map(perturb_sample, [PerturbUnit(row, _stranger(row, rows)) for row in rows]):
        report.merge(part.report)
        done += part.done
    trials = options.student()
    for trial in trials:
        report.check(trial.rule)
        if not trial.passed:
            report.found(trial.rule, MODEL, trial.what)
    return {"samples_perturbed": done, "model_trials": len(trials)}


def _stranger(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Another episode, if there is one."""
    return next((str(r["episode"]) for r in rows if r["episode"] != row["episode"]), str(row["episode"]))


def perturb_sample(bench: Bench, unit: PerturbUnit) -> PerturbPart:
    """The unit of this level."""
    report, rebuilder, row = Report(), bench.tools.rebuilder, unit.row
    with named(perturb_sample, "the raw data"):
        try:
            with rebuilder.open(row["episode"]) as episode, rebuilder.open(unit.stranger) as stranger:
                _Experiment(rebuilder, episode, row, report).run(frames_of(stranger))
        except EpisodeError as error:
            report.found("L7", CODE, f"cannot build the sample again: {error}", row["key"])
            return PerturbPart(report, False)
        return PerturbPart(report, True)


class _Experiment:
    """One sample, a row of samples.parquet, and several copies of its episode."""

    def __init__(self, rebuilder: Rebuilder, episode: Episode, row: dict[str, Any], report: Report) -> None:
        self._rebuilder, self._episode, self._row, self._report = rebuilder, episode, row, report
        self._now: int = row["now"]
        self._inputs, self._latents = rebuilder.inputs(episode, self._now), rebuilder.latents(episode, self._now)

    def run(self, stranger: Replacement) -> None:
        if self._rebuilder.exact:
            same = hashlib.sha256(b"".join(self._inputs)).digest() == self._row["inputs_sha256"]
            self._expect("L1", same, "the inputs, built again, are other bytes than stored")
        for name, replace in (("noise", noise), ("black", black), ("another episode", stranger)):
            self._replace_after_now(f"when all frames after now={self._now} are {name}", replace)
        self._change_now()
        ends = [support[-1] if support else None for support in self._row["supports"]]
        for step, (last, end) in enumerate(itertools.pairwise(ends), start=1):
            if end is not None:
                self._replace_after_step(step, -1 if last is None else last)

    def _replace_after_now(self, when: str, replace: Replacement) -> None:
        copy = PerturbedEpisode(self._episode, self._now, replace)
        self._expect("L1", self._rebuilder.inputs(copy, self._now) == self._inputs, f"the inputs change {when}")
        context = self._rebuilder.latents(copy, self._now)[0]
        self._expect("L2", context.tobytes() == self._latents[0].tobytes(), f"the context changes {when}")

    def _change_now(self) -> None:
        """Control: with noise from `now` on, every image must change."""
        copy = PerturbedEpisode(self._episode, self._now - 1, noise)
        images = zip(self._rebuilder.inputs(copy, self._now)[:-1], self._inputs[:-1], strict=True)
        changed = all(a != b for a, b in images)
        self._expect("L1", changed, f"control: an image does not change when frame now={self._now} does")

    def _replace_after_step(self, step: int, last: int) -> None:
        """Frames after `last`, the end of step k-1: steps before k stay, step k must change."""
        found = self._rebuilder.latents(PerturbedEpisode(self._episode, last, noise), self._now)
        same = found[:step].tobytes() == self._latents[:step].tobytes()
        self._expect("L2", same, f"steps up to {step - 1} change when frames after {last} do")
        changed = found[step].tobytes() != self._latents[step].tobytes()
        self._expect("L2", changed, f"control: step {step} does not change when frames after {last} do")

    def _expect(self, rule: str, true: bool, detail: str) -> None:
        self._report.check(rule)
        if not true:
            self._report.found(rule, CODE, detail, self._row["key"])
