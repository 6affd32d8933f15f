"""`vlajepa demo-libero-pretraining`: what a world model of other tasks is worth to a policy of a new one.

World models are pretrained on demonstrations of other tasks without their actions, and as controls with latent actions
of other samples, with the future of other samples, and by behaviour cloning in their place. From each of them, and from
scratch with as many steps in all, policies learn the new task from few demonstrations. A part that is complete is not
run again, and an interrupted one continues.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from jobs.demos.libero.demo_libero_pretraining_report import make_report
from jobs.demos.libero.names import SCRIPT
from jobs.demos.libero.parts import Part, building, collecting, evaluating, fine_tuning, pretraining, probing
from jobs.demos.libero.settings import DemoLiberoPretrainingConfig
from jobs.demos.libero.study import run_study
from jobs.demos.pretraining.conditions import Kind, Policy
from jobs.demos.pretraining.start import Start
from model.settings import HeadInput

OTHERS, NEW = "other-tasks", "new-task"
"""Names of demonstrations; of the others also of their build."""


def run(settings: DemoLiberoPretrainingConfig) -> Path:
    """The report."""
    settings = replace(settings, out=settings.out.resolve())  # the parts write it down
    return run_study(settings, list(parts(settings)), lambda: make_report(settings))


def parts(s: DemoLiberoPretrainingConfig) -> Iterator[Part]:
    """All that has to be done, in order: seed by seed, world models before policies."""
    yield collecting(s, OTHERS, s.other_tasks, s.pretraining_demonstrations)
    yield collecting(s, NEW, (s.new_task,), max(s.demonstrations))
    yield from building(s, OTHERS, OTHERS, len(s.other_tasks) * s.pretraining_demonstrations, first_frames=True)
    for count in sorted(s.demonstrations):
        yield from building(s, f"{NEW}-{count}", NEW, count, limit=count)
    yield evaluating(s, SCRIPT, SCRIPT, (s.new_task,))
    for seed in s.seeds:
        for start in Start:
            if start is not Start.SCRATCH:
                yield pretraining(s, start.world_model(seed), OTHERS, seed, start.words)
        yield probing(s, Start.PRETRAINED.world_model(seed), OTHERS)
        for count in sorted(s.demonstrations):
            for start in Start:
                yield from _policy(s, Policy(Kind(start, count, HeadInput.LATENT), seed))


def _policy(s: DemoLiberoPretrainingConfig, policy: Policy) -> Iterator[Part]:
    start, build = policy.kind.start, f"{NEW}-{policy.kind.demonstrations}"
    scratch = start is Start.SCRATCH
    steps = s.steps + (s.pretrain_steps if scratch else 0)
    world_model = None if scratch else start.world_model(policy.seed)
    yield fine_tuning(s, policy.name, build, policy.seed, world_model, steps)
    yield evaluating(s, policy.name, policy.name, (s.new_task,))
