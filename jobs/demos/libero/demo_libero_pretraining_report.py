"""The report of `vlajepa demo-libero-pretraining`. Every number is read from the files that its parts wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jobs.closed_loop.outcomes import rate_text, total
from jobs.common.text import markdown_table
from jobs.demos.libero.demo_libero_report import successes
from jobs.demos.libero.names import SCRIPT
from jobs.demos.libero.outcomes import Evaluated, loss, place, read_evaluated, read_numbers, reliance
from jobs.demos.libero.settings import DemoLiberoPretrainingConfig
from jobs.demos.pretraining.conditions import Kind, Policy
from jobs.demos.pretraining.differences import difference
from jobs.demos.pretraining.start import Start
from model.settings import HeadInput

READING = (
    "Starts: scratch has as many steps in all as the others; shuffled and other_targets are world models that could "
    "learn nothing of what steers a sample; cloned learned the actions of the same samples, of which a world model "
    "knows nothing. The last column: successes of the pretrained policies less those of the row, the same seeds and "
    "start states. Intervals (95 %): of successes Wilson's, of differences a bootstrap over seeds and start states; "
    "with one seed it is over start states alone and says nothing of other seeds, with two or three it is too narrow."
)


def make_report(s: DemoLiberoPretrainingConfig) -> str:
    """What there is so far, as Markdown."""
    script = read_evaluated(s.out, SCRIPT)
    lines = [
        f"# {s.suite}: what pretraining on other tasks is worth to task {s.new_task}",
        "",
        f"World models: {s.pretraining_demonstrations} demonstrations of each of tasks "
        f"{', '.join(map(str, s.other_tasks))}, first frames without actions, {s.pretrain_steps:,} steps. Policies: "
        f"{s.steps:,} steps. Start states 0..{s.episodes - 1} of the benchmark. "
        f"The script: {'-' if script is None else rate_text(script.rate)}.",
        "",
        markdown_table(
            ("demonstrations", "start", "by seed", "all seeds", "action loss", "pretrained less this, points"), _rows(s)
        ),
        "",
        markdown_table(("world model", "L1", "nothing changes", "reliance", "R^2 x, y", "untrained"), _world_models(s)),
        "",
        READING,
    ]
    return "\n".join(lines) + "\n"


def _rows(s: DemoLiberoPretrainingConfig) -> Iterator[tuple[str, ...]]:
    for count in sorted(s.demonstrations):
        best = _found(s, count, Start.PRETRAINED)
        for start in Start:
            found = _found(s, count, start)
            if found:
                yield (
                    str(count),
                    start.value,
                    ", ".join(str(each.rate.successes) for each in found.values()),
                    rate_text(total({seed: each.rate for seed, each in found.items()})),
                    ", ".join(loss(read_numbers(s.out, _name(start, count, seed)), "action") for seed in found),
                    "-" if start is Start.PRETRAINED else _less(best, found),
                )


def _less(best: Mapping[int, Evaluated], other: Mapping[int, Evaluated]) -> str:
    seeds = sorted(best.keys() & other.keys())
    if not seeds:
        return "-"
    one, less = (successes([each[seed] for seed in seeds]) for each in (best, other))
    return difference(one, less, of_scene=1).text


def _found(s: DemoLiberoPretrainingConfig, count: int, start: Start) -> dict[int, Evaluated]:
    read = {seed: read_evaluated(s.out, _name(start, count, seed)) for seed in s.seeds}
    return {seed: each for seed, each in read.items() if each is not None}


def _name(start: Start, count: int, seed: int) -> str:
    return Policy(Kind(start, count, HeadInput.LATENT), seed).name


def _world_models(s: DemoLiberoPretrainingConfig) -> Iterator[tuple[str, ...]]:
    for seed in s.seeds:
        for start in Start:
            if start is not Start.SCRATCH:
                name = start.world_model(seed)
                numbers = read_numbers(s.out, name)
                losses = (loss(numbers, "model"), loss(numbers, "nothing_changes"))
                yield name, *losses, reliance(numbers), *place(s.out, name)
