"""What the parts of a study wrote: outcomes of evaluations, numbers of trainings, probes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.closed_loop.outcomes import Rate, success_rate
from jobs.demos.held_out_tables import interval
from jobs.demos.libero.parts import held_out, probes, results

NAMED = ("named_x", "named_y")
"""Of truth.jsonl: where the named thing stands."""


@dataclass(frozen=True)
class Evaluated:
    """An evaluation.

    successes  by task and start state, in their order
    swapped    swapped-instruction success as text; "" without swapped instructions
    tasks      index -> instruction
    """

    successes: Mapping[tuple[int, int], bool]
    swapped: str
    tasks: Mapping[int, str]

    @property
    def rate(self) -> Rate:
        """Of all episodes."""
        return success_rate(sum(self.successes.values()), len(self.successes))

    def of_task(self, task: int) -> Rate:
        """Of the episodes of one task."""
        found = [success for (own, _), success in self.successes.items() if own == task]
        return success_rate(sum(found), len(found))


def read_evaluated(out: Path, name: str) -> Evaluated | None:
    """None where there is no such evaluation yet."""
    content = _read(out / results(name))
    if content is None:
        return None
    played = sorted((one["task"], one["start"], bool(one["success"])) for one in content["episodes"])
    swapped = content["swapped_instruction_success"]
    tasks = {row["task"]: row["instruction"] for row in content["tasks"]}
    return Evaluated({(t, start): s for t, start, s in played}, "" if swapped is None else swapped["text"], tasks)


def read_numbers(out: Path, name: str) -> Mapping[str, Any] | None:
    """Held-out numbers of a training on one build; None where there are none yet, or nothing was held out."""
    content = _read(out / held_out(name)) or {}
    return next(iter(content.values()), None)


def reliance(numbers: Mapping[str, Any] | None) -> str:
    """Of the predictor on latent actions, those of another episode in their place; "-" where it is not known."""
    found = {} if numbers is None else numbers["latent_action_reliance"]
    return interval(found["other_episode"]["all"]) if "other_episode" in found else "-"


def loss(numbers: Mapping[str, Any] | None, name: str) -> str:
    """A held-out loss; "-" where it is not known."""
    return "-" if numbers is None or numbers[name] is None else f"{numbers[name]:.4f}"


def place(out: Path, name: str) -> tuple[str, str]:
    """R^2 of the named thing's x and y from a run's latent actions, and from those of the student before training."""
    content = _read(out / probes(name)) or []
    found = {probe["thing"]: probe for probe in content}
    if not found.keys() >= set(NAMED):
        return "-", "-"
    trained, untrained = (", ".join(f"{found[thing][of]:.2f}" for thing in NAMED) for of in ("trained", "untrained"))
    return trained, untrained


def _read(path: Path) -> Any:
    return json.loads(path.read_bytes()) if path.exists() else None
