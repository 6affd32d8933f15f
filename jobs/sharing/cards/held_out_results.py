"""Held-out numbers of a run on a card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.report.run_files import inner, number, read_run
from jobs.sharing.cards.markdown import code

_NUMBERS = {
    "model": "world-model loss (L1, teacher forced)",
    "nothing_changes": 'the same, had nothing changed ("nothing changes")',
    "action": "action loss",
}
_RATIOS = {"latent_action_reliance": "latent-action reliance", "image_reliance": "image reliance of the action loss"}


def results_section(run: Path) -> list[str]:
    """Lines of Markdown; none where the run has no held-out numbers.

    Raises:
        RunError: it is no run.
    """
    found = read_run(run).held_out
    if not found:
        return []
    what = "Of samples that the run did not train on, by build; intervals: 95 %, over episodes."
    lines = ["## Held-out results", what, ""]
    for build, numbers in found.items():
        lines += [f"- {code(build)}", *(f"  - {text}" for text in _texts(numbers))]
    return [*lines, ""]


def _texts(numbers: Mapping[str, Any]) -> Iterator[str]:
    for name, words in _NUMBERS.items():
        if (value := number(numbers.get(name))) is not None:
            yield f"{words}: {value:.4f}"
    for name, words in _RATIOS.items():
        for kind, found in inner(numbers, name).items():
            if isinstance(found, Mapping) and (text := _interval(inner(found, "all") or found)):
                yield f"{words}, {code(kind)}: {text}"
    if text := _interval(inner(numbers, "two_alternative")):
        yield f"share nearer to its own future than to its twin's (0.5 by chance): {text}"


def _interval(found: Mapping[str, Any]) -> str:
    value, low, high, pairs = (number(found.get(name)) for name in ("value", "low", "high", "pairs"))
    if value is None or low is None or high is None or pairs is None:
        return ""
    return f"{value:.3f} ({low:.3f} to {high:.3f}), {pairs:,.0f} pairs"
