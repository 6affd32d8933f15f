"""The report of `vlajepa demo-libero`. Every number is read from the files that its parts wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.closed_loop.outcomes import rate_text, success_rate
from jobs.common.text import markdown_table
from jobs.demos.libero.names import SCRIPT, perturbed, policy, stand_in, swapped, world_model
from jobs.demos.libero.outcomes import Evaluated, loss, place, read_evaluated, read_numbers, reliance
from jobs.demos.libero.parts import MOTION, WORDS
from jobs.demos.libero.settings import DemoLiberoConfig
from jobs.demos.pretraining.differences import difference
from jobs.simulator.perturb.axes import AXES

READING = (
    "Reliance: the loss with another episode's latent actions over that with the own ones; true motion is a ceiling, "
    "and the words alone say what the instruction gives without a picture. R^2 of place: where the named thing stands, "
    "from the latent actions of held-out demonstrations. With swapped instructions a policy that listens does not do "
    "the scene's task. Intervals (95 %): of successes Wilson's; of differences a bootstrap over start states and "
    "seeds, with one seed over start states alone."
)


def make_report(s: DemoLiberoConfig) -> str:
    """What there is so far, as Markdown."""
    lines = [
        f"# {s.suite}: one policy for {len(s.tasks)} tasks",
        "",
        f"{s.demonstrations} demonstrations a task; world models {s.pretrain_steps:,} steps on their first frames "
        f"without actions, policies {s.steps:,} steps from there. Start states 0..{s.episodes - 1} of the benchmark "
        f"for each task; demonstrations have others. Seeds: {', '.join(map(str, s.seeds))}.",
        "",
        markdown_table(("world model", "L1", "nothing changes", "reliance", "R^2 x, y", "untrained"), _world_models(s)),
        "",
        markdown_table(("in the closed loop", "successes", "swapped-instruction success"), _rates(s)),
        "",
        markdown_table(("task", "script", "policy", "other instruction"), _tasks(s)),
        "",
        *_perturbed(s),
        READING,
    ]
    return "\n".join(lines) + "\n"


def _world_models(s: DemoLiberoConfig) -> Iterator[tuple[str, ...]]:
    for seed in s.seeds:
        for name in (world_model(seed), *(stand_in(kind, seed) for kind in (MOTION, WORDS))):
            numbers = read_numbers(s.out, name)
            yield name, loss(numbers, "model"), loss(numbers, "nothing_changes"), reliance(numbers), *place(s.out, name)


def _rates(s: DemoLiberoConfig) -> Iterator[tuple[str, ...]]:
    for name in (SCRIPT, *(each for seed in s.seeds for each in (policy(seed), swapped(policy(seed))))):
        found = read_evaluated(s.out, name)
        if found is not None:
            yield name, rate_text(found.rate), found.swapped or "-"


def _tasks(s: DemoLiberoConfig) -> Iterator[tuple[str, ...]]:
    """All seeds together."""
    columns = [
        [found for name in names if (found := read_evaluated(s.out, name)) is not None]
        for names in ((SCRIPT,), *([name(seed) for seed in s.seeds] for name in (policy, _swapped_policy)))
    ]
    instructions = next((each[0].tasks for each in columns if each), {})
    for task in s.tasks:
        yield f"{task}: {instructions.get(task, '')}", *(_cell(column, task) for column in columns)


def _swapped_policy(seed: int) -> str:
    return swapped(policy(seed))


def _cell(column: Sequence[Evaluated], task: int) -> str:
    rates = [each.of_task(task) for each in column]
    found = success_rate(sum(rate.successes for rate in rates), sum(rate.episodes for rate in rates))
    return f"{found.successes}/{found.episodes}" if found.episodes else "-"


def _perturbed(s: DemoLiberoConfig) -> Iterator[str]:
    """Of the seeds that have both, each axis beside the unperturbed policy."""
    rows = [row for axis in AXES if (row := _axis(s, axis)) is not None]
    if rows:
        header = ("perturbed along", "successes", "unperturbed", "difference, points")
        yield from (f"Level {s.level}:", "", markdown_table(header, rows), "")


def _axis(s: DemoLiberoConfig, axis: str) -> tuple[str, ...] | None:
    pairs = [
        (changed, plain)
        for seed in s.seeds
        if (changed := read_evaluated(s.out, perturbed(policy(seed), axis, s.level))) is not None
        and (plain := read_evaluated(s.out, policy(seed))) is not None
    ]
    if not pairs:
        return None
    one, other = (successes([pair[i] for pair in pairs]) for i in range(2))
    rates = (rate_text(success_rate(int(each.sum()), each.size)) for each in (one, other))
    return axis, *rates, difference(one, other, of_scene=1).text


def successes(evaluated: Sequence[Evaluated]) -> NDArray[Any]:
    """bool [S, C], a row an evaluation."""
    return np.array([list(each.successes.values()) for each in evaluated], bool)
