"""`vlajepa demo-libero`: one policy for several tasks, told apart by instructions, and what its world model is worth.

Demonstrations -> shards -> audit -> world model without actions, beside true motion and the words alone -> policy ->
closed loop, beside the script, swapped instructions and, if asked for, perturbations. A part that is complete is not
run again, and an interrupted one continues.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from jobs.demos.libero.demo_libero_report import make_report
from jobs.demos.libero.names import SCRIPT, perturbed, policy, stand_in, swapped, world_model
from jobs.demos.libero.parts import (
    MOTION,
    STAND_IN,
    WORDS,
    Part,
    building,
    collecting,
    evaluating,
    fine_tuning,
    pretraining,
    probing,
)
from jobs.demos.libero.settings import DemoLiberoConfig
from jobs.demos.libero.study import run_study
from jobs.simulator.perturb.axes import AXES

DATA, FIRST, EVERY = "all", "first-frames", "every-frame"
"""Names of demonstrations and builds."""


def run(settings: DemoLiberoConfig) -> Path:
    """The report."""
    settings = replace(settings, out=settings.out.resolve())  # the parts write it down
    return run_study(settings, list(parts(settings)), lambda: make_report(settings))


def parts(s: DemoLiberoConfig) -> Iterator[Part]:
    """All that has to be done, in order."""
    episodes = len(s.tasks) * s.demonstrations
    yield collecting(s, DATA, s.tasks, s.demonstrations)
    yield from building(s, FIRST, DATA, episodes, first_frames=True)
    yield from building(s, EVERY, DATA, episodes)
    yield evaluating(s, SCRIPT, SCRIPT, s.tasks)
    for seed in s.seeds:
        yield pretraining(s, world_model(seed), FIRST, seed)
        yield probing(s, world_model(seed), DATA)
        for kind in (MOTION, WORDS):
            own = (f"model.predictor.steered_by={kind}", STAND_IN)
            yield pretraining(s, stand_in(kind, seed), FIRST, seed, own)
        name = policy(seed)
        yield fine_tuning(s, name, EVERY, seed, world_model(seed), s.steps)
        yield evaluating(s, name, name, s.tasks, videos=1)
        if len(s.tasks) > 1:
            yield evaluating(s, swapped(name), name, s.tasks, ("swap=true",), videos=1)
        for axis in AXES if s.perturb else ():
            own = (f"perturb={axis}", f"level={s.level}")
            yield evaluating(s, perturbed(name, axis, s.level), name, s.tasks, own)
