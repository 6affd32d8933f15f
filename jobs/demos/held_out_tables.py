"""Held-out numbers of a run as Markdown tables, with what they can and cannot show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.common.text import markdown_table
from jobs.training.held_out.pairs import PairKind
from jobs.training.held_out.text import PAIRS, groups_word, value_text

READING = (
    "Reliance is the loss with another sample's latent actions (images) over the loss with the own ones: 1 says they "
    "are not used. It shows that the predictor listens, not that latent actions hold what the image shows; "
    "`vlajepa demo-steering` sets ceiling, floor, the words alone and probes beside it. Twins begin with the same "
    "picture and have different instructions: 50 % would be chance. Intervals: 95 %, over episodes or "
    "scenes; fewer than five have none."
)


COUNTS = ("pairs", "of")
"""Columns of how many pairs, and of how many episodes or scenes."""


def held_out_tables(held_out: Mapping[str, Any]) -> Iterator[str]:
    """Lines of two tables: losses, and what they depend on."""
    rows = [(name, *_losses(numbers)) for name, numbers in held_out.items()]
    yield markdown_table(("build", "model", "nothing changes", "below it", "action loss"), rows)
    yield ""
    measures = [(name, *row) for name, numbers in held_out.items() for row in measure_rows(numbers)]
    yield markdown_table(("build", "measure", "value (interval)", *COUNTS), measures)


def measure_rows(numbers: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Measure, value with its interval, and `COUNTS`."""
    for kind, words in PAIRS.items():
        if kind in numbers["latent_action_reliance"]:
            found = numbers["latent_action_reliance"][kind]["all"]
            yield f"latent-action reliance, {words}", interval(found), *_counts(found, kind)
    if numbers["two_alternative"] is not None:
        found = numbers["two_alternative"]
        counts = _counts(found, PairKind.SAME_SCENE)
        yield "nearer to its own future than to its twin's, %", interval(found, 100, ".1f"), *counts
    for kind, words in PAIRS.items():
        if kind in numbers["image_reliance"]:
            found = numbers["image_reliance"][kind]
            yield f"image reliance of the action loss, {words}", interval(found), *_counts(found, kind)


def interval(found: Mapping[str, Any], factor: float = 1, form: str = ".3f") -> str:
    """As in "1.655 (1.629-1.682)", see `value_text`."""
    return value_text(found["value"], found["low"], found["high"], factor, form)


def _counts(found: Mapping[str, Any], kind: PairKind) -> tuple[str, str]:
    return f"{found['pairs']:,}", f"{found['groups']:,} {groups_word(kind)}"


def _losses(numbers: Mapping[str, Any]) -> tuple[str, ...]:
    model, copied, action = (numbers[key] for key in ("model", "nothing_changes", "action"))
    gain = f"{1 - model / copied:.1%}"
    return f"{model:.4f}", f"{copied:.4f}", gain, "-" if action is None else f"{action:.4f}"
