"""The report of `vlajepa demo-pretraining`. Every number is read from the files that its parts wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jobs.closed_loop.outcomes import rate_text, success_rate
from jobs.common.text import markdown_table
from jobs.demos.held_out_tables import interval
from jobs.demos.pretraining.commands import held_out
from jobs.demos.pretraining.conditions import Kind, Policy, kinds, world_models
from jobs.demos.pretraining.differences import Difference, difference
from jobs.demos.pretraining.result import PolicyResult, read_result, result_path
from jobs.demos.pretraining.settings import DemoPretrainingConfig
from jobs.demos.pretraining.start import Start
from jobs.latent_probes.probe_latents import PROBES_FILE

READING = (
    "Success: the named thing is the one nearest to the gripper when it closes, and the gripper then moves in the "
    "direction that was asked for. Who goes to any thing and then the right way has 33 %; the script has 100 %. "
    "A policy is asked once an episode, for the whole chunk, as episodes are as long as chunks. Intervals (95 %): of "
    "successes Wilson's, of differences a bootstrap over seeds and scenes; with one seed it is over scenes alone and "
    "says nothing of other seeds, and with two or three it is too narrow. R^2: of the named "
    "thing's place, from the latent actions."
)
Results = Mapping[int, PolicyResult]


@dataclass(frozen=True)
class Row:
    """A kind of policies: its results by seed, and differences to others of the same seeds; None where these are
    missing."""

    kind: Kind
    results: Results
    to_scratch: Difference | None
    to_shuffled: Difference | None


def make_rows(settings: DemoPretrainingConfig) -> list[Row]:
    """Of the kinds that have a result."""
    found = {kind: results for kind in kinds(settings) if (results := _results(settings, kind))}

    def against(kind: Kind, start: Start) -> Difference | None:
        others = found.get(Kind(start, kind.demonstrations, kind.reads), {})
        seeds = sorted(found[kind].keys() & others.keys())
        if start == kind.start or not seeds:
            return None
        own, less = (np.array([each[seed].successes for seed in seeds]) for each in (found[kind], others))
        return difference(own, less)

    return [Row(kind, found[kind], against(kind, Start.SCRATCH), against(kind, Start.SHUFFLED)) for kind in found]


def describe(settings: DemoPretrainingConfig, rows: list[Row]) -> str:
    """The tables, as Markdown."""
    missing = len(kinds(settings)) * len(settings.seeds) - sum(len(row.results) for row in rows)
    lines = [
        "# What a pretrained world model is worth to a policy of the sample world",
        "",
        *([f"**Not finished; policies that are missing: {missing}.**", ""] if missing else []),
        f"Pretraining: {settings.episodes:,} episodes without actions, {settings.pretrain_steps:,} steps. Policies: "
        f"{settings.steps:,} steps. {2 * settings.twins} held-out cases; seeds: {', '.join(map(str, settings.seeds))}.",
        "",
        markdown_table(
            (
                "head reads",
                "demonstrations",
                "start",
                "success, by seed",
                "all seeds",
                "to scratch, points",
                "to shuffled, points",
                "R^2 of place: x, y",
                "action loss",
            ),
            map(_cells, rows),
        ),
        "",
        READING,
        "",
        markdown_table(
            ("world model", "reliance", "two-alternative, %", "R^2 of place: x, y", "before training"),
            _world_models(settings),
        ),
    ]
    return "\n".join(lines) + "\n"


def as_json(settings: DemoPretrainingConfig, rows: list[Row]) -> dict[str, Any]:
    """The same numbers, for programs."""
    return {
        "cases": 2 * settings.twins,
        "policies": [
            {
                **asdict(row.kind),
                "seeds": {
                    str(seed): {**asdict(result), "successes": sum(result.successes)}
                    for seed, result in row.results.items()
                },
                "success": asdict(success_rate(*_totals(row.results))),
                "to_scratch": None if row.to_scratch is None else asdict(row.to_scratch),
                "to_shuffled": None if row.to_shuffled is None else asdict(row.to_shuffled),
            }
            for row in rows
        ],
    }


def _results(settings: DemoPretrainingConfig, kind: Kind) -> Results:
    read = {seed: read_result(result_path(settings, Policy(kind, seed))) for seed in settings.seeds}
    return {seed: result for seed, result in read.items() if result is not None}


def _totals(results: Results) -> tuple[int, int]:
    """Successes and cases."""
    return sum(sum(r.successes) for r in results.values()), sum(len(r.successes) for r in results.values())


def _cells(row: Row) -> tuple[str, ...]:
    results = list(row.results.values())
    return (
        row.kind.reads.value,
        str(row.kind.demonstrations),
        row.kind.start.value,
        ", ".join(str(sum(result.successes)) for result in results),
        rate_text(success_rate(*_totals(row.results))),
        "-" if row.to_scratch is None else row.to_scratch.text,
        "-" if row.to_shuffled is None else row.to_shuffled.text,
        "; ".join(f"{result.named_x:.2f}, {result.named_y:.2f}" for result in results),
        ", ".join(f"{result.action_loss:.3f}" for result in results),
    )


def _world_models(settings: DemoPretrainingConfig) -> Iterator[tuple[str, ...]]:
    for seed in settings.seeds:
        for start in world_models(settings):
            name = start.world_model(seed)
            path, probes = settings.out / held_out(name), settings.out / "runs" / name / PROBES_FILE
            if path.exists() and probes.exists():
                (numbers,) = json.loads(path.read_bytes()).values()
                place = [p for p in json.loads(probes.read_bytes()) if p["thing"] in ("named_x", "named_y")]
                yield (
                    name,
                    interval(numbers["latent_action_reliance"]["other_episode"]["all"]),
                    interval(numbers["two_alternative"], 100, ".1f"),
                    *(", ".join(f"{p[of]:.2f}" for p in place) for of in ("trained", "untrained")),
                )
